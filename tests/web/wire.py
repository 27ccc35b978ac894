"""Raw sockets for tests that must see every byte: a client, a bank that records and plays a part, a proxy between."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from gateway.model import Upstream
from gateway.web.listener import Limits, Listener
from gateway.web.sockets import bind
from gateway.web.upstream import Plan, Upstreams

DEADLINE_S = 5.0
HOST = b"Host: bank.example\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """One end of a connection, with a deadline on everything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), DEADLINE_S)

    async def until(self, marker: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(marker), DEADLINE_S)

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), DEADLINE_S)

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Everything up to the end; a reset is an end, too."""
        got = b""
        try:
            while data := await asyncio.wait_for(self.reader.read(65536), DEADLINE_S):
                got += data
        except ConnectionError:
            pass
        return got

    async def request(self) -> bytes:
        """One whole request, head and body, as it came."""
        head = await self.head()
        if re.search(rb"(?im)^transfer-encoding: chunked\r$", head):
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += await self.until(b"\r\n")
            return head + body
        length = re.search(rb"(?im)^content-length: (\d+)\r$", head)
        return head + (await self.exactly(int(length[1])) if length else b"")

    async def answer(self) -> bytes:
        """One whole answer that has a Content-Length."""
        return await self.request()

    def close(self) -> None:
        with contextlib.suppress(AttributeError):  # Python 3.11 cannot abort a transport that has ended
            self.writer.transport.abort()


Part = Callable[[Peer], Awaitable[None]]


class Bank:
    """An upstream of raw bytes: records each request and answers `answer`, or plays `part` on each connection."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections: list[Peer] = []
        self.ended = 0
        self.answer = OK
        self.part: Part = self.serve
        self.fault: BaseException | None = None
        self._server: asyncio.Server | None = None

    async def open(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=2**20, ssl=tls)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.connections.append(peer)
        try:
            await self.part(peer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as fault:
            self.fault = fault
        finally:
            self.ended += 1
            writer.close()

    async def serve(self, peer: Peer) -> None:
        while True:
            self.requests.append(await peer.request())
            await peer.send(self.answer)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for peer in self.connections:
                peer.close()
            await self._server.wait_closed()
            await until(lambda: self.ended == len(self.connections))


@dataclass
class Seen:
    """An observer that remembers."""

    kinds: list[str] = field(default_factory=list)
    answers: int = 0

    def answered(self, upstream: str, seconds: float) -> None:
        assert upstream == "bank"
        assert seconds >= 0
        self.answers += 1

    def failed(self, upstream: str, kind: str) -> None:
        assert upstream == "bank"
        self.kinds.append(kind)


class Proxy:
    """A gateway of listener and upstreams alone; `plan` may be changed by the test."""

    def __init__(self, upstream: Upstream, limits: Limits | None = None) -> None:
        self.seen = Seen()
        self.upstreams = Upstreams({"bank": upstream}, now_s=time.time, observer=self.seen)
        self.listener = Listener(self._answer, limits)
        self.plan: Callable[[web.BaseRequest], Plan] = lambda request: Plan("bank", peer=request.remote or "")
        self._clients: list[Peer] = []

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.upstreams.forward(request, self.plan(request))

    async def open(self) -> None:
        await self.listener.open(bind("127.0.0.1", 0))

    async def client(self, *, limit: int = 2**20) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.listener.port, limit=limit))
        self._clients.append(peer)
        return peer

    async def exchange(self, request: bytes) -> bytes:
        """Send it all, read all that comes until the connection ends."""
        peer = await self.client()
        await peer.send(request)
        return await peer.rest()

    async def close(self) -> None:
        for peer in self._clients:
            peer.close()
        await self.listener.close(1)
        await self.upstreams.close()


async def until(is_so: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Poll for a state; fail when it does not come."""
    end = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < end, "the state did not come"
        await asyncio.sleep(0.005)


async def hangs(peer: Peer) -> None:
    await peer.rest()


async def is_reset(peer: Peer) -> bool:
    """How the connection ended: True for a reset, False for an orderly end."""
    try:
        while await asyncio.wait_for(peer.reader.read(100), 5):
            pass
    except ConnectionResetError:
        return True
    return False


def dead_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
