"""HAProxy over time: gateways fall, epochs rise, admissions are released, renewed and shared; the bank's visitors go on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.edges import haproxyroom
from gateway.rules.keys import new_key_file
from gateway.rules.tokens import Keyring, subject_of
from tests.edges.edgefixture import TRUSTED, OpenEdge, admitted, edge_opener, kill_all
from tests.edges.hostile import cookie, opened, passed_a_gateway
from tests.web.gatewayfixture import (
    SHUT,
    OpenHouse,
    Visitor,
    house_opener,
    protecting,
    until,
    until_answer,
)
from tests.web.test_gate_tokens import ID, Forgery
from tests.web.wire import Peer

open_house = pytest.fixture(house_opener)
open_edge = pytest.fixture(edge_opener)


# --- when gateways fall ----------------------------------------------------------------------------------------------


async def test_with_every_gateway_dead_the_admitted_go_on_and_newcomers_see_a_page_that_tries_again(
    open_house: OpenHouse, open_edge: OpenEdge
) -> None:
    """Section 10, and promise 7 carried one step further: no admitted request fails, from before the death to after it."""
    room = protecting("dead", drain_rate=SHUT, burst=2)
    _, edge = await opened("haproxy", open_house, open_edge, room, gateways=2)
    inside = [admitted(edge, room.id) for _ in range(5)]
    old = admitted(edge, room.id, entered_at_s=int(time.time()) - 100, lease_s=room.session_s // 2 - 10)
    newcomer = edge.visitor()
    statuses: list[int] = []
    is_over = False

    async def go_on(visitor: Visitor) -> None:
        while not is_over:
            statuses.append((await visitor.get(f"/{room.id}/")).status)

    tasks = [asyncio.create_task(go_on(visitor)) for visitor in inside]
    await until(lambda: len(statuses) > 50)
    await kill_all(edge)
    enough = len(statuses) + 50
    await until(lambda: len(statuses) > enough)
    is_over = True
    await asyncio.gather(*tasks)
    assert set(statuses) == {200}
    assert (await old.get(f"/{room.id}/")).status == 200  # nobody can renew it; it is good until it ends
    page = await newcomer.open(f"/{room.id}/")
    assert (page.status, page.headers["Cache-Control"], page.headers["Retry-After"]) == (503, "no-store", "5")
    assert 'http-equiv="refresh"' in page.text
    assert "잠시만" in page.text
    told = await newcomer.get(f"/{room.id}/")
    assert (told.status, told.json["type"]) == (503, "unreachable")


async def test_one_dead_gateway_of_two_is_not_noticed(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Promise 11 through an edge: what failed to connect goes to the other, and newcomers are answered all the while."""
    room = protecting("half-dead", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room, gateways=2)
    assert (await edge.visitor().open(f"/{room.id}/")).status in {200, 429}
    await house.kill(house.gateways[0])
    for _ in range(30):
        assert (await edge.visitor().join(room)).status == 201


async def test_the_edge_verifies_by_both_keys_of_a_rotation(
    open_house: OpenHouse, open_edge: OpenEdge, tmp_path: Path
) -> None:
    """Section 7: the next key verifies before it signs; one is ES256, the other HS256, each with its own algorithm."""
    room = protecting("rotated", drain_rate=SHUT)
    next_key = new_key_file(tmp_path / "next.json", "HS256")
    house = await open_house(room, trusted_proxies=TRUSTED)
    tokens = replace(house.config.tokens, verify_key_files=(str(tmp_path / "next.json"),))
    house.config = replace(house.config, tokens=tokens)
    edge = await open_edge("haproxy", house)
    desk = house.gateway._desks[room.id]
    good, admission = desk.new_admission(ID, desk.now_s())
    ahead = Keyring(next_key).mint_admission(admission)
    forged = Forgery(good, admission, desk.keyring, Keyring(next_key))
    swapped = forged.signed_by_hash(next_key.private if isinstance(next_key.private, bytes) else b"")
    await kill_all(edge)
    statuses = [
        (await edge.visitor(Cookie=cookie(room, text)).get(f"/{room.id}/")).status for text in (good, ahead, swapped)
    ]
    assert statuses == [200, 200, 503]


# --- epochs and releases ---------------------------------------------------------------------------------------------


async def test_a_reset_reaches_the_edge_by_itself(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Section 10: the edge learns the epoch from gateways' answers, within a second or two and though nobody asks."""
    room = protecting("epoch", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    old = admitted(edge, room.id)
    assert (await old.get(f"/{room.id}/")).status == 200
    await house.post(room, "reset", {"admissions": False})
    await until(lambda: house.queue(room).memory.epoch == 2)
    await asyncio.sleep(0)
    assert (await old.get(f"/{room.id}/")).status == 200  # a new line, but those inside stay
    await house.post(room, "reset", {"admissions": True})
    began_s = time.monotonic()
    await until_answer(lambda: old.get(f"/{room.id}/"), lambda answer: answer.status == 429)
    assert time.monotonic() - began_s < 4
    young = admitted(edge, room.id)
    await kill_all(edge)
    assert (await old.get(f"/{room.id}/")).status == 503
    assert (await young.get(f"/{room.id}/")).status == 200


async def test_the_bank_releases_a_visitor_at_the_edge(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Section 8: Waitroom-Release ends the admission at once, takes its cookie, and no gateway is shown it again."""
    room = protecting("release", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    one, other = admitted(edge, room.id), admitted(edge, room.id)
    kept = dict(one.cookies)
    assert (await other.get(f"/{room.id}/")).status == 200
    house.bank.headers = {"Waitroom-Release": "1", "Waitroom-Remaining": "5", "Cache-Control": "public"}
    ended = await one.get(f"/{room.id}/done")
    assert (ended.status, ended.headers["Waitroom-Lease"]) == (200, "0")
    assert (ended.headers.getall("Cache-Control"), one.cookies) == (["private, no-store"], {})
    assert not {"Waitroom-Release", "Waitroom-Remaining"} & set(ended.headers)
    house.bank.reset()
    one.cookies = kept
    assert (await one.get(f"/{room.id}/")).status == 429
    assert house.bank.requests == []
    assert (await other.get(f"/{room.id}/")).status == 200
    again = admitted(edge, room.id, entered_at_s=int(time.time()) + 5)  # entered anew, after the release
    assert (await again.get(f"/{room.id}/")).status == 200
    await kill_all(edge)
    assert (await one.get(f"/{room.id}/")).status == 503


async def test_a_release_that_a_gateway_saw_reaches_the_edge(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """An answer through a gateway that ends the lease says so (`Waitroom-Lease: 0`): the edge refuses from then on."""
    room = protecting("seen", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    old = admitted(edge, room.id, lease_s=room.session_s // 2 - 5)  # past half-life: it goes through the gateway
    kept = dict(old.cookies)
    house.bank.headers = {"Waitroom-Release": "1"}
    assert (await old.get(f"/{room.id}/")).headers["Waitroom-Lease"] == "0"
    assert passed_a_gateway(house)
    await kill_all(edge)
    old.cookies = kept
    assert (await old.get(f"/{room.id}/")).status == 503


# --- renewing, entering, sharing -------------------------------------------------------------------------------------


async def test_past_half_life_a_gateway_renews(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Section 4, Lease: the visitor gets a fresh admission through the edge, and then passes by the edge alone."""
    room = protecting("renew", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    visitor = admitted(edge, room.id, lease_s=room.session_s // 2 - 5)
    old = dict(visitor.cookies)

    async def ask() -> Any:
        return await visitor.open(f"/{room.id}/")

    await until_answer(ask, lambda _: visitor.cookies != old)
    assert passed_a_gateway(house)
    assert (await visitor.open(f"/{room.id}/")).status == 200
    assert not passed_a_gateway(house)


async def test_what_cannot_be_renewed_needs_no_gateway(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Towards `session_max` there is nothing left to renew: sending such requests through gateways would be for nothing."""
    room = protecting("last", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    entered_at_s = int(time.time()) - room.session_max_s + 100
    assert (await admitted(edge, room.id, entered_at_s=entered_at_s).get(f"/{room.id}/")).status == 200
    assert not passed_a_gateway(house)


async def test_an_instant_entry_is_seen_once_by_a_gateway(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Section 4: its slot lapses unless the admission comes back once, and only a gateway can note that it did."""
    room = protecting("instant")
    house, edge = await opened("haproxy", open_house, open_edge, room)
    await house.idle(room)
    visitor = edge.visitor()
    assert (await visitor.open(f"/{room.id}/")).status == 200
    assert len(visitor.cookies) == 1
    assert (await visitor.get(f"/{room.id}/")).status == 200
    assert passed_a_gateway(house)
    assert (await visitor.get(f"/{room.id}/")).status == 200
    assert not passed_a_gateway(house)


async def test_one_admission_is_no_battering_ram(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """Section 4: at most 16 requests in flight; the seventeenth is told to wait."""
    room = protecting("ram", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    visitor, gate = admitted(edge, room.id), asyncio.Event()

    async def hang(_request: Any) -> web.StreamResponse:
        await gate.wait()
        return web.Response(text="late")

    house.bank.play = hang
    asked = [asyncio.create_task(visitor.get(f"/{room.id}/")) for _ in range(16)]
    await until(lambda: len(house.bank.requests) == 16)
    assert (await visitor.get(f"/{room.id}/")).status == 429
    gate.set()
    assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
    assert (await visitor.get(f"/{room.id}/")).status == 200


async def test_warm_connections_count_as_well(open_house: OpenHouse, open_edge: OpenEdge) -> None:
    """The same limit on the short way, where a connection has shown the admission before."""
    room = protecting("warm", drain_rate=SHUT)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    (text,) = admitted(edge, room.id).cookies.values()
    request = f"GET /{room.id}/ HTTP/1.1\r\nHost: bank.example\r\nCookie: {cookie(room, text)}\r\n\r\n".encode()
    peers = [Peer(*await asyncio.open_connection("127.0.0.1", edge.port)) for _ in range(17)]
    for peer in peers:
        await peer.send(request)
        assert (await peer.answer()).startswith(b"HTTP/1.1 200")
    gate = asyncio.Event()

    async def hang(_request: Any) -> web.StreamResponse:
        await gate.wait()
        return web.Response(text="late")

    house.bank.requests.clear()
    house.bank.play = hang
    for peer in peers[:16]:
        await peer.send(request)
    await until(lambda: len(house.bank.requests) == 16)
    await peers[16].send(request)
    assert (await peers[16].answer()).startswith(b"HTTP/1.1 429")
    gate.set()
    for peer in peers[:16]:
        assert (await peer.answer()).startswith(b"HTTP/1.1 200")
        peer.close()
    peers[16].close()


async def test_what_gateways_know_of_a_release_reaches_the_edge(
    open_house: OpenHouse, open_edge: OpenEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that was reported past the edge: each admission in use is shown to a gateway every minute (here: second)."""
    monkeypatch.setattr(haproxyroom, "MEET_S", 1)
    room = protecting("meet", drain_rate=SHUT, burst=2)
    house, edge = await opened("haproxy", open_house, open_edge, room)
    released, other = admitted(edge, room.id, identity=ID), admitted(edge, room.id)
    for visitor in (released, other):
        assert (await visitor.get(f"/{room.id}/")).status == 200
        assert not passed_a_gateway(house)
    await house.post(room, "reports", {"released": [subject_of(ID)]})
    await until_answer(lambda: released.get(f"/{room.id}/"), lambda answer: answer.status == 429, 5)
    ways: set[bool] = set()
    end_s = time.monotonic() + 8
    while len(ways) < 2:  # by the edge alone most of the time, by a gateway once a second
        assert time.monotonic() < end_s
        assert (await other.get(f"/{room.id}/")).status == 200
        ways.add(passed_a_gateway(house))
