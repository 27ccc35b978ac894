"""The verdict for edges: 200 exactly for who is admitted, 401 with a Location for everybody else, and nothing besides."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from urllib.parse import quote

import pytest

from gateway.model import Bypass, Room
from tests.web.gatewayfixture import NAVIGATION, House, OpenHouse, Visitor, house_opener, protecting, until

open_house = pytest.fixture(house_opener)
TRUSTED = {"trusted_proxies": ("127.0.0.1/32",)}
PROMISED = ("Waitroom-Subject", "Waitroom-Room", "Waitroom-Signature")


async def admitted(house: House, room: Room) -> Visitor:
    visitor = house.visitor()
    await visitor.enter(room, "k" * 22)
    return visitor


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_an_admission_is_allowed_with_every_promised_header(open_house: OpenHouse, method: str) -> None:
    """Section 8: exactly 200, signed, for any method, and no cookie is set."""
    room = protecting("auth")
    house = await open_house(room, upstream={"signing_key": b"s" * 32})
    visitor = await admitted(house, room)
    answer = await visitor.ask(method, f"/_waitroom/auth?room={room.id}")
    assert (answer.status, answer.body, answer.cookies) == (200, b"", [])
    assert answer.headers["Waitroom-Room"] == room.id
    stamp, mac = answer.headers["Waitroom-Signature"].removeprefix("t=").split(",v1=")
    text = f"{stamp}.{room.id}.{answer.headers['Waitroom-Subject']}"
    assert mac == hmac.new(b"s" * 32, text.encode(), hashlib.sha256).hexdigest()
    assert answer.headers["Cache-Control"] == "no-store"


async def test_who_is_not_admitted_is_sent_to_the_page_and_never_joined(open_house: OpenHouse) -> None:
    """Section 8: 401 + Location with the way back; an idle room lets nobody in by this call."""
    room = protecting("auth")
    house = await open_house(room, **TRUSTED)
    await house.idle(room)
    wanted = f"/{room.id}/offer?a=1&b=2"
    headers = NAVIGATION | {"X-Original-URI": wanted}
    answer = await house.visitor().get("/_waitroom/auth", headers)
    assert answer.status == 401
    assert answer.headers["Location"] == f"/_waitroom/{room.id}/?return_to={quote(wanted, safe='')}"
    assert not answer.cookies
    assert not [name for name in PROMISED if name == "Waitroom-Subject" and name in answer.headers]
    redirect = await house.visitor().get("/_waitroom/auth?mode=redirect", headers)
    assert (redirect.status, redirect.headers["Location"]) == (302, answer.headers["Location"])
    page = await house.visitor().get("/_waitroom/auth?mode=page", headers)
    assert page.status == 429
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Waitroom-State"] == "waiting"
    assert "data-posted" not in page.text
    posted = await house.visitor().get("/_waitroom/auth?mode=page", headers | {"X-Original-Method": "POST"})
    assert "data-posted" in posted.text
    await until(lambda: house.queue(room).board.census.version > 3)
    assert house.queue(room).board.census.next == 1
    assert house.queue(room).board.census.active == 0


async def test_the_room_is_found_by_the_host_and_path_that_a_trusted_edge_names(open_house: OpenHouse) -> None:
    """Section 8: X-Original-URI as nginx sends it, X-Forwarded-* as Caddy and Traefik do, or the path behind auth."""
    room = protecting("auth")
    house = await open_house(room, **TRUSTED)
    visitor = await admitted(house, room)
    ways = [
        ("/_waitroom/auth", {"X-Original-URI": f"/{room.id}/x?a=1"}),
        ("/_waitroom/auth", {"X-Forwarded-Uri": f"/{room.id}/x", "X-Forwarded-Host": "shop.example"}),
        ("/_waitroom/auth", {"X-Forwarded-Uri": f"/{room.id}/x", "X-Forwarded-Method": "POST"}),
        (f"/_waitroom/auth/{room.id}/x?room=none&mode=page", {}),
        (f"/_waitroom/auth/{room.id}/%2e%2e/{room.id}/x", {}),
    ]
    for target, headers in ways:
        allowed, denied = await visitor.get(target, headers), await house.visitor().get(target, headers)
        assert (allowed.status, denied.status) == (200, 401), target
        assert allowed.headers["Waitroom-Room"] == room.id
        assert denied.headers["Location"].startswith(f"/_waitroom/{room.id}/?return_to=")


async def test_what_is_not_protected_is_allowed_with_every_promised_header(open_house: OpenHouse) -> None:
    """Section 8: Caddy forwards a literal placeholder for one that is missing; bypass rules hold here as at the gate."""
    room = protecting("auth")
    free = Bypass("static", path=f"/{room.id}/static/*")
    house = await open_house(replace(room, bypass=(free,)), **TRUSTED)
    for headers in ({"X-Original-URI": "/free"}, {"X-Original-URI": f"/{room.id}/static/a.css"}):
        answer = await house.visitor().get("/_waitroom/auth", headers)
        assert answer.status == 200
        assert [answer.headers[name] for name in PROMISED] == ["-", "-", "-"]
        posted = await house.visitor().get("/_waitroom/auth", headers | {"X-Original-Method": "POST"})
        assert posted.status == (200 if headers["X-Original-URI"] == "/free" else 401)


async def test_only_a_trusted_edge_says_which_request_is_meant(open_house: OpenHouse) -> None:
    """Section 8: from anyone else the headers are the visitor's own, and count for nothing."""
    room = protecting("auth")
    house = await open_house(room)
    answer = await house.visitor().get("/_waitroom/auth", {"X-Original-URI": "/free", "X-Forwarded-Uri": "/free"})
    assert answer.status == 401
    spoofed = await house.visitor().get(f"/_waitroom/auth/{room.id}/", {"X-Original-URI": "/free"})
    assert spoofed.status == 401


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/_waitroom/auth", {"X-Original-URI": "/free", "X-Forwarded-Uri": "/{id}/x"}),
        ("/_waitroom/auth", {"X-Original-URI": "/{id}/x", "X-Forwarded-Uri": "/free"}),
        ("/_waitroom/auth/{id}/x?room=other", {}),
        ("/_waitroom/auth/{id}/x", {"X-Original-URI": "/free"}),
        ("/_waitroom/auth", {"X-Original-URI": "/free/..%2f{id}/x"}),
        ("/_waitroom/auth", {"X-Original-URI": "//{id}/x/..%5c..%5c{id}/x"}),
        ("/_waitroom/auth", {"X-Original-URI": "http://bank.example/{id}/x"}),
        ("/_waitroom/auth", {"X-Original-URI": "/{id}/x", "X-Forwarded-Host": "evil.example"}),
        ("/_waitroom/auth", {"X-Original-URI": "/_waitroom/x"}),
    ],
)
async def test_a_visitor_cannot_name_another_request_through_the_edge(
    open_house: OpenHouse, target: str, headers: dict[str, str]
) -> None:
    """Promise 9: edges hand on headers and queries of the visitor; who adds one to theirs is refused."""
    room, other = protecting("auth"), protecting("other")
    house = await open_house(room, other, **TRUSTED)
    visitor = await admitted(house, other)
    for name, value in list(headers.items()):
        headers = headers | {name: value.replace("{id}", room.id)}
    answer = await visitor.get(target.replace("{id}", room.id).replace("other", other.id), headers)
    assert answer.status == 401
    assert not answer.cookies


async def test_past_half_life_a_navigation_is_led_to_a_fresh_admission(open_house: OpenHouse) -> None:
    """Section 8: 401 + Location to renew, for navigations; other requests pass as long as it is valid."""
    room = protecting("auth", session_s=60)
    house = await open_house(room, **TRUSTED)
    visitor = await admitted(house, room)
    desk = house.gateway._desks[room.id]
    _, fresh = desk.new_admission(b"i" * 16, desk.now_s())
    now_s = desk.now_s()
    old = replace(fresh, issued_at_s=now_s - 40, entered_at_s=now_s - 40, expires_at_s=now_s + 20)
    visitor.cookies = {desk.admission_cookie: desk.keyring.mint_admission(old)}
    asked = {"X-Original-URI": f"/{room.id}/x?a=1"}
    sent = await visitor.get("/_waitroom/auth", asked | NAVIGATION)
    assert sent.status == 401
    assert sent.headers["Location"] == f"/_waitroom/{room.id}/renew?return_to={quote(f'/{room.id}/x?a=1', safe='')}"
    assert (await visitor.get("/_waitroom/auth", asked)).status == 200
    back = await visitor.get(sent.headers["Location"])
    assert (back.status, back.headers["Location"]) == (303, f"/{room.id}/x?a=1")
    assert (await visitor.get("/_waitroom/auth", asked | NAVIGATION)).status == 200
    late = replace(old, entered_at_s=now_s - room.session_max_s + 20)
    visitor.cookies = {desk.admission_cookie: desk.keyring.mint_admission(late)}
    assert (await visitor.get("/_waitroom/auth", asked | NAVIGATION)).status == 200, "nothing is left to renew"


async def test_a_released_admission_is_denied(open_house: OpenHouse) -> None:
    """Promise 13: by the report of a bank behind an edge."""
    room = protecting("auth")
    house = await open_house(room)
    visitor = await admitted(house, room)
    allowed = await visitor.get(f"/_waitroom/auth?room={room.id}")
    await house.post(room, "reports", {"released": [allowed.headers["Waitroom-Subject"]]})
    assert (await visitor.get(f"/_waitroom/auth?room={room.id}")).status == 401
    assert (await visitor.get("/_waitroom/auth?room=none")).status == 401
