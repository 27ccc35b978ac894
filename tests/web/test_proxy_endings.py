"""Requests behind which aiohttp's parser loses its way: trailers, upgrades that are not offered, versions that are not spoken."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web

from gateway.web.listener import Limits
from tests.web.conftest import OpenProxy
from tests.web.wire import HOST, OK, Bank, Peer, Proxy, until

CHUNKED = b"POST /first HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b"5\r\nhello\r\n0\r\n"
TRAILER = b"X-Evil: yes\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
OTHER = CHUNKED.replace(b"first", b"other") + BODY + b"\r\n"
CLOSE = b"\r\nConnection: close\r\n"


async def trailing(peer: Peer, bank: Bank) -> None:
    """An upstream that reads chunked requests to their end, with or without trailers."""
    while True:
        head = await peer.head()
        if b"chunked" in head:
            await peer.until(b"\r\n0\r\n\r\n")
        bank.requests.append(head)
        await peer.send(OK)


async def in_pieces(proxy: Proxy, data: bytes, cut: int) -> bytes:
    """Send it cut in two, and then another request; all that comes."""
    client = await proxy.client()
    await client.send(data[:cut])
    await asyncio.sleep(0.003)  # so that the pieces are two for the gateway, too
    await client.send(data[cut:])
    try:
        await client.until(b"\r\n\r\nok")
        await client.send(NEXT.replace(b"\r\n\r\n", CLOSE + b"\r\n"))
        return await client.rest()
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        client.close()


@pytest.mark.parametrize("behind", [b"", NEXT, OTHER], ids=["alone", "before-a-plain-one", "before-a-chunked-one"])
async def test_a_trailer_never_becomes_a_field_of_the_next_request(bank: Bank, proxy: Proxy, behind: bytes) -> None:
    """Promise 10: aiohttp's parser makes it one, for whoever comes next on a shared connection; however it was cut."""
    data = CHUNKED + BODY + TRAILER + behind
    for first in range(len(CHUNKED), len(data), 16):
        cuts = range(first, min(first + 16, len(data)))
        await asyncio.gather(*(in_pieces(proxy, data, cut) for cut in cuts))
    firsts = [request for request in bank.requests if b" /first " in request]
    assert len(firsts) == len(data) - len(CHUNKED)
    assert not [request for request in bank.requests if b"X-Evil" in request]


@pytest.mark.parametrize("behind", [b"", NEXT, OTHER], ids=["alone", "before-a-plain-one", "before-a-chunked-one"])
async def test_a_trailer_behind_a_declined_websocket_stays_where_it_is(bank: Bank, proxy: Proxy, behind: bytes) -> None:
    """Promise 10: what comes behind an upgrade is parsed later, by another way."""
    bank.part = lambda peer: trailing(peer, bank)
    upgrade = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    client = await proxy.client()
    await client.send(upgrade + CHUNKED + BODY + TRAILER + behind)
    await client.answer()
    assert CLOSE in await client.answer()
    await client.send(NEXT)
    assert await client.rest() == b""
    assert [request.split(b" ")[1] for request in bank.requests] == [b"/ws", b"/first"]


async def test_a_trailer_behind_a_body_that_is_held_back_stays_where_it_is(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 10: also when the parser has paused and goes on later, without new bytes."""
    proxy = await open_proxy(limits=Limits(read_buffer_bytes=4096))
    bank.part = lambda peer: trailing(peer, bank)
    body = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(64)) + b"0\r\n"
    await in_pieces(proxy, CHUNKED + body + TRAILER + NEXT, len(CHUNKED) + 70_000)
    assert [request for request in bank.requests if b" /first " in request]
    assert not [request for request in bank.requests if b"X-Evil" in request]


async def test_a_trailer_behind_an_early_answer_ends_the_connection(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: when the trailer comes the answer has gone, and nothing is read behind it."""

    async def part(peer: Peer) -> None:
        bank.requests.append(await peer.head())
        await peer.send(OK)
        await peer.rest()

    bank.part = part
    client = await proxy.client()
    await client.send(CHUNKED + b"5\r\nhel")
    assert CLOSE in await client.answer()
    await client.send(b"lo\r\n0\r\n" + TRAILER + NEXT)
    assert await client.rest() == b""
    assert len(bank.requests) == 1


async def test_a_trailer_behind_an_answer_that_did_not_wait_for_the_body_ends_the_connection(proxy: Proxy) -> None:
    """Promise 9: a request that is turned away keeps its connection, if nothing is left of it in the parser."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        assert "X-Evil" not in request.headers
        return web.Response(status=429)

    proxy.listener._handler = answer
    for trailer, paths in ((b"\r\n", ["/first", "/next"]), (TRAILER, ["/first"])):
        asked.clear()
        client = await proxy.client()
        await client.send(CHUNKED)
        await client.head()
        await client.send(BODY + trailer)
        await asyncio.sleep(0.01)
        await client.send(NEXT.replace(b"\r\n\r\n", CLOSE + b"\r\n"))
        await client.rest()
        assert asked == paths


async def test_the_client_is_told_that_a_trailer_ends_its_connection(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: with the answer, so that it asks on a new one; without a trailer the connection goes on."""
    client = await proxy.client()
    for _ in range(3):
        await client.send(CHUNKED + BODY + b"\r\n")
        assert await client.answer() == OK
    bank.part = lambda peer: trailing(peer, bank)
    await client.send(CHUNKED + BODY + TRAILER)
    assert CLOSE in await client.answer()
    assert await client.rest() == b""


async def test_what_follows_an_upgrade_that_is_not_offered_is_not_read(bank: Bank, proxy: Proxy) -> None:
    """Promise 9: aiohttp's parser drops what came with it, also half a request, whose rest it then takes for one."""
    data = b"GET /first HTTP/1.1\r\n" + HOST + H2C + b"\r\n" + NEXT
    for cut in range(len(data)):
        bank.requests.clear()
        client = await proxy.client()
        await client.send(data[:cut])
        await asyncio.sleep(0.002)
        await client.send(data[cut:])
        got = await client.rest()
        assert re.findall(rb"HTTP/1\.1 \d+", got) == [b"HTTP/1.1 200"], cut
        assert CLOSE in got
        assert [request.split(b" ")[1] for request in bank.requests] == [b"/first"]
        assert b"h2c" not in bank.requests[0]


@pytest.mark.parametrize("cut", [0, 40, -1, -4, -12])
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n" + BODY + b"\r\n"]
)
async def test_an_upgrade_that_is_not_offered_may_have_a_body(
    bank: Bank, proxy: Proxy, framing: bytes, cut: int
) -> None:
    """Promise 10: Java's client offers h2c with its first request, whatever that is."""
    client = await proxy.client()
    data = b"POST /first HTTP/1.1\r\n" + HOST + H2C + framing
    await client.send(data[:cut])
    await asyncio.sleep(0.01)
    await client.send(data[cut:])
    assert CLOSE in await client.answer()
    assert await client.rest() == b""
    assert b"hello" in bank.requests[0]
    await until(lambda: proxy.listener.connections == 0)


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b""])
async def test_versions_that_are_not_spoken_are_refused_in_one_that_is(proxy: Proxy, version: bytes) -> None:
    """Promise 9: aiohttp would answer HTTP/2.0 in HTTP/2.0."""
    got = await proxy.exchange(b"GET /" + version + b"\r\n" + HOST + b"\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", got)
    assert got.endswith(b"\r\n\r\n400 Bad Request\n")
    assert b"onnection: close" in got or got.startswith(b"HTTP/1.0 ")
