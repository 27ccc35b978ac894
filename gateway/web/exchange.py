"""Owns one request's way to an upstream and its answer's way back, both streamed, both at once if they overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final

from aiohttp import web

from gateway.rules import headers as rules
from gateway.rules.headers import Head, Header
from gateway.tasks import Owner
from gateway.web import websocket
from gateway.web.backend import Backend
from gateway.web.listener import cut
from gateway.web.plan import Observer, Plan
from gateway.web.pool import REST_MAX_ONCE_S, REST_MAX_S, Failure, Link, Pool

ALIVE_S: Final = 20.0
BODY_TIMEOUT_S: Final = 30.0  # a client that sends nothing of its body for so long has gone
CONTINUE_WAIT_S: Final = 1.0  # as long as curl waits for a server that does not know `Expect`
INTERIM_MAX: Final = 16
REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS"))  # safe and idempotent (RFC 9110, 9.2)
# The client's doing, or ours: these say nothing about the upstream.
NOT_THE_UPSTREAM: Final = frozenset(("busy", "room_busy", "loop", "client_timeout", "client_malformed", "unsupported"))


class Pulse:
    """Tells exchanges that last that they do: one timer for all, since nearly every one is over before it."""

    def __init__(self) -> None:
        self._under_way: set[Exchange] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        self._under_way.add(exchange)
        if self._timer is None:
            self._timer = loop.call_later(ALIVE_S / 4, self._beat, loop)

    def discard(self, exchange: Exchange) -> None:
        self._under_way.discard(exchange)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(ALIVE_S / 4, self._beat, loop) if self._under_way else None
        now_s = loop.time()
        for exchange in tuple(self._under_way):
            exchange.beat(now_s)


@dataclass(slots=True)
class Setting:
    """What all exchanges share. `now_s` is the wall clock, for Date fields that an upstream left out."""

    observer: Observer
    owner: Owner
    now_s: Callable[[], float]
    via: str
    is_lame_duck: bool = False
    pulse: Pulse = field(default_factory=Pulse)


class Relayed(web.StreamResponse):
    """An answer that is on the wire already, byte for byte: aiohttp only learns whether the connection goes on."""

    def __init__(self, is_kept: bool, status: int = 0) -> None:  # not StreamResponse's: none of its state is needed
        self._is_kept = is_kept
        self._status = status  # 0: the client had gone before there was one

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

    _pool: Pool | None = None
    _link: Link | None = None
    _upload: asyncio.Task[None] | None = None
    _upload_failure: Failure | None = None
    _may_send: asyncio.Event | None = None  # there if the client waits for a 100
    _is_answering = False
    _is_cut_short = False  # of the answer the client has a part

    def __init__(self, setting: Setting, backend: Backend, request: web.BaseRequest, plan: Plan) -> None:
        self._setting = setting
        self._backend = backend
        self._limits = backend.upstream
        self._request = request
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._began_s = self._beaten_s = self._loop.time()
        headers = request.headers
        self._is_chunked = "Transfer-Encoding" in headers
        self._has_body = self._is_chunked or headers.get("Content-Length", "0").strip("0") != ""
        self._is_sent = not self._has_body
        self._wants_upgrade = (
            headers.get("Upgrade", "").lower() == "websocket"
            and "upgrade" in headers.get("Connection", "").lower()
            and request.version == (1, 1)
            and not self._has_body
        )
        if headers.get("Expect", "").lower() == "100-continue":
            self._may_send = asyncio.Event()

    async def run(self) -> web.StreamResponse:
        if self._plan.on_alive is not None:
            self._setting.pulse.add(self, self._loop)
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
            return Relayed(is_kept=False)  # the client has gone; the cancellation that says so is on its way
        finally:
            self._setting.pulse.discard(self)
            if self._is_cut_short:  # whatever the reason, a cancellation or a fault of ours among them
                cut(self._request.transport)
            if self._link is not None:  # not given back: something is left on it
                self._link.abort()
            if self._pool is not None:
                self._pool.in_flight -= 1
            if self._upload is not None and not self._upload.done():
                # aiohttp reads what is left of the body itself, and a body has one reader at a time.
                self._upload.cancel()
                await asyncio.wait((self._upload,))

    def beat(self, now_s: float) -> None:
        """Called now and then while this lasts."""
        if self._plan.on_alive is not None and now_s - self._beaten_s >= ALIVE_S:
            self._beaten_s = now_s
            self._plan.on_alive()

    def _failed(self, kind: str) -> None:
        if kind not in NOT_THE_UPSTREAM:
            self._backend.record(self._pool, self._loop.time(), kind)

    # --- the request ----------------------------------------------------------------------------------------------

    async def _ask(self) -> tuple[Link, Head]:
        """Send the request and wait for the final head; once more if it died on a connection that had rested."""
        is_repeatable = self._request.method in REPEATABLE and not self._has_body and not self._wants_upgrade
        rest_max_s = REST_MAX_S if is_repeatable else REST_MAX_ONCE_S
        head_block = self._head_block()
        while True:
            pools = self._backend.order()
            pool, link = pools[0], pools[0].take(rest_max_s, self._loop.time())
            if link is None:
                pool, link = await self._backend.link(pools, rest_max_s)
            pool.in_flight += 1
            self._pool, self._link = pool, link
            link.begin()
            try:
                self._send(link, head_block)
                head = await self._final_head(link)
            except Failure as failure:
                is_stale = failure.kind == "broken" and link.is_reused and not link.has_answered
                if not (is_stale and is_repeatable):
                    raise self._upload_failure or failure from None
                link.abort()
                pool.in_flight -= 1
                self._pool = None
                rest_max_s = -1.0  # a new connection: the second time is the last
            else:
                self._setting.observer.answered(self._limits.name, self._loop.time() - self._began_s)
                return link, head

    def _head_block(self) -> bytes:
        request, plan = self._request, self._plan
        host, target = rules.split_target(request.raw_path, request.headers.get("Host", ""))
        hop = rules.Hop(plan.peer, plan.scheme, host, self._setting.via, plan.is_peer_trusted)
        fields = rules.to_upstream(request.raw_headers, hop, plan.headers)
        if request.method == "OPTIONS":
            fields = rules.one_hop_less(fields)
        if plan.replaced:
            fields = rules.replaced(fields, plan.replaced)
        if self._is_chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        if self._wants_upgrade:
            fields += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        start = b"%b %b HTTP/1.1" % (request.method.encode(), target.encode("utf-8", "surrogateescape"))
        return rules.serialize(start, fields)

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
        interims = 0
        while True:
            try:
                head = await link.head(self._request.method, self._limits.read_timeout_s)
            except TimeoutError:
                # An upload has deadlines of its own; the upstream's time begins when it has all of it.
                if self._upload is None or self._upload.done():
                    raise Failure("read_timeout") from None
                continue
            if head.status >= 200 or (head.status == 101 and self._wants_upgrade):
                return head
            interims += 1
            if head.status == 101 or interims == INTERIM_MAX:
                raise Failure("malformed")
            if head.status == 100:
                if self._may_send is not None:
                    self._may_send.set()
            elif self._request.version == (1, 1):
                await self._request.writer.write(_head(head, head.fields))

    # --- the answer -----------------------------------------------------------------------------------------------

    def _fields(self, head: Head) -> list[Header]:
        fields = head.fields
        if (on_head := self._plan.on_head) is not None:
            on_head(head.status, fields, head.known)
        if b"date" not in head.known:
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
        self._is_cut_short = True
        try:
            await self._copy(link, head, _head(head, fields), first, is_chunked)
        except Failure as failure:
            self._failed(failure.kind)
            self._setting.observer.failed(self._limits.name, failure.kind)
            return Relayed(is_kept=False, status=head.status)
        self._is_cut_short = False
        self._backend.record(self._pool, self._loop.time(), None, head.status)
        if head.is_reusable and self._is_sent and self._pool is not None:
            self._pool.give(link)
            self._link = None
        return Relayed(is_kept, head.status)

    async def _copy(self, link: Link, head: Head, out: bytes, piece: bytes, is_chunked: bool) -> None:
        """Write head (in `out`) and body, each piece as it comes; what has come already leaves in one packet."""
        writer = self._request.writer
        while True:
            if piece:
                out += _chunk(piece) if is_chunked else piece
            if link.is_body_done:
                break
            if out:
                self._put(out)
                await writer.drain()
                out = b""
            limits = self._limits
            piece = await link.next_piece(limits.idle_timeout_s if _is_event_stream(head) else limits.read_timeout_s)
            if not piece and not link.is_body_done:
                break  # a body that ends with the connection, whole
        if is_chunked:
            out += b"0\r\n\r\n"
        if out:
            self._put(out)
            if self._request.protocol.writing_paused:
                await writer.drain()

    def _put(self, data: bytes) -> None:
        """Give the client's transport bytes that are framed already: aiohttp's writer need not look at them."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._request.writer.output_size += len(data)  # so that no error page is put behind them
        transport.write(data)

    async def _switch(self, link: Link, head: Head) -> web.StreamResponse:
        fields = self._fields(head)
        fields += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
        await self._request.writer.write(_head(head, fields))
        self._backend.record(self._pool, self._loop.time(), None)
        self._link = None  # the tunnel closes it, after the last bytes have left
        await websocket.tunnel(self._request, link, self._limits.idle_timeout_s)
        return Relayed(is_kept=False, status=head.status)


def _head(head: Head, fields: list[Header]) -> bytes:
    return rules.serialize(b"HTTP/1.1 %d %b" % (head.status, head.reason), fields)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _is_event_stream(head: Head) -> bool:
    return any(value.lower().startswith(b"text/event-stream") for value in head.known.get(b"content-type", ()))
