"""Owns an open port: which connections and requests get as far as the gate, how long they may take, how it closes.

aiohttp's low-level server parses requests; what it accepts and should not is refused here before anyone acts on it.
Deadlines: an idle connection, a head that trickles in, a client that does not take its answer. A body's deadline is
with who reads it (`exchange.BODY_TIMEOUT_S`, `smallbody.py`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, cast

from aiohttp import http_parser, web
from aiohttp.http_exceptions import LineTooLong

from gateway.errors import StartError
from gateway.rules.framing import VERSIONS, framing_fault
from gateway.rules.head import Boundary, Whereabouts, is_whole_post
from gateway.web import answers
from gateway.web.endings import Endings, Parsed, body_bytes_of, unseen
from gateway.web.ready import Ready
from gateway.web.turns import Flow, Turns

log = logging.getLogger("waitroom")

CLOSE_S: Final = 10.0  # what is in flight when the listening sockets close may take this long
# Who was accepted a moment before the end has not been heard yet; closing on what is on its way would be a reset.
FIRST_ASKED_S: Final = 0.5
LAST: Final = b"\r\nConnection: close\r\n\r\n"
FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Express = Callable[[bytes], bytes | None]  # a whole request in, its whole answer out; None: the handler knows


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one port in one process."""

    header_bytes_max: int = 32_768  # of a whole head: bank cookies are long
    header_fields_max: int = 100  # as many as Apache takes
    connections_max: int = 20_000
    idle_timeout_s: float = 75.0  # nginx's; longer than the 60 s after which balancers drop a connection themselves
    head_timeout_s: float = 15.0
    write_timeout_s: float = 30.0
    linger_s: float = 5.0  # how long the rest of a body is read away after an early answer
    read_buffer_bytes: int = 65_536


def _no_express(_data: bytes) -> bytes | None:
    return None


def _nobody() -> None:
    return None


class Listener:
    """One port and its connections. `open`, then `begin_lame_duck` and `close` in that order to lose nothing."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits | None = None,
        express: Express = _no_express,
        flow_of: Callable[[bytes], Flow] | None = None,
        on_refused: Callable[[], None] = _nobody,
    ) -> None:
        """`flow_of`: without it nothing is ever held back. `on_refused` hears of connections beyond `connections_max`."""
        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            raise StartError("aiohttp runs on its pure-Python parser, which is not safe here: install a binary wheel")
        self.limits = limits or Limits()
        self.is_lame_duck = False
        self.express = express
        self.on_refused = on_refused
        self.turns: Turns | None = None
        self._flow_of = flow_of
        self._handler = handler
        self._web = web.Server(self._answer, handler_cancellation=True)
        self._server: asyncio.Server | None = None

    async def open(self, sock: socket.socket) -> None:
        """Accept on this socket, which may come from a parent process; it is closed with the listener."""
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Inherited by what is accepted: the kernel ends a connection whose peer takes nothing for so long, also
            # while it is being closed, when no one here waits for it any more.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.limits.write_timeout_s * 1000))
        loop = asyncio.get_running_loop()
        if self._flow_of is not None:
            self.turns = Turns(self._flow_of, loop.call_soon, loop.time)
        self._server = await loop.create_server(lambda: Connection(self, self._web, loop), sock=sock, backlog=4096)

    @property
    def port(self) -> int:
        assert self._server is not None, "not open"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        return len(self._web.connections)

    def begin_lame_duck(self) -> None:
        """Serve on, but ask clients with every answer to connect anew, elsewhere."""
        self.is_lame_duck = True

    def accept_no_more(self) -> None:
        """Leave what comes to others who listen on the same socket; who is here already is served on."""
        if self._server is not None:
            self._server.close()

    async def close(self, grace_s: float) -> None:
        """Accept no more, let what is in flight end within `grace_s`, then cut it."""
        self.is_lame_duck = True
        self.accept_no_more()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(0)  # who was accepted in this turn of the loop is among the connections from the next
        # aiohttp's own shutdown reads no more: uploads would stand still, and WebSockets hear nothing.
        while self._web.connections and (passed_s := loop.time() - began_s) < grace_s:
            for one in self._idle():
                if one.has_asked or passed_s > FIRST_ASKED_S:
                    one.force_close()
            await asyncio.sleep(0.02)
        self._web.pre_shutdown()
        await self._web.shutdown(0.01)  # not 0, which means for ever to aiohttp

    def _idle(self) -> list[Connection]:
        return [one for one in self._web.connections if isinstance(one, Connection) and one.is_waiting()]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        raw_headers = request.raw_headers
        if (fault := framing_fault(request.version, raw_headers)) is not None:
            log.debug("request_refused", extra={"fault": fault})
            return answers.refusal(400) if request.version in VERSIONS else answers.unheard_of()
        if sum(map(len, chain.from_iterable(raw_headers))) > self.limits.header_bytes_max:
            return answers.refusal(431)
        response = await self._handler(request)
        if isinstance(response, Ready):
            if self.is_lame_duck:
                response.close_after()
        elif not response.prepared:
            response.headers.setdefault("Server", "waitroom")  # else aiohttp names itself and Python's version
            # To aiohttp's parser a CONNECT has no body: what stands there would be read as the next request.
            if self.is_lame_duck or request.method == "CONNECT":
                response.force_close()
        return response


class Connection(web.RequestHandler):
    """aiohttp's connection with the deadlines it lacks, and without its talkative error pages."""

    __slots__ = (
        *(
            "_boundary",
            "_endings",
            "_flow",
            "_head_bytes",
            "_head_late",
            "_is_answered",
            "_is_new",
            "_limits",
            "_listener",
            "_turns",
            "_unsent_bytes",
            "_write_late",
        ),
        "has_asked",
    )

    def __init__(self, listener: Listener, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        limits = listener.limits
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle_timeout_s,
            max_line_size=limits.header_bytes_max,
            max_field_size=limits.header_bytes_max,
            max_headers=limits.header_fields_max,
            lingering_time=limits.linger_s,
            read_bufsize=limits.read_buffer_bytes,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # falsy switches it off
        )
        self.has_asked = False
        self._listener = listener
        self._limits = limits
        self._turns = listener.turns
        self._flow: Flow | None = None  # in which a request is held back
        self._boundary = Boundary()
        self._is_new = True  # aiohttp has been given nothing yet
        self._is_answered = False  # all it was given, though its task may not have got as far as to wait again
        self._endings = Endings()
        self._head_late: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._write_late: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._listener.connections >= self._limits.connections_max:
            self.close()  # nothing it sends is read
            self._listener.on_refused()
            cast(asyncio.Transport, transport).write(FULL)
            transport.close()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._head_late, self._write_late):
            if timer is not None:
                timer.cancel()
        if self._flow is not None and self._turns is not None:
            self._turns.forget(self._flow, self)
            self._flow = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.has_asked = True
        turns = self._turns
        if turns is not None and (turns.is_beyond() or self._flow is not None) and data:
            if self._flow is not None:  # what comes meanwhile is of the same request, or behind it
                if turns.is_full(len(data)):
                    self.go_on(turns.forget(self._flow, self) + data)
                elif not turns.add(self._flow, self, data):
                    self._pause_transport_reading()
                return
            if self._is_new or self._is_answered or self.is_waiting():
                self._flow = turns.hold(self, data)
                if self._flow is not None:  # it has asked: the time of an idle connection begins anew
                    self._next_keepalive_close_time = self._loop.time() + self._limits.idle_timeout_s
                    return
        self._receive(data)

    def go_on(self, data: bytes) -> None:
        """Its turn has come (`Turns`)."""
        self._end_hold()
        try:
            self._receive(data)
        except BaseException:  # as the loop ends a connection whose protocol fails
            cut(self.transport)
            raise

    def refuse(self, data: bytes, answer: bytes) -> None:
        """Answer a request that was held back without looking at it; the next one is found only where this one surely ends."""
        self._end_hold()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        is_sure = self._boundary.at is Whereabouts.BETWEEN and is_whole_post(data)
        is_last = not is_sure or self._paused or self._listener.is_lame_duck
        transport.write(answer.replace(b"\r\n\r\n", LAST, 1) if is_last else answer)
        self._next_keepalive_close_time = self._loop.time() + self._limits.idle_timeout_s
        if is_last:
            self.force_close()

    def _end_hold(self) -> None:
        self._flow = None
        is_paused = self.transport is not None and not self.transport.is_reading()
        if is_paused and not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _receive(self, data: bytes) -> None:
        if self._boundary.at is Whereabouts.BETWEEN and self._answer_at_once(data):
            return
        before = len(self._messages)
        self._is_new = self._is_answered = False
        super().data_received(data)
        self._follow(data, before)
        # Most heads come in one segment and never get here with the waiter still waiting: no timer for them.
        if self._is_in_head():
            self._head_bytes += len(data)
            if self._head_late is None and data:
                self._head_late = self._loop.call_later(self._limits.head_timeout_s, self.force_close)
            if self._head_bytes > 2 * self._limits.header_bytes_max:  # line, fields and what separates them
                self.force_close()
        elif self._head_late is not None:
            self._head_late.cancel()
            self._head_late = None
            self._head_bytes = 0

    def _answer_at_once(self, data: bytes) -> bool:
        """Go the express way, where nothing else is under way on this connection and the client takes its answers."""
        # A new connection's task may not have got as far as to wait: the first page of most visitors.
        if (
            not (self._is_new or self._is_answered or self.is_waiting())
            or self._paused
            or self._close
            or self._force_close
        ):
            return False
        if self._listener.is_lame_duck or len(data) > self._limits.header_bytes_max:
            return False
        answer = self._listener.express(data)
        if answer is None:
            return False
        assert self.transport is not None
        self.transport.write(answer)
        self._next_keepalive_close_time = self._loop.time() + self._limits.idle_timeout_s
        return True

    def _is_in_head(self) -> bool:
        """Part of a head has come: also before aiohttp's task has got as far as to wait for the first one."""
        return self.is_waiting() or (not self._messages and self._request_count == 0)

    def is_waiting(self) -> bool:
        """Every request so far was answered, and the task waits for the next one."""
        return self._waiter is not None and not self._waiter.done() and not self._messages and self._flow is None

    def _follow(self, data: bytes, before: int) -> None:
        """Keep account of where this connection's requests end."""
        requests = len(self._messages) - before
        body_bytes = body_bytes_of(*self._messages[-1]) if requests and not self._upgraded else None
        self._boundary.follow(data, requests, body_bytes)
        for one in self._endings.see(data, list(islice(self._messages, before, None)) if requests else ()):
            self._end_with(one)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Also parses what came behind a WebSocket that was declined, unseen by `data_received`."""
        was_behind = bool(self._message_tail)
        result = await super().finish_response(request, resp, start_time)
        self._is_answered = bool(resp.keep_alive) and not (result[1] or self._messages) and request.content.is_eof()
        if was_behind:
            for one in unseen(self._messages):
                self._end_with(one)
        return result

    def _end_with(self, one: Parsed) -> None:
        """The connection ends with the answer to this request; which says so, if nobody has begun to answer it."""
        if one in self._messages:  # those before it are answered first
            self._messages[self._messages.index(one)] = (one[0]._replace(should_close=True), one[1])
        else:
            self._close = True

    def force_close(self) -> None:
        """Also how a stop ends what did not end in time: half an answer is cut, lest it look whole; a tunnel has no whole."""
        request = self._current_request
        if request is not None and request.writer.output_size > 0 and self._payload_parser is None:
            cut(self.transport)
        super().force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent_bytes = self._unsent()
        self._write_late = self._loop.call_later(self._limits.write_timeout_s, self._check_writing)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_late is not None:
            self._write_late.cancel()
            self._write_late = None

    def _check_writing(self) -> None:
        """Cut a client that took nothing since the last look; one that is only slow goes on."""
        unsent = self._unsent()
        if self.transport is not None and unsent >= self._unsent_bytes:
            self.transport.abort()
            return
        self._unsent_bytes = unsent
        self._write_late = self._loop.call_later(self._limits.write_timeout_s, self._check_writing)

    def _unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            log.error("request_failed", extra={"status": status}, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun: another one would land inside it")
        return answers.refusal(431 if isinstance(exc, LineTooLong) else status)


def cut(transport: asyncio.Transport | None) -> None:
    """Reset a connection. An orderly end would look like the end of the body to whoever reads up to it."""
    if transport is None or transport.is_closing():
        return
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
