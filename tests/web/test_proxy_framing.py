"""What the port refuses before anyone acts on it, how long it waits, and how it opens and closes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import http_parser, web

from gateway.errors import StartError
from gateway.web.listener import Connection, Limits, Listener
from gateway.web.pool import Link
from gateway.web.smallbody import read_body
from gateway.web.sockets import bind
from tests.web.wire import OK, Bank, Peer, Proxy, is_reset, until

OpenProxy = Callable[..., Awaitable[Proxy]]
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: bank.example\r\n\r\n"
HOST = b"Host: bank.example\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity, chunked\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\x0bchunked\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551615\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9999999999999999999\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"0" * 5000 + b"5\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: WebSocket\r\nTransfer-Encoding: chunked\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + HOST,
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n",
        b"GET / HTTP/1.1\r\nHost: bank.example/x\r\n",
        b"GET / HTTP/1.1\r\nHost: u@bank.example\r\n",
        b"GET / HTTP/1.1\r\nHost: bank.example:port\r\n",
        b"GET / HTTP/2.0\r\n" + HOST,
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Folded: a\r\n b\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Nul: a\x00b\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Cr: a\rb\r\n",
        b"GET / HTTP/1.1\n" + HOST,
        b"GET /\xb0\xa1 HTTP/1.1\r\n" + HOST,
        b"GET /a b HTTP/1.1\r\n" + HOST,
    ],
)
async def test_ambiguous_heads_never_reach_the_upstream(open_proxy: OpenProxy, bank: Bank, head: bytes) -> None:
    """Promise 9: a 400, a closed connection, and no second request out of the first one's body."""
    proxy = await open_proxy(limits=Limits(linger_s=0.05))
    got = await proxy.exchange(head + b"\r\n0\r\n\r\n" + SMUGGLED)
    assert got.split(b" ")[1] == b"400"
    assert got.count(b"HTTP/1.") == 1
    assert got.endswith(b"\r\n\r\n400 Bad Request\n"), "an answer of ours quotes nothing and names no software"
    assert b"ython" not in got
    assert bank.requests == []


@pytest.mark.parametrize("body", [b"5\r\nabcdefgh\r\n0\r\n\r\n", b"x\r\nabc\r\n0\r\n\r\n", b"-1\r\na\r\n0\r\n\r\n"])
async def test_malformed_chunks_are_the_clients_fault(open_proxy: OpenProxy, body: bytes) -> None:
    """Promise 9: a body that breaks its framing gets a 400 and never counts against the upstream."""
    proxy = await open_proxy(limits=Limits(linger_s=0.05))
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    client = await proxy.client()
    await client.send(head + body + SMUGGLED)
    got = await client.rest()
    assert got.split(b" ")[1] == b"400"
    assert got.count(b"HTTP/1.") == 1


async def test_declined_upgrade_does_not_hide_a_request(bank: Bank, proxy: Proxy) -> None:
    """Promise 9: what follows an upgrade that the upstream declined is read as a request, and goes its own way."""
    upgrade = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    client = await proxy.client()
    await client.send(upgrade + SMUGGLED)
    assert await client.answer() == OK
    assert await client.answer() == OK
    assert [request.split(b" ")[1] for request in bank.requests] == [b"/ws", b"/smuggled"]


@pytest.mark.parametrize("size", [16_000, 31_000])
async def test_long_cookies_pass(bank: Bank, proxy: Proxy, size: int) -> None:
    """Promise 10: banks send cookies that are longer than aiohttp's default limit."""
    cookie = b"Cookie: a=" + b"x" * size
    bank.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=" + b"x" * size + b"\r\n\r\n"
    got = await proxy.exchange(b"GET / HTTP/1.1\r\n" + HOST + cookie + b"\r\nConnection: close\r\n\r\n")
    assert cookie in bank.requests[0]
    assert b"Set-Cookie: a=" + b"x" * size in got


@pytest.mark.parametrize(
    "lines", [b"X: " + b"x" * 40_000 + b"\r\n", b"".join(b"X-%d: %b\r\n" % (i, b"x" * 900) for i in range(50))]
)
async def test_heads_over_the_limit_get_431(bank: Bank, proxy: Proxy, lines: bytes) -> None:
    """Promise 12: a head costs a bounded amount of memory, in one field or in many."""
    got = await proxy.exchange(b"GET / HTTP/1.1\r\n" + HOST + lines + b"\r\n")
    assert got.split(b" ")[1] == b"431"
    assert bank.requests == []


async def test_head_that_trickles_in_is_closed(open_proxy: OpenProxy) -> None:
    """Promise 12: slow heads do not hold connections, however regularly a byte comes."""
    proxy = await open_proxy(limits=Limits(head_timeout_s=0.2))
    client = await proxy.client()
    began = time.monotonic()
    await client.send(b"GET / HTTP/1.1\r\n")
    while not client.reader.at_eof() and time.monotonic() < began + 2:
        try:
            client.writer.write(b"X")
            await asyncio.wait_for(client.reader.read(1), 0.02)
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert 0.15 < time.monotonic() - began < 1


async def test_idle_connection_is_closed_and_a_busy_one_is_not(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 12: keep-alive has an end; an answer that takes longer than that is none of its business."""
    proxy = await open_proxy(limits=Limits(idle_timeout_s=0.2))

    async def part(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.5)
        await peer.send(OK)

    bank.part = part
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert await client.answer() == OK
    assert await client.rest() == b""


@pytest.mark.parametrize("without", ["timer", "kernel"])
async def test_client_that_does_not_read_is_cut(
    open_proxy: OpenProxy, bank: Bank, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 12: an answer nobody takes is given up, and so is its place at the upstream; each deadline alone does it."""
    if without == "kernel":
        monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    else:
        monkeypatch.setattr(Connection, "pause_writing", web.RequestHandler.pause_writing)
    proxy = await open_proxy(limits=Limits(write_timeout_s=0.3))

    async def part(peer: Peer) -> None:
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        while True:
            await peer.send(b"x" * 65536)

    bank.part = part
    client = await proxy.client(limit=1024)
    await client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await until(lambda: proxy.upstreams.in_flight("bank") == 1)
    await until(lambda: proxy.upstreams.in_flight("bank") == 0 and proxy.listener.connections == 0)


async def test_connections_over_the_limit_are_told_so(open_proxy: OpenProxy) -> None:
    """Promise 12: the limit holds, and frees itself when a connection ends."""
    proxy = await open_proxy(limits=Limits(connections_max=2))
    first, second = await proxy.client(), await proxy.client()
    await until(lambda: proxy.listener.connections == 2)
    third = await proxy.client()
    assert (await third.rest()).startswith(b"HTTP/1.1 503 ")
    first.close()
    await until(lambda: proxy.listener.connections == 1)
    await second.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert await second.answer() == OK


async def test_port_in_use_is_said_in_a_sentence(proxy: Proxy) -> None:
    """Promise 14: a start that cannot work says which port and why."""
    with pytest.raises(StartError, match=f"port {proxy.listener.port} on 127.0.0.1 is in use"):
        bind("127.0.0.1", proxy.listener.port)
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:0"):
        bind("192.0.2.1", 0)


async def test_pure_python_parser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 9: its framing checks are not those that were probed."""
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    with pytest.raises(StartError, match="pure-Python parser"):
        Listener(answer)


async def test_close_waits_for_what_is_in_flight(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 11: a request that has begun is answered; an idle connection ends at once."""
    proxy = await open_proxy()
    go = asyncio.Event()

    async def part(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.send(OK)

    bank.part = part
    idle, busy = await proxy.client(), await proxy.client()
    await busy.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await until(lambda: proxy.upstreams.in_flight("bank") == 1)
    closing = asyncio.create_task(proxy.listener.close(5))
    assert await idle.rest() == b""
    assert not closing.done()
    go.set()
    assert (await busy.rest()).startswith(b"HTTP/1.1 200 OK\r\n")
    await closing


async def test_a_fault_of_ours_is_a_short_500(open_proxy: OpenProxy) -> None:
    """Promise 13: no traceback, no version, and the connection ends."""
    proxy = await open_proxy()

    async def fail(_: web.BaseRequest) -> web.StreamResponse:
        raise ZeroDivisionError

    proxy.listener._handler = fail
    got = await proxy.exchange(b"GET / HTTP/1.1\r\n" + HOST + b"Accept: text/html\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 500 ")
    assert got.endswith(b"\r\n\r\n500 Internal Server Error\n")
    assert b"ZeroDivision" not in got


async def test_a_fault_of_ours_inside_an_answer_cuts_it(
    bank: Bank, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10: no error page lands inside a body, and half of one does not end in order, as if it were all."""

    async def fail(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Link, "next_piece", fail)
    bank.part = _half_an_answer
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    await client.until(b"\r\n\r\nabc")
    assert await is_reset(client)


async def test_close_cuts_what_does_not_end_in_time(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a gateway that stops does not end half an answer in order."""
    bank.part = _half_an_answer
    client = await proxy.client()
    await client.send(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    await client.until(b"\r\n\r\nabc")
    await proxy.listener.close(0.05)
    assert await is_reset(client)


async def _half_an_answer(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await peer.rest()


@pytest.mark.parametrize(("sent", "read"), [(b"abc", b"abc"), (b"abcdef", None), (b"ab", None)])
async def test_small_bodies_are_read_whole_or_not_at_all(
    open_proxy: OpenProxy, sent: bytes, read: bytes | None
) -> None:
    """Promise 12: too long or too slow is one answer: None."""
    proxy = await open_proxy(limits=Limits(linger_s=0.05))
    bodies: list[bytes | None] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        bodies.append(await read_body(request, 5, timeout_s=0.1))
        return web.Response()

    proxy.listener._handler = answer
    length = max(len(sent), 3)
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length + sent)
    await client.head()
    assert bodies == [read]


async def test_socket_from_a_parent_is_served() -> None:
    """Promise 11: rolling restarts pass the listening socket on."""
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hi")

    listener = Listener(answer)
    await listener.open(sock)
    assert listener.port == port
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    await peer.send(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert (await peer.rest()).endswith(b"\r\n\r\nhi")
    peer.close()
    await listener.close(1)
