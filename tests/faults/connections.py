"""Connections that thousands of visitors have in common, to whichever gateways are up: a crowd that waits is cheap to play."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from tests.serving import Line, Reply

PATIENCE_S: Final = 60.0  # how slow a busy machine may be; that a call hangs for good must show
AT_ONCE_MAX: Final = 64  # but for claims, which gateways hold: a machine that is slow must not be asked ever more


class Connections:
    """Each request goes to the next of `ports`, on a connection that is open and idle, else on a new one.

    As a balancer does, it passes over a gateway that refuses the connection: nothing has been sent yet. Nothing is repeated.
    """

    def __init__(self, ports: Callable[[], Sequence[int]]) -> None:
        self._ports = ports
        self._idle: dict[int, list[Line]] = defaultdict(list)
        self._turn = 0
        self._gate = asyncio.Semaphore(AT_ONCE_MAX)

    async def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: str = "") -> Reply:
        """One answer. Raises OSError or EOFError when the connection ended before it."""
        is_held = target.endswith("/admission")
        gate: AbstractAsyncContextManager[None] = nullcontext() if is_held else self._gate
        async with gate:
            return await self._ask(method, target, headers, body)

    async def _ask(self, method: str, target: str, headers: dict[str, str] | None, body: str) -> Reply:
        self._turn += 1
        ports = self._ports()
        first = self._turn % len(ports)
        refused: ConnectionRefusedError | None = None
        for port in (*ports[first:], *ports[:first]):
            line = self._take(port)
            try:
                reply = await line.ask(method, target, headers, body)
            except ConnectionRefusedError as fault:
                refused = fault
                continue
            except asyncio.CancelledError:
                line.close()
                raise
            if line.is_open:
                self._idle[port].append(line)
            return reply
        assert refused is not None
        raise refused

    def _take(self, port: int) -> Line:
        idle = self._idle[port]
        while idle:
            line = idle.pop()
            if line.is_open:
                return line
            line.close()
        return Line(port, PATIENCE_S)

    def close(self) -> None:
        """A visitor has done with its turn: what is idle is there for the next."""

    def end(self) -> None:
        for lines in self._idle.values():
            for line in lines:
                line.close()
        self._idle.clear()
