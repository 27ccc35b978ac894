"""What people are told when there is too much of them: everything is held back, joins are shed, Redis has too much to do."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise

import pytest
import uvloop
from aiohttp import web

from gateway.queue import claims
from gateway.queue import room as queue_room
from gateway.web import turns
from gateway.web.listener import Limits, Listener
from gateway.web.sockets import bind
from tests.web.gatewayfixture import APP, SHUT, House, OpenHouse, house_opener, protecting, until
from tests.web.wire import DEADLINE_S, Peer

open_house = pytest.fixture(house_opener)
Connect = Callable[[House], Awaitable[Peer]]


@pytest.fixture
def hold_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a flood were always there: every request waits for its turn."""
    monkeypatch.setattr(turns, "TURN_MAX", 0)
    monkeypatch.setattr(turns, "AT_ONCE_MAX", 0)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connections to a house, which end with the test."""
    peers: list[Peer] = []

    async def connect(house: House) -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", house.gateway.ports[0])))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


def join(room: str, key: str, more: bytes = b"") -> bytes:
    body = json.dumps({"key": key}).encode()
    head = f"POST /_waitroom/{room}/ticket HTTP/1.1\r\nHost: bank.example\r\nWaitroom-Transport: header\r\n"
    return head.encode() + b"Content-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (more, len(body), body)


def shed(house: House, kind: str) -> float:
    families = {family.name: family for family in house.gateway.metrics.collect()}
    return next(one.value for one in families["waitroom_shed"].samples if one.labels == {"kind": kind})


# --- held back -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hold_all")
async def test_whatever_is_held_back_is_answered_as_ever(open_house: OpenHouse) -> None:
    """Promise 12: order is all that a flood changes: joining, polling, claiming, passing and going where nothing is protected."""
    room, shut = protecting("held"), protecting("shut", drain_rate=SHUT, burst=2)
    house = await open_house(room, shut)
    visitor = house.visitor()
    await visitor.enter(room)
    assert (await visitor.get(f"/{room.id}/")).status == 200
    for _ in range(6):
        last = house.visitor()
        assert (await last.join(shut)).status == 201
    assert (await last.see(shut))["state"] == "waiting"
    assert (await house.visitor().open(f"/{shut.id}/")).status == 429
    assert (await house.visitor().get("/free")).body == b"the bank"
    assert (await house.visitor().get("/free", {"Host": "other.example"})).status == 421
    listener = house.gateway._listeners[0]
    assert listener.turns is not None
    assert len(listener.turns) == 0


@pytest.mark.usefixtures("hold_all")
async def test_a_request_that_comes_in_pieces_is_put_together(
    open_house: OpenHouse, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10: a head or a body of several segments, held back at each, reaches whom it was for as it was sent."""
    room = protecting("pieces", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    peer = await connect(house)
    turns_of = house.gateway._listeners[0].turns
    assert turns_of is not None
    for number, cuts in enumerate([(20,), (-10,), (20, -10), (1, 2, 3)]):
        monkeypatch.setattr(turns, "SLICE_ALONE", 0)
        whole = join(room.id, f"{number:032}")
        places = [0, *(cut % len(whole) for cut in cuts), len(whole)]
        for start, end in pairwise(places):
            await peer.send(whole[start:end])
            await until(lambda: turns_of._bytes == end)  # noqa: B023
        monkeypatch.setattr(turns, "SLICE_ALONE", 1)
        assert b" 201 Created\r\n" in (await peer.answer())[:30]
    # More than one may have: it is not read any more until its turn has come, and then it is again.
    monkeypatch.setattr(turns, "SLICE_ALONE", 0)
    monkeypatch.setattr(turns, "ONE_BYTES_MAX", 1000)
    await peer.send(b"GET /free HTTP/1.1\r\nHost: bank.example\r\nX-Long: ")
    await until(lambda: turns_of._bytes > 0)
    await peer.send(b"a" * 2000)
    await until(lambda: turns_of._bytes > 2000)
    await peer.send(b"b" * 2000 + b"\r\n\r\n")
    monkeypatch.setattr(turns, "SLICE_ALONE", 1)
    assert (await peer.answer()).endswith(b"the bank")
    assert house.bank.last["X-Long"] == "a" * 2000 + "b" * 2000


@pytest.mark.usefixtures("hold_all")
async def test_pipelined_requests_are_all_answered_in_order(open_house: OpenHouse, connect: Connect) -> None:
    """Promise 10: what follows a request that is held back waits behind it."""
    house = await open_house(protecting("pipelined"))
    peer = await connect(house)
    await peer.send(b"".join(b"GET /free/%d HTTP/1.1\r\nHost: bank.example\r\n\r\n" % i for i in range(5)))
    for _ in range(5):
        assert (await peer.answer()).endswith(b"the bank")
    assert [path for _, path, _ in house.bank.requests] == [f"/free/{i}" for i in range(5)]


@pytest.mark.usefixtures("hold_all")
async def test_a_stop_answers_what_is_held_back(
    open_house: OpenHouse, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 11: a request that waits for its turn is in flight, not idle."""
    room = protecting("stop", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    monkeypatch.setattr(turns, "SLICE_ALONE", 0)
    peers = [await connect(house) for _ in range(20)]
    for number, peer in enumerate(peers):
        await peer.send(join(room.id, f"{number:032}"))
    listener = house.gateway._listeners[0]
    await until(lambda: len(listener.turns or ()) == 20)
    stopping = asyncio.ensure_future(listener.close(5.0))
    await asyncio.sleep(0.05)  # it looks for idle connections every 20 ms
    monkeypatch.setattr(turns, "SLICE_ALONE", 1)
    answers = await asyncio.gather(*(peer.answer() for peer in peers))
    assert {answer[9:12] for answer in answers} == {b"201"}
    await stopping


@pytest.mark.usefixtures("hold_all")
async def test_whoever_leaves_while_held_back_is_forgotten(
    open_house: OpenHouse, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of a connection that has gone, and nothing of it is asked."""
    house = await open_house(protecting("gone"))
    turns_of = house.gateway._listeners[0].turns
    assert turns_of is not None
    monkeypatch.setattr(turns, "SLICE_ALONE", 0)
    peers = [await connect(house) for _ in range(4)]
    for peer in peers:
        await peer.send(b"GET /free HTTP/1.1\r\nHost: bank.example\r\n\r\n")
    await until(lambda: len(turns_of) == 4)
    for peer in peers[:3]:
        peer.close()
    await until(lambda: len(turns_of) == 1)
    monkeypatch.setattr(turns, "SLICE_ALONE", 1)
    assert (await peers[3].answer()).endswith(b"the bank")
    assert len(house.bank.requests) == 1


# --- shed ------------------------------------------------------------------------------------------------------------


async def test_a_shed_join_is_told_what_the_usual_way_would_tell(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch, hold_all: None
) -> None:
    """Section 8: 503 `room-full` with Retry-After, from bytes made before; the connection goes on, and everybody else does."""
    room = protecting("shed", drain_rate=SHUT, burst=2, joins_per_s=1)
    house = await open_house(room)
    seated = house.visitor()
    assert (await seated.join(room)).status == 201
    usual = await house.visitor().join(room)
    monkeypatch.setattr(turns, "JOINS_MAX", 0)
    refused = await house.visitor().join(room)
    assert usual.status == refused.status == 503
    assert usual.json == refused.json
    assert refused.json["type"] == "room-full"
    assert int(refused.headers["Retry-After"]) >= 1
    differing = {"Date", "Content-Length"}
    assert {k: v for k, v in usual.headers.items() if k not in differing} == {
        k: v for k, v in refused.headers.items() if k not in differing
    }
    assert shed(house, "join") == 2
    # Whoever has a place, asks for a page or goes where nothing is protected is not shed.
    assert (await seated.join(room)).status == 200
    assert (await seated.see(room))["number"] == 1
    assert (await house.visitor().open(f"/{room.id}/")).status == 429
    assert (await house.visitor().get("/free")).status == 200
    assert shed(house, "join") == 2


@pytest.mark.usefixtures("hold_all")
async def test_a_connection_goes_on_only_after_a_join_that_surely_ended(
    open_house: OpenHouse, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: a body that nobody read is never taken for a request."""
    room = protecting("ends")
    house = await open_house(room)
    monkeypatch.setattr(turns, "JOINS_MAX", 0)
    peer = await connect(house)
    for _ in range(3):
        await peer.send(join(room.id, "k" * 32))
        assert (await peer.answer()).startswith(b"HTTP/1.1 503 ")
    inner = b"GET /free/smuggled HTTP/1.1\r\nHost: bank.example\r\n\r\n"
    chunked = join(room.id, "k" * 32).partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    await peer.send(chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner))
    assert (await peer.rest()).count(b"HTTP/1.1 ") == 1
    for odd in (join(room.id, "k" * 32)[:-1], join(room.id, "k" * 32) + inner, join(room.id, "k", b"Expect: x\r\n")):
        peer = await connect(house)
        await peer.send(odd)
        rest = await peer.rest()
        assert (rest.count(b"HTTP/1.1 "), rest.count(b"\r\nConnection: close\r\n")) == (1, 1)
    assert house.bank.requests == []


async def test_too_much_for_redis_sheds_joins_first_and_then_answers_polls_from_memory(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 4, overload: new joins, then polls from memory, never admitted traffic; Redis is not taken for lost."""
    room, quick = protecting("redis", drain_rate=SHUT, burst=2), protecting("quick")
    house = await open_house(room, quick)
    inside, called, waiting = house.visitor(), house.visitor(), house.visitor()
    await inside.enter(quick)
    await called.join(room)
    await until(lambda: house.queue(room).board.census.passed >= 1)
    assert (await called.see(room))["state"] == "called"
    await waiting.join(room)

    monkeypatch.setattr(queue_room, "NEWCOMERS_MAX", 0)
    refused = await house.visitor().join(room, headers=APP)
    assert (refused.status, refused.json["type"]) == (503, "room-full")
    assert (await called.see(room))["state"] == "called"
    assert (shed(house, "join"), shed(house, "poll")) == (1, 0)

    monkeypatch.setattr(queue_room, "PENDING_MAX", 0)
    place = await called.see(room)
    assert place["number"] == 1
    assert place["state"] in {"called", "waiting"}
    assert (await house.visitor().join(room)).status == 503
    assert (await inside.get(f"/{quick.id}/")).status == 200
    assert (shed(house, "join"), shed(house, "poll")) == (2, 1)
    assert house.queue(room).is_reachable

    monkeypatch.undo()
    assert (await called.see(room))["state"] == "called"
    assert (await house.visitor().join(room)).status == 201


async def test_every_kind_that_is_shed_is_counted_where_it_happens(
    open_house: OpenHouse, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 4, overload: `waitroom_shed_total` tells which limit was met."""
    room, shut = protecting("counted", max_in_flight=1), protecting("held", drain_rate=SHUT, burst=2)
    house = await open_house(room, shut)
    inside, called = house.visitor(), house.visitor()
    await inside.enter(room)
    go = asyncio.Event()

    async def wait(_request: web.BaseRequest) -> web.StreamResponse:
        await go.wait()
        return web.Response()

    house.bank.play = wait
    asked = [
        asyncio.ensure_future(inside.get(f"/{room.id}/")) for _ in range(3)
    ]  # one goes, one waits, one is told at once
    await until(lambda: shed(house, "room_in_flight") == 1)
    go.set()
    assert sorted(answer.status for answer in await asyncio.gather(*asked)) == [200, 200, 503]
    assert shed(house, "upstream_in_flight") == 0

    await called.join(shut)
    await until(lambda: house.queue(shut).board.census.passed >= 1)
    monkeypatch.setattr(claims, "HELD_MAX", 0)
    assert (await called.claim(shut)).status == 202
    assert shed(house, "claim") == 1

    listener = house.gateway._listeners[0]
    monkeypatch.setattr(listener, "limits", Limits(connections_max=listener.connections))
    assert (await (await connect(house)).rest()).startswith(b"HTTP/1.1 503 ")
    assert shed(house, "connection") == 1


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_a_head_that_begins_with_its_connection_has_no_longer_than_another() -> None:
    """Issue 4, overload: bytes that are there before the connection's task has begun are a head under way, too."""

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("no whole head came")

    async def cut() -> bytes:
        listener = Listener(never, Limits(head_timeout_s=0.2))
        await listener.open(bind("127.0.0.1", 0))
        with socket.create_connection(("127.0.0.1", listener.port)) as client:  # the kernel's work: no turn has passed
            client.sendall(b"GET / HT")
            client.setblocking(False)
            try:
                return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), DEADLINE_S)
            finally:
                await listener.close(0.1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(cut()) == b""
