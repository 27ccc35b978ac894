"""Owns one request's way to an upstream and its answer's way back, both streamed, both at once if they overlap."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final, Protocol

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.rules import headers as rules
from gateway.rules.headers import Head
from gateway.tasks import Owner
from gateway.web import websocket
from gateway.web.backend import Backend
from gateway.web.pool import REST_MAX_ONCE_S, REST_MAX_S, Failure, Link, Pool

ALIVE_S: Final = 20.0
BODY_TIMEOUT_S: Final = 30.0  # a client that sends nothing of its body for so long has gone
CONTINUE_WAIT_S: Final = 1.0  # as long as curl waits for a server that does not know `Expect`
INTERIM_MAX: Final = 16
REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))  # safe and idempotent (RFC 9110, 9.2)
# The client's doing, or ours: these say nothing about the upstream.
NOT_THE_UPSTREAM: Final = frozenset(("busy", "loop", "client_timeout", "client_malformed", "unsupported"))

OnHead = Callable[[int, CIMultiDict[str], CIMultiDictProxy[str]], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the gate has decided about one request.

    `headers` are added for the upstream. `on_head(status, to_client, from_upstream)` runs before the head is sent and
    may change `to_client`; it also runs for answers of ours that stand in for a failed upstream, with nothing from
    upstream. `on_alive` is called every 20 s while the exchange lasts.
    """

    upstream: str
    room: str | None = None
    room_in_flight_max: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    on_head: OnHead | None = None
    on_alive: Callable[[], None] | None = None
    peer: str = ""  # the address that connected; added to X-Forwarded-For
    is_peer_trusted: bool = False
    scheme: str = "http"
    is_navigation: bool = False


class Observer(Protocol):
    """Who counts what happens here; labels are names from configuration and kinds from `FAILURES`."""

    def answered(self, upstream: str, seconds: float) -> None: ...
    def failed(self, upstream: str, kind: str) -> None: ...
    def in_flight(self, upstream: str, count: int) -> None: ...


@dataclass(slots=True)
class Setting:
    """What all exchanges share. `now_s` is the wall clock, for Date fields that an upstream left out."""

    observer: Observer
    owner: Owner
    now_s: Callable[[], float]
    via: str
    is_lame_duck: bool = False


class Relayed(web.StreamResponse):
    """An answer that is on the wire already, byte for byte: aiohttp only learns whether the connection goes on."""

    def __init__(self, status: int, is_kept: bool) -> None:
        super().__init__(status=status)
        self._is_kept = is_kept

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return self._is_kept

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Exchange:
    """Raises `Failure` as long as the client has seen nothing of an answer; later it cuts the client's connection."""

    def __init__(self, setting: Setting, backend: Backend, request: web.BaseRequest, plan: Plan) -> None:
        self._setting = setting
        self._backend = backend
        self._limits = backend.upstream
        self._request = request
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        headers = request.headers
        self._is_chunked = "Transfer-Encoding" in headers
        self._has_body = self._is_chunked or headers.get("Content-Length", "0").strip("0") != ""
        self._wants_upgrade = (
            headers.get("Upgrade", "").lower() == "websocket"
            and "upgrade" in headers.get("Connection", "").lower()
            and request.version == (1, 1)
            and not self._has_body
        )
        self._pool: Pool | None = None
        self._link: Link | None = None
        self._upload: asyncio.Task[None] | None = None
        self._upload_failure: Failure | None = None
        self._is_sent = not self._has_body
        self._may_send = asyncio.Event() if headers.get("Expect", "").lower() == "100-continue" else None
        self._is_answering = False
        self._pulse: asyncio.TimerHandle | None = None

    async def run(self) -> web.StreamResponse:
        self._beat()
        try:
            link, head = await self._ask()
            self._is_answering = True
            if head.status == 101:
                return await self._switch(link, head)
            return await self._relay(link, head)
        except Failure as failure:
            self._failed(failure.kind)
            raise
        except ConnectionError:
            return Relayed(0, is_kept=False)  # the client has gone; the cancellation that says so is on its way
        finally:
            await self._end()

    def _failed(self, kind: str) -> None:
        if kind not in NOT_THE_UPSTREAM:
            self._backend.record(self._pool, kind)

    async def _end(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        if self._link is not None:  # not given back: something is left on it
            self._link.abort()
        if self._pool is not None:
            self._pool.in_flight -= 1
        if self._upload is not None and not self._upload.done():
            # aiohttp reads what is left of the body itself, and a body has one reader at a time.
            self._upload.cancel()
            await asyncio.wait((self._upload,))

    def _beat(self, is_first: bool = True) -> None:
        on_alive = self._plan.on_alive
        if on_alive is not None:
            if not is_first:
                on_alive()
            self._pulse = self._loop.call_later(ALIVE_S, self._beat, False)

    # --- the request ----------------------------------------------------------------------------------------------

    async def _ask(self) -> tuple[Link, Head]:
        """Send the request and wait for the final head; once more if it died on a connection that had rested."""
        is_repeatable = self._request.method in REPEATABLE and not self._has_body and not self._wants_upgrade
        head_block = self._head_block()
        rest_max_s = REST_MAX_S if is_repeatable else REST_MAX_ONCE_S
        began = self._loop.time()
        while True:
            link = await self._connect(rest_max_s)
            try:
                self._send(link, head_block)
                head = await self._final_head(link)
            except Failure as failure:
                is_stale = failure.kind == "broken" and link.is_reused and not link.has_answered
                if not (is_stale and is_repeatable):
                    raise self._upload_failure or failure from None
                link.abort()
                rest_max_s = -1.0  # a new connection: the second time is the last
            else:
                self._setting.observer.answered(self._limits.name, self._loop.time() - began)
                return link, head

    async def _connect(self, rest_max_s: float) -> Link:
        if self._pool is not None:
            self._pool.in_flight -= 1
            self._pool = None
        pool, link = await self._backend.link(rest_max_s)
        pool.in_flight += 1
        self._pool, self._link = pool, link
        link.begin()
        return link

    def _head_block(self) -> bytes:
        request, plan = self._request, self._plan
        host, target = rules.split_target(request.raw_path, request.headers.get("Host", ""))
        hop = rules.Hop(plan.peer, plan.scheme, host, self._setting.via, plan.is_peer_trusted)
        added = rules.encode(plan.headers) if plan.headers else []
        if self._is_chunked:
            added.append((b"Transfer-Encoding", b"chunked"))
        if self._wants_upgrade:
            added += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        start = b"%b %b HTTP/1.1" % (request.method.encode(), target.encode("utf-8", "surrogateescape"))
        return rules.serialize(start, rules.to_upstream(request.raw_headers, hop, added))

    def _send(self, link: Link, head_block: bytes) -> None:
        content = self._request.content
        if not self._has_body:
            link.write(head_block)
        elif content.is_eof() and content.exception() is None:  # small, and all here: no task needed
            body = content.read_nowait()
            link.write(head_block + (_chunk(body) + b"0\r\n\r\n" if self._is_chunked else body))
            self._is_sent = True
        else:
            link.write(head_block)
            self._upload = self._setting.owner.start(self._send_body(link), "upload")

    async def _send_body(self, link: Link) -> None:
        """Copy the body at the pace of the slower side. What fails here ends the wait for the answer, too."""
        content = self._request.content
        try:
            await self._await_go()
            while True:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    data = await content.readany()
                if not data:
                    break
                link.write(_chunk(data) if self._is_chunked else data)
                await link.drain(self._limits.write_timeout_s)
            if self._is_chunked:
                link.write(b"0\r\n\r\n")
            self._is_sent = True
        except TimeoutError:
            self._upload_failure = Failure("client_timeout")
        except Failure as failure:
            self._upload_failure = failure
        except web.RequestPayloadError:
            self._upload_failure = Failure("client_malformed")
        except ConnectionError:
            self._upload_failure = Failure("client_timeout")
        if self._upload_failure is not None:
            link.abort()

    async def _await_go(self) -> None:
        """Expect: 100-continue: the upstream says go. If it says nothing the gateway does, as RFC 9110, 10.1.1 lets it:
        both sides waiting for each other help nobody."""
        if self._may_send is None:
            return
        try:
            async with asyncio.timeout(CONTINUE_WAIT_S):
                await self._may_send.wait()
        except TimeoutError:
            self._may_send.set()
        if not self._is_answering:  # a 100 behind the final head would be read as the next answer
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _final_head(self, link: Link) -> Head:
        for _ in range(INTERIM_MAX):
            head = await self._head(link)
            if head.status >= 200 or (head.status == 101 and self._wants_upgrade):
                return head
            if head.status == 101:
                break
            if head.status == 100:
                if self._may_send is not None:
                    self._may_send.set()
            elif self._request.version == (1, 1):
                await self._request.writer.write(_head(head, rules.to_client(head.headers, head.status)))
        raise Failure("malformed")

    async def _head(self, link: Link) -> Head:
        while True:
            try:
                return await link.head(self._request.method, self._limits.read_timeout_s)
            except TimeoutError:
                # An upload has deadlines of its own; the upstream's time begins when it has all of it.
                if self._upload is None or self._upload.done():
                    raise Failure("read_timeout") from None

    # --- the answer -----------------------------------------------------------------------------------------------

    def _fields(self, head: Head) -> list[rules.Header]:
        fields = rules.to_client(head.headers, head.status)
        if (on_head := self._plan.on_head) is not None:
            shown = CIMultiDict(rules.decode(fields))
            on_head(head.status, shown, CIMultiDictProxy(CIMultiDict(rules.decode(head.headers))))
            fields = rules.encode(shown.items())
        if not any(len(name) == 4 and name.lower() == b"date" for name, _ in fields):
            fields.append((b"Date", formatdate(self._setting.now_s(), usegmt=True).encode()))
        return fields

    async def _relay(self, link: Link, head: Head) -> web.StreamResponse:
        request = self._request
        fields = self._fields(head)
        is_modern = request.version == (1, 1)
        is_chunked = head.length < 0 and is_modern
        is_kept = (
            request.keep_alive and self._is_sent and not self._setting.is_lame_duck and (is_modern or head.length >= 0)
        )
        if is_chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if not is_kept:
            fields.append((b"Connection", b"close"))
        elif not is_modern:
            fields.append((b"Connection", b"keep-alive"))
        first = link.piece()  # may still fail in order: nothing has been sent
        try:
            await self._copy(link, _head(head, fields), first, is_chunked, _is_event_stream(head))
        except Failure as failure:
            self._failed(failure.kind)
            self._setting.observer.failed(self._limits.name, failure.kind)
            _cut(request.transport)
            return Relayed(head.status, is_kept=False)
        self._backend.record(self._pool, None, head.status)
        if head.is_reusable and self._is_sent and self._pool is not None:
            self._pool.give(link)
            self._link = None
        return Relayed(head.status, is_kept)

    async def _copy(self, link: Link, out: bytes, piece: bytes, is_chunked: bool, is_event_stream: bool) -> None:
        """Write head and body, each piece as it comes; what has come already leaves in one packet with the head."""
        write = self._request.writer.write
        timeout_s = self._limits.idle_timeout_s if is_event_stream else self._limits.read_timeout_s
        while True:
            if piece:
                out += _chunk(piece) if is_chunked else piece
            if link.is_body_done:
                break
            if out:
                await write(out)
                out = b""
            piece = await link.next_piece(timeout_s)
            if not piece and not link.is_body_done:
                break  # a body that ends with the connection, whole
        if is_chunked:
            out += b"0\r\n\r\n"
        if out:
            await write(out)

    async def _switch(self, link: Link, head: Head) -> web.StreamResponse:
        fields = self._fields(head)
        fields += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        await self._request.writer.write(_head(head, fields))
        self._backend.record(self._pool, None)
        self._link = None  # the tunnel closes it, after the last bytes have left
        await websocket.tunnel(self._request, link, self._limits.idle_timeout_s)
        return Relayed(101, is_kept=False)


def _cut(transport: asyncio.Transport | None) -> None:
    """Reset a connection. An orderly end would look like the end of the body to whoever reads up to it."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _head(head: Head, fields: list[rules.Header]) -> bytes:
    return rules.serialize(b"HTTP/1.1 %d %b" % (head.status, head.reason), fields)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _is_event_stream(head: Head) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in head.headers
    )
