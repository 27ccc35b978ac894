"""Breaks the wire to Redis by seed: commands dropped, replies delayed, halved or withheld, connections reset, the whole stalled.

What happens to the n-th script of the m-th connection follows from the seed alone. A reply that is withheld or halved is that of
a command which has run: the case that asks whether every call can be made again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Self

LINE_MAX: Final = 2**20
SCRIPT: Final = b"\r\nEVAL"
HEAD_BYTES: Final = 24  # "*<count>\r\n$<size>\r\n" and the command's name


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances per script, of 1, and how long every reply is late. At most one of the chances comes true."""

    drop: float = 0.0  # the command never arrives, and the connection ends
    withhold: float = 0.0  # it runs, and its reply never comes: the connection hangs
    halve: float = 0.0  # it runs, and the connection ends inside the reply
    reset: float = 0.0  # it runs, and the connection ends before the reply
    delay_ms: tuple[float, float] = (0.0, 0.0)

    def choose(self, random: Random) -> str:
        drawn = random.random()
        for name in ("drop", "withhold", "halve", "reset"):
            drawn -= getattr(self, name)
            if drawn < 0:
                return name
        return "pass"


CALM: Final = Faults()


class FaultProxy:
    """A server on a socket of its own before the one at `target`. `faults` may be set at any time; `done` counts what it did."""

    def __init__(self, target: Path, socket: Path, seed: int) -> None:
        self._target, self._socket, self._seed = target, socket, seed
        self.faults = CALM
        self.done: Counter[str] = Counter()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._sessions: set[asyncio.Task[None]] = set()
        self._count = 0

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def stall(self, seconds: float) -> None:
        """Nothing passes, either way; nobody is told."""
        self._flowing.clear()
        self.done["stall"] += 1
        await asyncio.sleep(seconds)
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._sessions.add(session)
        self._count += 1
        random = Random(f"{self._seed} {self._count}")
        there: asyncio.StreamWriter | None = None
        try:
            source, there = await asyncio.open_unix_connection(self._target, limit=LINE_MAX)
            while await self._exchange(reader, writer, source, there, random):
                pass
        except (OSError, EOFError):
            pass
        finally:
            self._sessions.discard(session)
            for one in (writer, there):
                if one is not None:
                    one.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: asyncio.StreamReader,
        there: asyncio.StreamWriter,
        random: Random,
    ) -> bool:
        """One command and its reply; false when the connection is to end."""
        command = await read_frame(reader)
        await self._flowing.wait()
        faults = self.faults
        # What a connection says before its first script is no transition, and would only make the losses more than told.
        fate = faults.choose(random) if SCRIPT in command[:HEAD_BYTES] else "pass"
        late_s = random.uniform(*faults.delay_ms) / 1e3
        self.done[fate] += 1
        if fate == "drop":
            return False
        there.write(command)
        reply = await read_frame(source)
        self.done["delay"] += late_s > 0
        await asyncio.sleep(late_s)
        await self._flowing.wait()
        if fate == "withhold":
            await reader.read()  # until the other side has had enough
        if fate == "halve":
            writer.write(reply[: len(reply) // 2])
            with suppress(OSError):
                await writer.drain()
        if fate != "pass":
            return False
        writer.write(reply)
        await writer.drain()
        return True


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """One value of RESP 2 or 3, whole, as it came. Raises EOFError at the end of the connection."""
    head = await reader.readuntil(b"\r\n")
    kind = head[:1]
    if kind in b"$!=":
        size = int(head[1:])
        return head if size < 0 else head + await reader.readexactly(size + 2)
    if kind in b"*~>%|":
        count = max(0, int(head[1:])) * (2 if kind in b"%|" else 1)
        return head + b"".join([await read_frame(reader) for _ in range(count)])
    return head
