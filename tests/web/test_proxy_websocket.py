"""Upgraded connections: bytes both ways, either side's close, silence, back-pressure, the lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from gateway.web import exchange, websocket
from gateway.web.pool import Link
from gateway.web.upstream import Plan
from tests.web.conftest import OpenProxy
from tests.web.wire import HOST, Bank, Peer, Proxy, until

UPGRADE = (
    b"GET /ws HTTP/1.1\r\n"
    + HOST
    + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


async def upgraded(proxy: Proxy) -> Peer:
    """A client whose connection is one of bytes from here on."""
    client = await proxy.client()
    await client.send(UPGRADE)
    await client.head()
    return client


async def switches(peer: Peer) -> None:
    """A bank that takes the upgrade and listens."""
    await peer.head()
    await peer.send(SWITCH)
    await peer.rest()


def stalls(go: asyncio.Event, reads: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
    """A bank that takes the upgrade and reads nothing until it is told to."""

    async def part(peer: Peer) -> None:
        await peer.head()
        await peer.send(SWITCH)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await reads(peer)

    return part


async def test_upgraded_bytes_flow_both_ways_untouched(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: bytes sent along with either head are not lost, and no frame is parsed or limited."""
    noise = bytes(range(256)) * 1000

    async def part(peer: Peer) -> None:
        bank.requests.append(await peer.head())
        await peer.send(SWITCH + b"early-bank")
        assert await peer.exactly(12) == b"early-client"
        assert await peer.exactly(len(noise)) == noise
        await peer.send(noise)
        await peer.rest()

    bank.part = part
    client = await proxy.client()
    await client.send(UPGRADE + b"early-client")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nConnection: Upgrade\r\n" in head
    assert b"\r\nUpgrade: websocket\r\n" in head
    assert b"\r\nSec-WebSocket-Accept: y\r\n" in head
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in bank.requests[0]
    assert await client.exactly(10) == b"early-bank"
    await client.send(noise)
    assert await client.exactly(len(noise)) == noise
    client.close()
    await until(lambda: bank.ended == 1)
    await until(lambda: proxy.upstreams.in_flight("bank") == 0)


async def test_close_of_either_side_reaches_the_other_with_its_last_bytes(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a close frame is not lost to the close."""
    last: list[bytes] = []

    async def part(peer: Peer) -> None:
        await peer.head()
        await peer.send(SWITCH)
        if len(bank.connections) == 1:
            await peer.send(b"bye")
        else:
            last.append(await peer.rest())

    bank.part = part
    first = await upgraded(proxy)
    assert await first.rest() == b"bye"
    second = await upgraded(proxy)
    await second.send(b"bye")
    second.writer.close()
    await until(lambda: last == [b"bye"])


async def test_bytes_under_way_survive_the_close(bank: Bank, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 10: what a client sent before it closed reaches an upstream that reads it later."""
    links: list[Link] = []
    tunnel = websocket.tunnel

    async def seen(request: web.BaseRequest, link: Link, idle_timeout_s: float) -> None:
        links.append(link)
        await tunnel(request, link, idle_timeout_s)

    monkeypatch.setattr(websocket, "tunnel", seen)
    go = asyncio.Event()
    got: list[int] = []

    async def reads(peer: Peer) -> None:
        got.append(len(await peer.rest()))

    bank.part = stalls(go, reads)
    client = await upgraded(proxy)
    sent = 0
    transport = links[0]._transport
    assert transport is not None
    while not transport.get_write_buffer_size():  # until the kernel takes no more and bytes wait in the gateway
        await client.send(b"x" * 20_000)
        sent += 20_000
        await asyncio.sleep(0.001)
    client.writer.close()
    await until(lambda: proxy.upstreams.in_flight("bank") == 0)
    go.set()
    await until(lambda: got == [sent])


@pytest.mark.parametrize("is_bank_talking", [False, True])
async def test_silent_websocket_ends_and_a_talking_one_does_not(
    open_proxy: OpenProxy, bank: Bank, is_bank_talking: bool
) -> None:
    """Promise 12: `idle_timeout` counts bytes of both sides."""
    proxy = await open_proxy(idle_timeout_s=0.3)

    bank.part = switches
    client = await upgraded(proxy)
    began = time.monotonic()
    while time.monotonic() < began + 0.6:
        await (bank.connections[0] if is_bank_talking else client).send(b"x")
        await asyncio.sleep(0.02)
    assert not client.reader.at_eof()
    assert (await client.rest()).strip(b"x") == b""
    assert 0.8 < time.monotonic() - began < 2


async def test_websocket_holds_its_place_and_touches_its_lease(
    bank: Bank, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: a lease does not lapse under an open connection."""
    monkeypatch.setattr(exchange, "ALIVE_S", 0.02)
    touches: list[float] = []
    proxy.plan = lambda _: Plan("bank", on_alive=lambda: touches.append(time.monotonic()))

    bank.part = switches
    client = await upgraded(proxy)
    await until(lambda: len(touches) >= 3)
    assert proxy.upstreams.in_flight("bank") == 1
    client.close()
    await until(lambda: proxy.upstreams.in_flight("bank") == 0)
    count = len(touches)
    await asyncio.sleep(0.1)
    assert len(touches) == count


async def test_websocket_reader_that_stalls_holds_the_writer_back(bank: Bank, proxy: Proxy) -> None:
    """Promise 12: back-pressure reaches the client through the tunnel, and lets go again."""
    go = asyncio.Event()
    total = 30_000_000
    counted = 0

    async def reads(peer: Peer) -> None:
        nonlocal counted
        while counted < total:
            counted += len(await peer.reader.read(2**20))

    bank.part = stalls(go, reads)
    client = await upgraded(proxy)
    client.writer.write(b"x" * total)
    transport = client.writer.transport
    await asyncio.sleep(0.3)
    assert transport.get_write_buffer_size() > total // 3
    go.set()
    await until(lambda: counted == total)
