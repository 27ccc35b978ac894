"""Tokens on their way: which cookies are set, with what, on which answers, and what the bank sees of them."""

from __future__ import annotations

import hashlib
import hmac
import time
from functools import partial

import pytest

from gateway.app import Gateway
from gateway.model import Room
from gateway.rules.tokens import subject_of
from tests.web.gatewayfixture import (
    APP,
    QUICK,
    SHUT,
    Answer,
    House,
    OpenHouse,
    house_opener,
    protecting,
    until,
    until_answer,
)

open_house = pytest.fixture(house_opener)
ATTRIBUTES = {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"}


def parts(cookie: str) -> tuple[str, str, set[str]]:
    """Name, value, attributes without Max-Age, which must be there."""
    pair, *attributes = cookie.split("; ")
    name, _, value = pair.partition("=")
    assert any(one.startswith("Max-Age=") for one in attributes), cookie
    return name, value, {one for one in attributes if not one.startswith("Max-Age=")}


async def test_cookies_are_bound_to_the_host_and_closed_to_script(open_house: OpenHouse) -> None:
    """Section 7: `__Host-`, HttpOnly, Secure, SameSite=Lax, Path=/, Max-Age to the token's end."""
    room = protecting("cookies")
    house = await open_house(room)
    visitor = house.visitor()
    joined = await visitor.join(room, "k" * 22)
    assert parts(joined.cookies[0])[::2] == (f"__Host-waitroom-ticket-{room.id}", ATTRIBUTES)
    assert f"Max-Age={2 * room.absence_max_s};" in joined.cookies[0]
    entered = await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200)
    admission, gone = entered.cookies
    assert parts(admission)[::2] == (f"__Host-waitroom-admission-{room.id}", ATTRIBUTES)
    assert f"Max-Age={room.session_s};" in admission
    assert parts(gone) == (f"__Host-waitroom-ticket-{room.id}", "", ATTRIBUTES)
    assert "Max-Age=0" in gone
    assert all(len(cookie) <= 800 + 150 for cookie in (*joined.cookies, admission))
    assert "ticket" not in entered.json
    assert "admission" not in entered.json


async def test_without_tls_the_cookies_have_no_host_prefix(open_house: OpenHouse) -> None:
    """Section 7: plain http, which needs --dev, drops the prefix and Secure; the https names then count for nothing."""
    room = protecting("dev")
    house = await open_house(room, https=False)
    visitor = house.visitor()
    joined = await visitor.join(room, "k" * 22)
    name, value, attributes = parts(joined.cookies[0])
    assert (name, attributes) == (f"waitroom-ticket-{room.id}", ATTRIBUTES - {"Secure"})
    assert (await visitor.see(room))["number"] == joined.json["number"]
    visitor.cookies = {f"__Host-{name}": value}
    assert (await visitor.get(f"/_waitroom/{room.id}/status")).status == 404


async def test_two_cookies_of_one_name_are_none(open_house: OpenHouse) -> None:
    """Section 7: a neighbouring host may have tossed one of them in, and nobody knows which."""
    room = protecting("twice")
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.enter(room, "k" * 22)
    name, value = next(iter(visitor.cookies.items()))
    for cookie in (f"{name}={value}; {name}={value}", f"{name}=x; {name}={value}"):
        twice = house.visitor(Cookie=cookie, Accept="application/json")
        assert (await twice.get(f"/{room.id}/")).status == 429, cookie
        assert (await twice.get(f"/_waitroom/{room.id}/status")).status == 404, cookie
    split = house.visitor(Cookie=f"a=1; {name}={value}; b=2")
    assert (await split.get(f"/{room.id}/")).status == 200


async def test_a_body_never_holds_a_token_when_our_cookies_came(open_house: OpenHouse) -> None:
    """Section 7: script on the page could read it there; the header transport is for who keeps no cookies."""
    room = protecting("body", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    app = house.visitor()
    joined = await app.join(room, "k" * 22, APP)
    assert not joined.cookies
    assert "ticket" in joined.json
    browser = house.visitor()
    await browser.join(room, "b" * 22)
    mixed = await browser.join(room, "b" * 22, APP)
    assert mixed.status == 200
    assert "ticket" not in mixed.json
    name, value = next(iter(browser.cookies.items()))
    cookies = [("Cookie", "a=1"), ("Cookie", f"{name}={value}x")]  # two fields, as HTTP/2 edges send them
    split = await house.visitor().ask("POST", f"/_waitroom/{room.id}/ticket", [*cookies, *APP.items()])
    assert "ticket" not in split.json, "a broken cookie of ours is one of ours, too"


async def test_an_answer_that_bears_a_cookie_of_ours_is_kept_by_no_cache(open_house: OpenHouse) -> None:
    """Section 7: `private, no-store` in place of what the bank said; a cookie of the bank's own stays."""
    room = protecting("cache")
    house = await open_house(room)
    await house.idle(room)
    house.bank.headers = {"Cache-Control": "public, max-age=600", "Set-Cookie": "bank=1"}
    visitor = house.visitor()
    first = await visitor.open(f"/{room.id}/")
    assert first.headers.getall("Cache-Control") == ["private, no-store"]
    assert first.cookies[0] == "bank=1"
    second = await visitor.open(f"/{room.id}/")
    assert second.headers.getall("Cache-Control") == ["public, max-age=600"]
    assert second.cookies == ["bank=1"]


@pytest.mark.parametrize("status", [206, 304])
async def test_partial_and_unchanged_answers_never_bear_a_cookie_of_ours(open_house: OpenHouse, status: int) -> None:
    """Section 7: never on 206 or 304, which complete what a cache already holds."""
    room = protecting("cache")
    house = await open_house(room)
    await house.idle(room)
    house.bank.status, house.bank.headers = (
        status,
        {"Cache-Control": "public, max-age=600", "Content-Range": "bytes 0-7/9"},
    )
    answer = await house.visitor().open(f"/{room.id}/")
    assert answer.status == status
    assert not answer.cookies
    assert answer.headers["Cache-Control"] == "public, max-age=600"


async def test_the_bank_sees_nothing_of_our_tokens_and_who_it_is(open_house: OpenHouse) -> None:
    """Section 8: cookies and headers of ours are cut out, spoofed ones replaced; its own cookies stay to the byte."""
    room = protecting("cut")
    house = await open_house(room, upstream={"signing_key": b"s" * 32})
    visitor = house.visitor()
    await visitor.enter(room, "k" * 22)
    spoofed = {
        "Waitroom-Subject": "me",
        "waitroom_signature": "t=1,v1=00",
        "Waitroom-Room": "other",
        "Waitroom-Ticket": "x",
        "Waitroom-Admission": "y",
        "Cookie": f"a=1; {'; '.join(f'{k}={v}' for k, v in visitor.cookies.items())}; waitroom-x=2; b= 3",
    }
    visitor.cookies = {}
    assert (await visitor.get(f"/{room.id}/", spoofed)).status == 200
    seen = house.bank.last
    ours = {name: value for name, value in seen.items() if name.lower().replace("_", "-").startswith("waitroom")}
    assert set(ours) == {"Waitroom-Subject", "Waitroom-Room", "Waitroom-Signature"}
    assert seen.getall("Cookie") == ["a=1; b= 3"]
    key_id = hashlib.sha256(f"{room.id}\0{'k' * 22}".encode()).digest()[:16]
    assert (ours["Waitroom-Subject"], ours["Waitroom-Room"]) == (subject_of(key_id), room.id)
    stamp, _, mac = ours["Waitroom-Signature"].partition(",v1=")
    assert abs(int(stamp.removeprefix("t=")) - time.time()) < 60
    text = f"{stamp.removeprefix('t=')}.{room.id}.{ours['Waitroom-Subject']}"
    assert hmac.compare_digest(mac, hmac.new(b"s" * 32, text.encode(), "sha256").hexdigest())


async def test_unprotected_routes_carry_no_word_of_ours(open_house: OpenHouse) -> None:
    """Section 8: spoofed subjects do not reach the bank by a route that is not protected, nor come from it."""
    room = protecting("cut")
    house = await open_house(room)
    house.bank.headers = {"Waitroom-Release": "1", "Waitroom-Remaining": "0", "Waitroom-Lease": "9"}
    answer = await house.visitor().get("/free", {"Waitroom-Subject": "me", "Waitroom-Signature": "x"})
    assert answer.status == 200
    assert not [name for name in house.bank.last if name.lower().startswith("waitroom")]
    assert not [name for name in answer.headers if name.lower().startswith("waitroom")]


# --- what the bank says of the lease and the stock --------------------------------------------------------------------


async def test_a_release_ends_the_admission_at_every_gateway_within_a_second(open_house: OpenHouse) -> None:
    """Section 8, promise 13: Waitroom-Release is cut out, the cookie dropped, the slot free, the admission refused."""
    room = protecting("release")
    house = await open_house(room, gateways=2)
    visitor = house.visitor()
    await visitor.enter(room, "k" * 22)
    replay = house.visitor(house.gateways[1], Accept="application/json")
    replay.cookies = dict(visitor.cookies)
    assert (await replay.get(f"/{room.id}/")).status == 200
    house.bank.headers = {"Waitroom-Release": "1"}
    done = await visitor.get(f"/{room.id}/done")
    released_s = time.monotonic()
    assert "Waitroom-Release" not in done.headers
    assert done.headers["Waitroom-Lease"] == "0"
    assert visitor.cookies == {}
    house.bank.headers = {}
    here = house.visitor(Accept="application/json")
    here.cookies = dict(replay.cookies)
    assert (await here.get(f"/{room.id}/")).status == 429
    await until_answer(lambda: replay.get(f"/{room.id}/"), lambda answer: answer.status == 429, 1.0)
    assert time.monotonic() - released_s < 1.0
    await until(lambda: house.queue(room).board.census.active == 0)


async def test_who_was_released_may_come_again_at_once(open_house: OpenHouse) -> None:
    """Promise 4: a new place of the same key gets an admission that the release before does not touch."""
    room = protecting("release", drain_rate=QUICK)
    house = await open_house(room)
    for _ in range(3):
        visitor = house.visitor(Accept="application/json")
        await visitor.enter(room, "k" * 22)
        house.bank.headers = {"Waitroom-Release": "1"}
        assert (await visitor.get(f"/{room.id}/")).status == 200
        house.bank.headers = {}
        await house.queue(room).flush_releases()
    await visitor.enter(room, "k" * 22)
    assert (await visitor.get(f"/{room.id}/")).status == 200


async def test_remaining_lowers_the_stock_and_every_answer_says_sold_out(open_house: OpenHouse) -> None:
    """Section 8, incident `special_deposit`: within 2 s, at every gateway; the header never reaches a client."""
    room = protecting("stock", stock=100)
    house = await open_house(room, gateways=2)
    visitor = house.visitor()
    await visitor.enter(room, "k" * 22)
    house.bank.headers = {"Waitroom-Remaining": "7"}
    answer = await visitor.get(f"/{room.id}/")
    assert "Waitroom-Remaining" not in answer.headers
    await until(lambda: all(house.queue(room, one).settings.stock == 7 for one in house.gateways), 2.0)
    house.bank.headers = {"Waitroom-Remaining": "9"}  # only an operator raises it
    await visitor.get(f"/{room.id}/")
    house.bank.headers = {"Waitroom-Remaining": "-1"}
    await visitor.get(f"/{room.id}/")
    house.bank.headers = {"Waitroom-Remaining": "0"}
    await visitor.get(f"/{room.id}/")
    for one in house.gateways:
        sold_out = await until_answer(
            partial(newcomer_joins, house, one, room), lambda answer: answer.status == 409, 2.0
        )
        assert sold_out.json["type"] == "sold-out"
    await house.state("sold_out", room)
    assert (await visitor.get(f"/_waitroom/{room.id}/board")).json["room_state"] == "sold_out"
    assert (await visitor.get(f"/{room.id}/")).status == 200


async def newcomer_joins(house: House, gateway: Gateway, room: Room) -> Answer:
    return await house.visitor(gateway).join(room)


async def test_the_bank_may_report_from_behind_an_edge(open_house: OpenHouse) -> None:
    """Section 8: POST .../reports does what the headers do."""
    room = protecting("reports", stock=50)
    house = await open_house(room)
    visitor = house.visitor(Accept="application/json")
    await visitor.enter(room, "k" * 22)
    await visitor.get(f"/{room.id}/")
    await house.post(room, "reports", {"remaining": 3, "released": [house.bank.last["Waitroom-Subject"]]})
    assert (await visitor.get(f"/{room.id}/")).status == 429
    await until(lambda: house.queue(room).settings.stock == 3)
