"""nginx and Caddy for real: they ask a gateway for each request, and what it does not allow is answered by it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.model import Bypass
from gateway.rules.tokens import subject_of
from tests.edges.edgefixture import OpenEdge, admitted, assert_ours, edge_opener, kill_all
from tests.edges.hostile import HOSTILE, ODD, cookie, forgery_of, opened, passed_a_gateway, raw
from tests.web.gatewayfixture import SHUT, OpenHouse, house_opener, protecting, until_answer
from tests.web.test_gate_tokens import ID

open_house = pytest.fixture(house_opener)
open_edge = pytest.fixture(edge_opener)
pytestmark = pytest.mark.parametrize("kind", ["nginx", "caddy"])


async def test_an_admitted_visitor_passes_with_a_verdict(open_house: OpenHouse, open_edge: OpenEdge, kind: str) -> None:
    """Section 10: past the gateway, signed by it, and the bank sees nothing of ours but what the contract names."""
    room = protecting("asked", drain_rate=SHUT)
    house, edge = await opened(kind, open_house, open_edge, room)
    visitor = admitted(edge, room.id, identity=ID)
    visitor.cookies = {"before": "1", f"__Host-waitroom-ticket-{room.id}": "x"} | visitor.cookies | {"after": "2"}
    house.bank.headers = {"Waitroom-Remaining": "7", "Mine": "1"}
    forged = {
        "Waitroom-Subject": "me",
        "WAITROOM_ROOM": "x",
        "waitroom-Signature": "t=1,v1=00",
        "Waitroom-Release": "1",
    }
    answer = await visitor.ask("POST", f"/{room.id}/a?b=%2F..", forged, data=b"body")
    assert (answer.status, answer.body, answer.headers["Mine"]) == (200, b"the bank", "1")
    assert "Waitroom-Remaining" not in answer.headers
    method, target, headers = house.bank.requests[-1]
    assert (method, target, headers["Content-Length"]) == ("POST", f"/{room.id}/a?b=%2F..", "4")
    assert not passed_a_gateway(house)
    assert [pair.strip() for pair in headers["Cookie"].split(";")] == ["before=1", "after=2"]
    assert_ours(headers, room.id, ID)
    assert headers["X-Forwarded-Proto"] == "https"


async def test_no_hostile_token_passes(open_house: OpenHouse, open_edge: OpenEdge, kind: str, tmp_path: Path) -> None:
    """Promises 9 and 13: a bad token is a new visitor, held in place, and nothing reaches the bank."""
    room = protecting("hostile", drain_rate=SHUT, burst=2)
    house, edge = await opened(kind, open_house, open_edge, room)
    forgery = forgery_of(house, room, tmp_path)
    # Signed by our own key, these are good at a gateway, whatever sense they make.
    hostile = {name: make(forgery) for name, make in HOSTILE.items() if name not in OURS_TO_SIGN}
    good = forgery.good

    async def status(**headers: str) -> int:
        return (await edge.visitor(**headers).get(f"/{room.id}/")).status

    refused = {429, 400, 431, 494}
    passed = {name for name, bad in hostile.items() if await status(Cookie=cookie(room, bad)) not in refused}
    passed |= {
        f"{name} header" for name, bad in hostile.items() if await status(**{"Waitroom-Admission": bad}) not in refused
    }
    for sent in (
        f"{cookie(room, good)}; {cookie(room, good)}",
        f"{cookie(room, good)}; {cookie(room, hostile['changed'])}",
        f"{cookie(room, hostile['changed'])}; {cookie(room, good)}",
        cookie(room, good).upper().replace(good.upper(), good),
        cookie(room, good).removeprefix("__Host-"),
    ):
        if await status(Cookie=sent) != 429:
            passed.add(sent)
    assert passed == set()
    assert house.bank.requests == []
    assert await status(Cookie=f"a=1; {cookie(room, good)}; b=2") == 200


OURS_TO_SIGN = {"huge", "beyond-a-session", "eleven-digits", "wraps-round"}


@pytest.mark.parametrize("target", ODD)
async def test_an_odd_target_is_judged_by_a_gateway(
    open_house: OpenHouse, open_edge: OpenEdge, kind: str, target: str
) -> None:
    """Promise 9: a spelling that some backend may read as protected reaches the bank through a gateway, or not at all."""
    room = protecting("odd", drain_rate=SHUT, burst=2)
    house, edge = await opened(kind, open_house, open_edge, room)
    spelled = target.format(id=room.id, upper=room.id.upper(), hex=f"{ord(room.id[0]):x}{room.id[1:]}")
    said = await raw(edge.port, f"GET {spelled} HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    assert int(said.split()[1]) in {400, 404, 429}, said[:200]
    assert house.bank.requests == []


async def test_a_newcomer_is_held_in_place_and_walks_in(open_house: OpenHouse, open_edge: OpenEdge, kind: str) -> None:
    """Section 4, through the edge: the page in place, a place in line, called, let in; then past the gateway."""
    room = protecting("walk", paused=True)
    house, edge = await opened(kind, open_house, open_edge, room)
    await house.state("paused", room)
    visitor = edge.visitor()
    page = await visitor.open(f"/{room.id}/a")
    assert (page.status, page.headers["Waitroom-State"]) == (429, "waiting")
    assert (await visitor.ask("POST", f"/{room.id}/a", data=b"x" * 100_000)).json["type"] == "admission-required"
    await visitor.join(room)
    await house.patch(room, paused=False)
    assert (await visitor.enter(room)).status == 200
    assert (await visitor.open(f"/{room.id}/a")).status == 200
    assert not passed_a_gateway(house)


async def test_an_idle_room_lets_in_at_once_and_half_life_renews(
    open_house: OpenHouse, open_edge: OpenEdge, kind: str
) -> None:
    room = protecting("idle")
    house, edge = await opened(kind, open_house, open_edge, room)
    await house.idle(room)
    assert (await edge.visitor().open(f"/{room.id}/")).status == 200
    visitor = admitted(edge, room.id, lease_s=room.session_s // 2 - 5)
    old = dict(visitor.cookies)
    await until_answer(lambda: visitor.open(f"/{room.id}/"), lambda _: visitor.cookies != old)
    assert (await visitor.open(f"/{room.id}/")).status == 200
    assert not passed_a_gateway(house)


async def test_a_release_is_noticed_within_the_life_of_a_verdict(
    open_house: OpenHouse, open_edge: OpenEdge, kind: str
) -> None:
    """Behind an edge that asks, the bank reports releases (section 8, reports); a verdict counts for a second more."""
    room = protecting("release", drain_rate=SHUT, burst=2)
    house, edge = await opened(kind, open_house, open_edge, room)
    visitor = admitted(edge, room.id, identity=ID)
    assert (await visitor.get(f"/{room.id}/")).status == 200
    await house.post(room, "reports", {"released": [subject_of(ID)]})
    began_s = time.monotonic()
    await until_answer(lambda: visitor.get(f"/{room.id}/"), lambda answer: answer.status == 429)
    assert time.monotonic() - began_s < 3


async def test_a_verdict_is_one_visitors_alone(open_house: OpenHouse, open_edge: OpenEdge, kind: str) -> None:
    """Promise 9: while a verdict is remembered, whoever comes with other proof, or none, is asked about anew."""
    room = protecting("alone", drain_rate=SHUT, burst=2)
    house, edge = await opened(kind, open_house, open_edge, room)
    visitors = [admitted(edge, room.id) for _ in range(2)]
    for _ in range(3):
        subjects = set()
        for visitor in visitors:
            assert (await visitor.get(f"/{room.id}/")).status == 200
            subjects.add(house.bank.last["Waitroom-Subject"])
        assert len(subjects) == 2
        for stranger in (edge.visitor(), edge.visitor(Cookie="a=1"), edge.visitor(**{"Waitroom-Admission": "x"})):
            assert (await stranger.get(f"/{room.id}/")).status == 429


async def test_open_routes_and_bypass_rules(open_house: OpenHouse, open_edge: OpenEdge, kind: str) -> None:
    """What has no queue needs no gateway; a bypass rule holds for GET and HEAD alone."""
    room = protecting("open", drain_rate=SHUT, burst=2, bypass=())
    rules = (Bypass("files", path=f"/{room.id}/files/*"), Bypass("logo", path=f"/{room.id}/logo.png"))
    room = protecting("open", drain_rate=SHUT, burst=2, match=room.match, bypass=rules)
    house, edge = await opened(kind, open_house, open_edge, room)
    place = room.match[0].path.removesuffix("/*")
    visitor = edge.visitor(Cookie=f"mine=1; {cookie(room, 'x')}", **{"Waitroom-Subject": "me", "Waitroom_Room": "x"})
    for target in ("/balance?a=1", f"{place}/files/a.css", f"{place}/logo.png"):
        assert (await visitor.get(target)).status == 200, target
        assert (house.bank.last["Cookie"], passed_a_gateway(house)) == ("mine=1", False)
        assert not [name for name in house.bank.last if name.lower().startswith("waitroom")]
    house.bank.requests.clear()
    for method, target in (("POST", f"{place}/files/a.css"), ("GET", f"{place}/files"), ("GET", f"{place}/logo.pngx")):
        assert (await visitor.ask(method, target)).status == 429, (method, target)
    assert house.bank.requests == []


async def test_a_foreign_host_and_the_verdict_are_refused(
    open_house: OpenHouse, open_edge: OpenEdge, kind: str
) -> None:
    room = protecting("host", drain_rate=SHUT)
    house, edge = await opened(kind, open_house, open_edge, room)
    visitor = admitted(edge, room.id)
    for host, path in (("evil.example", "/balance"), ("bank.example", f"/_waitroom/auth?room={room.id}")):
        said = await raw(edge.port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        assert int(said.split()[1]) in {404, 421}, said[:300]
    assert "Waitroom-Signature" not in (await visitor.get(f"/_waitroom/auth/{room.id}/")).headers
    assert house.bank.requests == []


async def test_with_every_gateway_dead_people_see_a_page_that_tries_again(
    open_house: OpenHouse, open_edge: OpenEdge, kind: str
) -> None:
    """Section 10: an edge that asks lets nobody in without an answer; what is not protected goes on."""
    room = protecting("dead", drain_rate=SHUT, burst=2)
    _, edge = await opened(kind, open_house, open_edge, room)
    visitor = admitted(edge, room.id)
    await kill_all(edge)
    await asyncio.sleep(0)
    page = await until_answer(lambda: visitor.open(f"/{room.id}/"), lambda answer: answer.status != 200)
    assert (page.status, page.headers["Cache-Control"], page.headers["Retry-After"]) == (503, "no-store", "5")
    assert 'http-equiv="refresh"' in page.text
    assert "font:1.1rem" in page.text
    assert "text/html" in page.headers["Content-Type"]
    told = await edge.visitor().get(f"/{room.id}/")
    assert (told.status, told.json["type"]) == (503, "unreachable")
    assert (await edge.visitor().get("/balance")).status == 200
