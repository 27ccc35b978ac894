"""The express way: it says what the usual way says, and takes nothing for a request that is none."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiohttp import web

from gateway.model import Room
from gateway.web.listener import Limits, Listener
from gateway.web.sockets import bind
from tests.web.gatewayfixture import SHUT, House, OpenHouse, house_opener, protecting, until
from tests.web.wire import Peer

open_house = pytest.fixture(house_opener)


TOLD_ANEW = {"now", "poll_after_ms", "progress", "as_of", "waiting", "eta"}


def watched(house: House) -> list[bytes]:
    """The requests that the express way answered, from now on."""
    listener, answered = house.gateway._listeners[0], list[bytes]()
    express = listener.express

    def answer(data: bytes) -> bytes | None:
        found = express(data)
        if found is not None:
            answered.append(data)
        return found

    listener.express = answer
    return answered


async def waiting(open_house: OpenHouse, **server: object) -> tuple[House, Room, str]:
    """A house, and the ticket of somebody who waits and whom the board knows."""
    origins = server.pop("origins", ())
    room = protecting("express", drain_rate=SHUT, burst=2, origins=origins)
    house = await open_house(room, **server)
    visitors = [house.visitor() for _ in range(12)]
    for visitor in visitors:
        await visitor.join(room)
    await until(lambda: house.queue(room).board.knows(12, 1))
    (ticket,) = visitors[-1].cookies.values()
    return house, room, ticket


async def peer_of(house: House) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", house.gateway.ports[0]))


def poll(room: Room, ticket: str, more: bytes = b"") -> bytes:
    head = f"GET /_waitroom/{room.id}/status HTTP/1.1\r\nHost: bank.example\r\nWaitroom-Ticket: {ticket}\r\n"
    return head.encode() + more + b"\r\n"


async def never(_request: web.BaseRequest) -> web.StreamResponse:
    """A usual way that answers nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_poll_is_told_the_same_both_ways(open_house: OpenHouse) -> None:
    """Section 8: *status* has one meaning, however it was asked for."""
    house, room, ticket = await waiting(open_house)
    answered = watched(house)
    for headers in ({"Waitroom-Ticket": ticket}, {"Cookie": f"a=b; __Host-waitroom-ticket-{room.id}={ticket}; c=d"}):
        visitor = house.visitor()
        express = await visitor.get(f"/_waitroom/{room.id}/status", headers)
        usual = await visitor.get(f"/_waitroom/{room.id}/status?", headers)
        assert express.json.keys() == usual.json.keys()
        assert {k: v for k, v in express.json.items() if k not in TOLD_ANEW} == {
            k: v for k, v in usual.json.items() if k not in TOLD_ANEW
        }
        same = ("Content-Type", "Cache-Control", "Server")
        assert [express.headers[name] for name in same] == [usual.headers[name] for name in same]
    assert len(answered) == 2


async def test_before_the_opening_both_ways_tell_the_same_time(open_house: OpenHouse) -> None:
    """Section 6: the wait of a scheduled room begins when it opens."""
    room = protecting("express", opens_at_s=int(time.time()) + 600)
    house = await open_house(room)
    visitor = house.visitor()
    joined = await visitor.join(room)
    await until(lambda: house.queue(room).board is not None and house.queue(room).board.knows(1, 1))
    answered = watched(house)
    express, usual = await visitor.see(room), (await visitor.get(f"/_waitroom/{room.id}/status?")).json
    assert len(answered) == 1
    for place in (joined.json, express, usual):
        assert 590 <= place["eta"]["p50_s"] <= 602
        assert place["room_state"] == "scheduled"


async def test_board_and_page_are_the_same_both_ways(open_house: OpenHouse) -> None:
    """Section 8: public for a second, the same for everyone."""
    house, room, _ = await waiting(open_house)
    answered = watched(house)
    for path in ("", "board"):
        express = await house.visitor().get(f"/_waitroom/{room.id}/{path}")
        usual = await house.visitor().get(f"/_waitroom/{room.id}/{path}?")
        assert express.status == usual.status == 200
        changing = {"Date", "Content-Length"}
        assert {k: v for k, v in express.headers.items() if k not in changing} == {
            k: v for k, v in usual.headers.items() if k not in changing
        }
        assert express.body == usual.body or express.json.keys() == usual.json.keys()
    assert len(answered) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"GET ", b"HEAD "),
        lambda data: data.replace(b"/status ", b"/status?lang=ko "),
        lambda data: data.replace(b"\r\n\r\n", b"\r\nAccept: text/html\r\n\r\n"),
        lambda data: data.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
        lambda data: data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        lambda data: data.replace(b"HTTP/1.1", b"HTTP/1.0"),
        lambda data: b"\r\n" + data,
    ],
    ids=["HEAD", "query", "no-script page", "empty body", "close", "HTTP/1.0", "empty line"],
)
async def test_what_is_not_so_simple_goes_the_usual_way(
    open_house: OpenHouse, change: Callable[[bytes], bytes]
) -> None:
    """And is answered there, as ever."""
    house, room, ticket = await waiting(open_house)
    answered = watched(house)
    peer = await peer_of(house)
    await peer.send(change(poll(room, ticket)))
    assert b" 200 OK\r\n" in await peer.head()
    assert answered == []
    peer.close()


@pytest.mark.parametrize(
    "cookie",
    [
        "{admission}=x",
        "{ticket}=x",
        "{ticket} =x",
        "{ticket}={good}; {ticket} =x",
        "{ticket}={good}; {ticket}",
        "a={ticket}={good}",
        "{ticket}={good} ; b=c",
        "b=c;{ticket}={good}",
    ],
)
async def test_cookies_mean_the_same_both_ways(open_house: OpenHouse, cookie: str) -> None:
    """Section 7: what a neighbouring site may toss in counts, or does not count, alike; a header counts only without cookies."""
    house, room, ticket = await waiting(open_house)
    names = {"ticket": f"__Host-waitroom-ticket-{room.id}", "admission": f"__Host-waitroom-admission-{room.id}"}
    headers = {"Cookie": cookie.format(**names, good=ticket), "Waitroom-Ticket": ticket}
    express = await house.visitor().get(f"/_waitroom/{room.id}/status", headers)
    usual = await house.visitor().get(f"/_waitroom/{room.id}/status?", headers)
    assert express.status == usual.status
    assert express.json.get("state") == usual.json.get("state")


async def test_a_voided_ticket_is_not_told_from_an_older_board(open_house: OpenHouse) -> None:
    """Promise 13: once a newer epoch is proved here, an old ticket counts for nothing, whatever the board still says."""
    house, room, ticket = await waiting(open_house)
    queue = house.queue(room)
    queue.memory = replace(queue.memory, epoch=queue.memory.epoch + 1)
    got = await house.visitor().get(f"/_waitroom/{room.id}/status", {"Waitroom-Ticket": ticket})
    assert got.status == 404


async def test_heads_have_one_limit_both_ways(open_house: OpenHouse) -> None:
    """`header_bytes_max` holds whoever would answer."""
    house, room, ticket = await waiting(open_house, header_bytes_max=8192)
    headers = {"Waitroom-Ticket": ticket, "X-Long": "a" * 9000}
    assert (await house.visitor().get(f"/_waitroom/{room.id}/status", headers)).status == 431


async def test_two_tickets_are_none(open_house: OpenHouse) -> None:
    """Section 7: two cookies of our name count for nothing, wherever they stand."""
    house, room, ticket = await waiting(open_house)
    name = f"__Host-waitroom-ticket-{room.id}"
    for cookie in (f"{name}={ticket}; {name}={ticket}", f"{name}={ticket}; {name}=x", f"a=b {name}={ticket}"):
        got = await house.visitor().get(f"/_waitroom/{room.id}/status", {"Cookie": cookie})
        assert (got.status, got.json["type"]) == (404, "no-ticket"), cookie


async def test_one_connection_takes_both_ways_in_turn(open_house: OpenHouse) -> None:
    """A page joins and polls on one connection; a proxy before us mixes the requests of many."""
    house, room, ticket = await waiting(open_house)
    answered = watched(house)
    peer = await peer_of(house)
    join = f"POST /_waitroom/{room.id}/ticket HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 2\r\n"
    join += "Content-Type: application/json\r\n\r\n{}"
    for turn in range(1, 4):
        await peer.send(join.encode())
        assert b" 201 Created\r\n" in await peer.answer()
        await peer.send(poll(room, ticket))
        assert b'"state":"waiting"' in await peer.answer() + await peer.exactly(0)
        assert len(answered) == turn
    peer.close()


async def test_a_poll_in_pieces_and_two_at_once_are_answered(open_house: OpenHouse) -> None:
    """Whatever way the network cuts it, each request has its one answer, in order."""
    house, room, ticket = await waiting(open_house)
    peer = await peer_of(house)
    data = poll(room, ticket)
    for cut in (1, 20, len(data) - 3, len(data) - 1):
        await peer.send(data[:cut])
        await asyncio.sleep(0.01)
        await peer.send(data[cut:])
        assert b'"state":"waiting"' in await peer.answer()
    await peer.send(data + data)
    for _ in range(2):
        assert b'"state":"waiting"' in await peer.answer()
    await peer.send(data)
    assert b'"state":"waiting"' in await peer.answer()
    peer.close()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_that_looks_like_a_poll_is_a_body(open_house: OpenHouse, framing: str) -> None:
    """Promises 9 and 10: it reaches the upstream, byte for byte, and has one answer."""
    house, room, ticket = await waiting(open_house)
    answered = watched(house)
    body = poll(room, ticket)
    head = b"POST /open HTTP/1.1\r\nHost: bank.example\r\n"
    peer = await peer_of(house)
    if framing == "length":
        pieces = [head + b"Content-Length: %d\r\n\r\n" % (2 * len(body)), body, body]
    else:
        pieces = [head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n"]
    for piece in pieces:
        await peer.send(piece)
        await asyncio.sleep(0.02)
    assert (await peer.answer()).endswith(b"the bank")
    assert answered == []
    await peer.send(poll(room, ticket))
    assert b'"state":"waiting"' in await peer.answer()
    peer.close()


async def test_a_lame_duck_asks_to_connect_anew(open_house: OpenHouse) -> None:
    """Promise 11: from SIGTERM on, every answer ends its connection."""
    house, room, ticket = await waiting(open_house)
    house.gateway._listeners[0].begin_lame_duck()
    peer = await peer_of(house)
    await peer.send(poll(room, ticket))
    assert b"Connection: close\r\n" in await peer.head()
    await peer.rest()
    peer.close()


async def test_who_takes_no_answer_is_asked_no_more() -> None:
    """A client that sends on and never reads fills its own buffers, not ours."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000
    asked = 0

    def express(_data: bytes) -> bytes | None:
        nonlocal asked
        asked += 1
        return page

    listener = Listener(never, Limits(write_timeout_s=0.3), express)
    await listener.open(bind("127.0.0.1", 0))
    peer = Peer(*await asyncio.open_connection("127.0.0.1", listener.port, limit=1))
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(2_000):
        peer.writer.write(data)
        await asyncio.sleep(0)
    await until(lambda: listener.connections == 0)
    assert asked * len(page) < 20_000_000, "answers went on although nobody took them"
    peer.close()
    await listener.close(0)


async def test_polls_keep_a_connection_open_and_silence_ends_it() -> None:
    """The deadline of an idle connection counts from the last answer, whichever way it went."""
    listener = Listener(never, Limits(idle_timeout_s=0.4), lambda _data: b"HTTP/1.1 200 OK\r\n\r\n")
    await listener.open(bind("127.0.0.1", 0))
    peer = Peer(*await asyncio.open_connection("127.0.0.1", listener.port))
    for _ in range(8):
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await peer.head()
        await asyncio.sleep(0.1)
    assert listener.connections == 1
    assert await peer.rest() == b""
    peer.close()
    await listener.close(0)


async def test_what_origins_may_read_is_said_the_usual_way(open_house: OpenHouse) -> None:
    """Section 8: CORS for `origins` only; the answer to an origin names it."""
    house, room, ticket = await waiting(open_house, origins=("https://shop.example",))
    headers = {"Waitroom-Ticket": ticket, "Origin": "https://shop.example"}
    for path in ("status", "board", ""):
        got = await house.visitor().get(f"/_waitroom/{room.id}/{path}", headers)
        assert got.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def rush(port: int, *pieces: bytes) -> socket.socket:
    """A connection whose first bytes are there as soon as it is: both are done before the loop turns."""
    sock = socket.create_connection(("127.0.0.1", port))
    for piece in pieces:
        sock.sendall(piece)
    sock.setblocking(False)
    return sock


async def test_no_request_of_a_new_connection_overtakes_another() -> None:
    """Answers come in the order of the requests, also where aiohttp's task has not begun."""
    is_asked, may_answer = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def slowly(request: web.BaseRequest) -> web.StreamResponse:
        is_asked.set()
        await may_answer.wait()
        return web.Response(text=request.path[1:])

    def express(data: bytes) -> bytes | None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfast" if data.startswith(b"GET /fast ") else None

    listener = Listener(slowly, Limits(), express)
    await listener.open(bind("127.0.0.1", 0))
    fast, slow = (f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for name in ("fast", "slow"))
    sock = rush(listener.port, fast)
    assert (await asyncio.wait_for(loop.sock_recv(sock, 1000), 5)).endswith(b"fast")
    sock.close()
    sock, said = rush(listener.port, slow), b""
    await is_asked.wait()
    await loop.sock_sendall(sock, fast)
    await asyncio.sleep(0.05)  # time enough to do it wrong
    may_answer.set()
    while not said.endswith(b"fast"):
        said += await asyncio.wait_for(loop.sock_recv(sock, 1000), 5)
    assert said.index(b"slow") < said.index(b"fast")
    sock.close()
    await listener.close(0)


@pytest.mark.parametrize("first", [b"G", b"GET / HTTP/1.1\r\nHost: a"])
async def test_a_head_that_stops_has_its_deadline_from_the_first_byte(first: bytes) -> None:
    """Half a sentence does not keep a connection as long as rest after an answer does."""
    listener = Listener(never, Limits(head_timeout_s=0.3, idle_timeout_s=30.0), lambda _data: None)
    await listener.open(bind("127.0.0.1", 0))
    socks = [rush(listener.port, first) for _ in range(10)]
    await until(lambda: listener.connections == 10)
    await until(lambda: listener.connections == 0)
    for sock in socks:
        sock.close()
    await listener.close(0)
