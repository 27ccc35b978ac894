"""Owns the connections to one upstream URL: opening, keeping and reusing them, and whether the URL is well.

A `Link` is one connection and carries one exchange at a time. It reads answers itself, on bytes, because no client
library passes all of them on: field bytes that are not UTF-8, interim answers, a body cut short told from a whole one,
and nothing ever sent twice on its own account (`docs/decisions/0002-upstream-client.md`). Reading stops while
`BUFFER_MAX` bytes wait, writing while the transport is full, so memory does not grow with a body.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from gateway.rules.body import Body
from gateway.rules.headers import Head, parse_head

HEAD_MAX: Final = 65_536  # twice what clients may send: banks answer with many cookies
BUFFER_MAX: Final = 262_144
REST_MAX_S: Final = 15.0  # an idle connection older than this is not used again
# Many servers close idle connections after 2 to 5 s, just as the next request is on its way. A request that may be sent
# again loses nothing by that; one that may not only takes a connection that rested less than this.
REST_MAX_ONCE_S: Final = 1.0
FLUSH_S: Final = 5.0  # what is written may take this long to leave a link that is closed
NO_BODY: Final = Body(0)
WINDOW_S: Final = 10
SAMPLE_MIN: Final = 5  # exchanges that say something about an upstream; fewer are chance


class Failure(Exception):
    """An exchange with an upstream failed; `kind` is a row of `upstream.FAILURES` and a metric's label."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Link(asyncio.Protocol):
    """One connection to an upstream: answers are read as a head and pieces of a body, by one reader at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._body = NO_BODY
        self._is_held = False  # reading is paused
        self._is_ended = False  # nothing more will come
        self._is_reset = False  # and it did not end in order
        self._reader: asyncio.Future[None] | None = None
        self._deadline_s = 0.0  # until when the reader waits
        self._watch: asyncio.TimerHandle | None = None
        self._watch_s = 0.0  # when it looks next
        self._writer: asyncio.Future[None] | None = None
        self._is_full = False
        self.is_reused = False
        self.rested_at: float | None = None  # None while an exchange is on
        self.has_answered = False  # a byte has come since the exchange began
        self.on_full: Callable[[bool], None] | None = None  # told when writing should stop and may go on

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self.rested_at is not None:
            self.abort()  # nobody asked: the next request's answer must not begin with this
            return
        self.has_answered = True
        self._buffer += data
        if len(self._buffer) > BUFFER_MAX and not self._is_held and self._transport is not None:
            self._is_held = True
            self._transport.pause_reading()
        if self._reader is not None:
            self._wake_reader()

    def eof_received(self) -> None:
        self._is_ended = True
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_reset = self._is_reset or exc is not None
        self._is_ended = True
        self._transport = None
        self._buffer_is_full(False)
        self._wake_reader()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def pause_writing(self) -> None:
        self._buffer_is_full(True)

    def resume_writing(self) -> None:
        self._buffer_is_full(False)

    def _buffer_is_full(self, is_full: bool) -> None:
        self._is_full = is_full
        if not is_full and self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        if self.on_full is not None:
            self.on_full(is_full)

    # Writing.

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._is_ended and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send; what cannot be sent any more is dropped, for the answer, if there is one, tells why."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self, timeout_s: float) -> None:
        if not self._is_full:
            return
        self._writer = self._loop.create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._writer
        except TimeoutError:
            raise Failure("write_timeout") from None
        finally:
            self._writer = None

    # Reading.

    def begin(self) -> None:
        """A new exchange: what was known of the last one is forgotten."""
        self.is_reused = self.rested_at is not None
        self.rested_at = None
        self.has_answered = False
        self._body = NO_BODY

    async def head(self, method: str, timeout_s: float) -> Head:
        """The next head, interim ones (1xx) too. `TimeoutError` is the caller's to judge: one may read on after it."""
        deadline_s = self._loop.time() + timeout_s
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_MAX:
                raise Failure("malformed")
            if self._is_ended:
                raise Failure("broken")
            await self.more(deadline_s)
        head = parse_head(bytes(self._buffer[:end]), method)
        if isinstance(head, str) or end > HEAD_MAX:
            raise Failure("malformed")
        del self._buffer[: end + 4]
        self._body = Body(head.length)
        return head

    def piece(self) -> bytes:
        """What has come of the body and was not read yet."""
        try:
            piece = self._body.take(self._buffer)
        except ValueError:
            raise Failure("malformed") from None
        if self._is_held and len(self._buffer) <= BUFFER_MAX // 2 and self._transport is not None:
            self._is_held = False
            self._transport.resume_reading()
        return piece

    async def next_piece(self, timeout_s: float) -> bytes:
        """The body's next bytes, b"" at its end; `Failure` if it never comes whole."""
        while not (piece := self.piece()) and not self._body.is_done:
            if self._is_ended:
                if self._is_reset or not self._body.is_whole_at_close():
                    raise Failure("truncated")
                return b""
            try:
                await self.more(self._loop.time() + timeout_s)
            except TimeoutError:
                raise Failure("read_timeout") from None
        return piece

    @property
    def is_body_done(self) -> bool:
        return self._body.is_done

    def raw(self) -> bytes:
        """Everything that has come: after an upgrade there are no messages left to tell apart."""
        self._body = Body(-2)
        return self.piece()

    @property
    def has_ended(self) -> bool:
        return self._is_ended and not self._buffer

    def more(self, deadline_s: float) -> asyncio.Future[None]:
        """To wait for until more has come or nothing will, on a link that has not ended; `TimeoutError` at the deadline.

        A link has one timer, which outlives many waits: it looks whether the wait of then is over, and goes on. Setting and
        cancelling one for each wait costs more than the wait.
        """
        self._reader = reader = self._loop.create_future()
        self._deadline_s = deadline_s
        if self._watch is None or deadline_s < self._watch_s:
            if self._watch is not None:
                self._watch.cancel()
            self._watch_until(deadline_s)
        return reader

    def _watch_until(self, at_s: float) -> None:
        self._watch_s = at_s
        self._watch = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        self._watch = None
        if self._reader is None or self._reader.done():
            return  # nobody waits; the next one sets the timer anew
        if self._loop.time() < self._deadline_s:
            self._watch_until(self._deadline_s)
        else:
            self._reader.set_exception(TimeoutError())

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        self._reader = None

    # Ending.

    def rest(self) -> bool:
        """Keep the connection for another exchange, if nothing is left on it from this one."""
        if not self.is_open or self._buffer or not self._body.is_done or self._is_full:
            return False
        self.rested_at = self._loop.time()
        return True

    def close(self) -> None:
        """Close after what was written has left, or at once if it does not leave in time."""
        if self._transport is not None:
            self._transport.close()
            self._loop.call_later(FLUSH_S, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._is_reset = True
            self._transport.abort()


class Tally:
    """How the exchanges of the last `WINDOW_S` seconds ended, in a ring of seconds."""

    def __init__(self) -> None:
        self.clear()

    def add(self, is_well: bool, now_s: float) -> None:
        second = int(now_s)
        row = self._rows[second % WINDOW_S]
        if row[0] != second:
            row[:] = (second, 0, 0)
        row[1 if is_well else 2] += 1

    def is_ill(self, now_s: float) -> bool:
        """True if more than half ended badly."""
        rows = [row for row in self._rows if row[0] > now_s - WINDOW_S]
        well, ill = sum(row[1] for row in rows), sum(row[2] for row in rows)
        return well + ill >= SAMPLE_MIN and ill > well

    def clear(self) -> None:
        self._rows = [[-1, 0, 0] for _ in range(WINDOW_S)]  # second, well, ill


class Pool:
    """The links to one URL. `is_out`: it failed, and is passed over while another URL is well."""

    def __init__(self, url: str, connect_timeout_s: float, ca: str = "") -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or ""
        self._ssl = ssl.create_default_context(cadata=ca or None) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._ssl else 80)
        self._connect_timeout_s = connect_timeout_s
        self._resting: deque[Link] = deque()
        self.tally = Tally()
        self.in_flight = 0
        self.is_out = False

    def take(self, rest_max_s: float, now_s: float) -> Link | None:
        """A link that rested no longer than that, the latest first: those nobody needs grow old and go."""
        while self._resting:
            link = self._resting.pop()
            if not link.is_open or link.rested_at is None:
                continue
            rested_s = now_s - link.rested_at
            if rested_s <= rest_max_s:
                return link
            if rested_s <= REST_MAX_S:
                self._resting.append(link)
                return None
            link.close()
        return None

    async def open(self) -> Link:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, link = await loop.create_connection(lambda: Link(loop), self._host, self._port, ssl=self._ssl)
        except TimeoutError:
            raise Failure("connect_timeout") from None
        except ssl.SSLCertVerificationError:  # before a byte of the request was sent
            raise Failure("untrusted") from None
        except OSError:
            raise Failure("refused") from None
        return link

    def give(self, link: Link) -> None:
        if link.rest():
            self._resting.append(link)
        else:
            link.close()

    async def answers(self) -> bool:
        """True if a connection can be made; how a URL that is out is tried again."""
        with contextlib.suppress(Failure):
            self.give(await self.open())
            return True
        return False

    def close(self) -> None:
        while self._resting:
            self._resting.pop().abort()
