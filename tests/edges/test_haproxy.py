"""HAProxy for real: it lets admitted visitors through by itself, refuses what is forged, and stands when gateways fall."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.model import Bypass, Match
from gateway.rules.keys import new_key_file
from tests.edges.edgefixture import OpenEdge, admitted, assert_ours, edge_opener, kill_all
from tests.edges.hostile import HOSTILE, ODD, cookie, forgery_of, opened, passed_a_gateway, raw
from tests.web.gatewayfixture import (
    NAVIGATION,
    SHUT,
    Answer,
    OpenHouse,
    house_opener,
    protecting,
    until_answer,
)
from tests.web.test_gate_tokens import ID

open_house = pytest.fixture(house_opener)
open_edge = pytest.fixture(edge_opener)


async def test_an_admitted_visitor_passes_without_a_gateway(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Section 10: verified at the edge, signed there, and the bank sees nothing of ours but what the contract names."""
    room = protecting("native", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    visitor = admitted(edge, room.id, identity=ID)
    visitor.cookies |= {"before": "1", f"__Host-waitroom-ticket-{room.id}": "x", "after": "2"}
    for _ in range(3):  # the first is verified, the others are remembered
        answer = await visitor.ask("GET", f"/{room.id}/a?b=%2F..", {"Waitroom-Subject": "me", "WAITROOM_ROOM": "x"})
        assert (answer.status, answer.body) == (200, b"the bank")
        assert 1 <= int(answer.headers["Waitroom-Lease"]) <= room.session_s
        method, target, headers = house.bank.requests[-1]
        assert (method, target) == ("GET", f"/{room.id}/a?b=%2F..")
        assert not passed_a_gateway(house)
        assert headers.getall("Cookie") == ["before=1; after=2"]
        assert_ours(headers, room.id, ID)
        assert headers.getall("X-Forwarded-For") == ["127.0.0.1"]
        assert headers["X-Forwarded-Proto"] == "https"


async def test_large_cookies_fit(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """`header_bytes_max` holds at the edge, too: banks' cookies are large, and the short way keeps no copy of such."""
    room = protecting("large", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    visitor = admitted(edge, room.id)
    for _ in range(2):
        visitor.cookies["large"] = "x" * 7_000
        assert (await visitor.get(f"/{room.id}/")).status == 200
        assert house.bank.last["Cookie"] == f"large={'x' * 7_000}"
        assert not passed_a_gateway(house)
    visitor.cookies["large"] = "x" * 25_000
    assert "aiohttp" in (await visitor.get(f"/{room.id}/")).headers["Server"]  # the bank itself finds that too much


async def test_an_app_passes_with_its_header(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    room = protecting("app", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    (text,) = admitted(edge, room.id).cookies.values()
    assert (await edge.visitor(**{"Waitroom-Admission": text}).get(f"/{room.id}/")).status == 200
    assert not passed_a_gateway(house)
    assert "Waitroom-Admission" not in house.bank.last


@pytest.mark.parametrize("algorithm", ["ES256", "HS256"])
async def test_no_hostile_token_passes_the_edge_alone(
    open_house: OpenHouse, open_edge: OpenEdge, tmp_path: Path, algorithm: str
) -> None:
    """Promises 9 and 13, with every gateway dead: whatever passes, the edge itself has let through."""
    new_key_file(tmp_path / "signing.pem", algorithm)  # type: ignore[arg-type]
    room = protecting("hostile", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    forgery = forgery_of(house, room, tmp_path)
    secret = algorithm == "HS256"
    hostile = {
        name: make(forgery) for name, make in HOSTILE.items() if not (secret and name in {"confused", "own-key"})
    }
    good = forgery.good
    await kill_all(edge)

    async def status(**headers: str) -> int:
        return (await edge.visitor(**headers).get(f"/{room.id}/")).status

    assert await status(Cookie=cookie(room, good)) == 200
    passed = {name for name, bad in hostile.items() if await status(Cookie=cookie(room, bad)) != 503}
    passed |= {
        f"{name} in a header" for name, bad in hostile.items() if await status(**{"Waitroom-Admission": bad}) != 503
    }
    twice = {
        "good twice": f"{cookie(room, good)}; {cookie(room, good)}",
        "good, then bad": f"{cookie(room, good)}; {cookie(room, hostile['changed'])}",
        "bad, then good": f"{cookie(room, hostile['changed'])}; {cookie(room, good)}",
        "name in capitals": cookie(room, good).upper().replace(good.upper(), good),
        "without prefix": cookie(room, good).removeprefix("__Host-"),
    }
    passed |= {name for name, sent in twice.items() if await status(Cookie=sent) != 503}
    assert passed == set()
    assert await status(Cookie=f"a=1; {cookie(room, good)}; b=2") == 200
    ticket = f"__Host-waitroom-ticket-{room.id}=x"
    assert await status(Cookie=ticket, **{"Waitroom-Admission": good}) == 503  # a cookie of ours silences the header


# --- what an edge must not decide ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ODD)
async def test_an_odd_target_is_judged_by_a_gateway(open_house: OpenHouse, open_edge: OpenEdge, target: str) -> None:
    """Promise 9: a spelling that some backend may read as protected reaches the bank through a gateway, or not at all."""
    room = protecting("odd", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    spelled = target.format(id=room.id, upper=room.id.upper(), hex=f"{ord(room.id[0]):x}{room.id[1:]}")
    said = await raw(edge.port, f"GET {spelled} HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    assert int(said.split()[1]) in {400, 429}, said[:200]
    assert house.bank.requests == []
    for token in admitted(edge, room.id).cookies.values():
        head = f"GET {spelled} HTTP/1.1\r\nHost: bank.example\r\nCookie: {cookie(room, token)}\r\nConnection: close\r\n\r\n"
        await raw(edge.port, head)
    assert all("waitroom" in headers.get("Via", "") for _, _, headers in house.bank.requests)


@pytest.mark.parametrize(
    "host", ["BANK.example", "bank.example:8443", "bank.example.", "evil.example", "bank.example@evil", ""]
)
async def test_only_hosts_of_ours_are_served(open_house: OpenHouse, open_edge: OpenEdge, host: str) -> None:
    """One host in two spellings is one host; what is none of ours is the gateway's to refuse."""
    room = protecting("host", drain_rate=SHUT, match=(Match("/*", "bank.example"),), entry="/")
    house, edge = await opened("haproxy", open_house, open_edge, room)
    said = await raw(edge.port, f"GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert int(said.split()[1]) in {400, 421, 429}, said[:200]
    assert house.bank.requests == []


async def test_two_hosts_or_two_cookie_fields_are_no_case_for_the_edge(
    open_house: OpenHouse, open_edge: OpenEdge
) -> None:
    room = protecting("double", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    (text,) = admitted(edge, room.id).cookies.values()
    for fields in (
        f"Host: bank.example\r\nHost: shop.example\r\nCookie: {cookie(room, text)}",
        f"Host: bank.example\r\nCookie: {cookie(room, text)}\r\nCookie: {cookie(room, text)}",
    ):
        said = await raw(edge.port, f"GET /{room.id}/ HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n")
        assert int(said.split()[1]) in {400, 429}, said[:200]
    assert house.bank.requests == []
    fields = f"Host: bank.example\r\nCookie: a=1\r\nCookie: {cookie(room, text)}"
    said = await raw(edge.port, f"GET /{room.id}/ HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n")
    assert int(said.split()[1]) == 200
    assert (passed_a_gateway(house), house.bank.last["Cookie"]) == (True, "a=1")


async def test_open_routes_and_bypass_rules_need_no_gateway(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Promise 12's spirit at the edge: what has no queue goes on while every gateway is gone; POST has no bypass."""
    room = protecting("open", drain_rate=SHUT, burst=2)
    rules = (Bypass("files", path=f"/{room.id}/files/*"), Bypass("logo", path=f"/{room.id}/logo.png"))
    room = replace(room, bypass=rules)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    await kill_all(edge)
    visitor = edge.visitor(
        Cookie=f"mine=1; {cookie(room, 'x')}", **{"Waitroom-Subject": "me", "X-Forwarded-Proto": "gopher"}
    )
    for target in ("/balance?a=1", f"/{room.id}/files/a.css", f"/{room.id}/logo.png"):
        assert (await visitor.get(target)).status == 200, target
        assert (house.bank.last["Cookie"], house.bank.last.getall("X-Forwarded-Proto")) == ("mine=1", ["https"])
        assert not [name for name in house.bank.last if name.lower().startswith("waitroom")]
    before = len(house.bank.requests)
    for method, target in (
        ("POST", f"/{room.id}/files/a.css"),
        ("GET", f"/{room.id}/files"),
        ("GET", f"/{room.id}/logo.png/"),
        ("GET", f"/{room.id}/files/%2e%2e/a"),
    ):
        assert (await visitor.ask(method, target)).status == 503, (method, target)
    assert len(house.bank.requests) == before


# --- the crowd -------------------------------------------------------------------------------------------------------


async def test_the_board_and_the_page_are_cached_for_a_second_and_nothing_with_a_cookie(
    open_house: OpenHouse, open_edge: OpenEdge
) -> None:
    """Section 10: a crowd's public questions cost a gateway one answer a second, whatever return_to they carry."""
    room = protecting("cached", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)

    async def asked(kind: str) -> float:
        async with house.session.get(f"http://127.0.0.1:{house.gateway.ports[1]}/metrics") as answer:
            metrics = await answer.text()
        start = f'waitroom_request_seconds_count{{kind="{kind}"'
        return float(next(line for line in metrics.splitlines() if line.startswith(start)).rpartition(" ")[2])

    visitor = edge.visitor()
    await visitor.get(f"/_waitroom/{room.id}/")
    before = await asked("page")
    answers = [await visitor.get(f"/_waitroom/{room.id}/?return_to=/{room.id}/{number}") for number in range(40)]
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert await asked("page") - before <= 8
    before = await asked("board")
    boards = [await visitor.get(f"/_waitroom/{room.id}/board") for _ in range(40)]
    assert await asked("board") - before <= 8
    assert {(json.loads(answer.body)["room"], answer.headers["Cache-Control"]) for answer in boards} == {
        (room.id, "public, max-age=1")
    }
    numbers = {(await edge.visitor().join(room)).json["number"] for _ in range(5)}
    assert len(numbers) == 5
    first, second = edge.visitor(), edge.visitor()
    for one in (first, second):
        await one.join(room)
    assert first.cookies != second.cookies
    places = [(await one.see(room))["number"] for one in (first, second, first)]
    assert places[0] == places[2] != places[1]


async def test_the_edges_board_is_a_gateways_byte_for_byte_and_a_second_old(
    open_house: OpenHouse, open_edge: OpenEdge
) -> None:
    """Promise 8's board: it comes with the health checks, whole, whatever operators write, and ends with the gateways."""
    room = protecting("board", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    visitor, direct = edge.visitor(), house.visitor()
    text = "100 % \"quoted\" \\ {1} %[src] 잠시만 $HOME 'x'"
    await house.patch(room, message={"ko": text})
    await asyncio.gather(*(house.visitor().join(room) for _ in range(70)))
    target = f"/_waitroom/{room.id}/board"

    async def both() -> Answer:
        return await visitor.get(target)

    def is_new(answer: Answer) -> bool:
        document = answer.json
        return bool(document["message"]) and document["waiting"] >= 60

    new = (await until_answer(both, is_new, 5)).json
    assert new["message"]["texts"] == {"ko": text}
    assert set(new) == set((await direct.get(target)).json)
    age = datetime.now(UTC) - datetime.fromisoformat((await visitor.get(target)).json["as_of"])
    assert age.total_seconds() < 3
    await kill_all(edge)
    assert (await visitor.get(target)).status == 503


async def test_a_board_for_other_origins_is_theirs(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """CORS: the head depends on who asks, so it is cached by origin, or not at all."""
    room = protecting("origins", drain_rate=SHUT, burst=2, origins=("https://app.example",))
    _, edge = await opened("haproxy", open_house, open_edge, room)
    for _ in range(3):
        for origin, allowed in (("https://app.example", "https://app.example"), ("https://evil.example", None)):
            answer = await edge.visitor(Origin=origin).get(f"/_waitroom/{room.id}/board")
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            assert "Origin" in answer.headers["Vary"]


async def test_a_newcomer_walks_through_the_edge(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Section 4: held in place, seated, called, let in; from then on by the edge alone."""
    room = protecting("walk", paused=True)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    await house.state("paused", room)
    visitor = edge.visitor()
    page = await visitor.open(f"/{room.id}/a")
    assert (page.status, page.headers["Waitroom-State"]) == (429, "waiting")
    assert (await visitor.get(f"/{room.id}/a")).json["type"] == "admission-required"
    await visitor.join(room)
    assert (await visitor.see(room))["number"] == 1
    await house.patch(room, paused=False)
    assert (await visitor.enter(room)).status == 200
    assert (await visitor.ask("GET", f"/{room.id}/a", NAVIGATION)).status == 200
    assert not passed_a_gateway(house)


async def test_the_verdict_is_not_for_visitors(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Its answer bears a signature that upstreams trust: an edge keeps /_waitroom/auth to itself."""
    room = protecting("verdict", drain_rate=SHUT)
    _, edge = await opened("haproxy", open_house, open_edge, room)
    visitor = admitted(edge, room.id)
    for target in (f"/_waitroom/auth?room={room.id}", f"/_waitroom/auth/{room.id}/", "/_waitroom/%61uth?room=x"):
        answer = await visitor.get(target)
        assert answer.status in {400, 404}, target
        assert "Waitroom-Signature" not in answer.headers


async def test_a_connection_is_spared_nothing_that_changed(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """The short way of a connection holds for the very same Cookie in the same room, and for no other."""
    room, next_room = protecting("spared", drain_rate=SHUT, burst=2), protecting("spared", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room, next_room)
    (text,) = admitted(edge, room.id).cookies.values()
    await kill_all(edge)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)

    async def ask(target: str, sent: str) -> int:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: bank.example\r\nCookie: {sent}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        return int(head.split()[1])

    good, here = cookie(room, text), f"/{room.id}/"
    bad = good[:-5] + ("A" if good[-5] != "A" else "B") + good[-4:]
    seen = [await ask(here, sent) for sent in (good, good, bad, good, f"{good}; {good}", f"{good}; a=1", good)]
    assert seen == [200, 200, 503, 200, 503, 200, 200]
    assert [headers.get("Cookie") for _, _, headers in house.bank.requests] == [None, None, None, "a=1", None]
    assert await ask(f"/{next_room.id}/", good) == 503
    assert await ask(f"/{next_room.id}/", good.replace(room.id, next_room.id)) == 503
    assert await ask(here, good) == 200
    writer.close()
