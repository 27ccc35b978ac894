"""One end of a connection as the corpus needs it: every byte kept, a reset told from an end, reading stopped at will."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import cast

from tests.conformance.case import Act, Stall, Step, Trickle, Until, Wait


class Line(asyncio.Protocol):
    """`got` is all that came. What is sent to a peer that has gone is lost, as the corpus expects of it."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.is_ended = False
        self.is_reset = False
        self._has_ended = False  # our direction
        self._transport: asyncio.Transport | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # pieces leave as pieces

    def data_received(self, data: bytes) -> None:
        self.got += data
        self._news.set()

    def eof_received(self) -> bool:
        self.is_ended = True
        self._news.set()
        return True  # the other direction is ours to end

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_ended = True
        self.is_reset = self.is_reset or exc is not None
        self._transport = None
        self._news.set()
        self._room.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def more(self, timeout_s: float) -> bool:
        """Wait until more has come or the end has; False if neither did."""
        if self.is_ended:
            return True
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), max(timeout_s, 0.001))
        except TimeoutError:
            return False
        return True

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), 65536):
            if self._transport is None or self._transport.is_closing() or self._has_ended:
                return
            self._transport.write(data[at : at + 65536])
            await self._room.wait()

    async def perform(self, step: Step, patience_s: float) -> None:
        """Do what a step says."""
        match step:
            case bytes():
                await self.send(step)
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case Until(marker):
                while marker not in self.got and not self.is_ended and await self.more(patience_s):
                    pass
            case Trickle(data, every_s):
                await self._trickle(data, every_s)
            case Stall(seconds):
                await self._stall(seconds)
            case Act.HALF:
                self.end()
            case Act.RESET:
                self.reset()
            case _:
                raise AssertionError(step)

    async def _trickle(self, data: bytes, every_s: float) -> None:
        for byte in data:
            if self.is_ended:
                return
            await self.send(bytes((byte,)))
            await asyncio.sleep(every_s)

    async def _stall(self, seconds: float) -> None:
        if self._transport is not None:
            self._transport.pause_reading()
            await asyncio.sleep(seconds)
            with contextlib.suppress(RuntimeError):  # it has gone meanwhile
                self._transport.resume_reading()

    def end(self) -> None:
        """End our direction; the other one goes on."""
        if self._transport is not None and not self._transport.is_closing():
            self._has_ended = True
            with contextlib.suppress(OSError):  # the peer has reset it, and asyncio does not know yet
                self._transport.write_eof()

    def reset(self) -> None:
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
