"""Gathers what one turn of the event loop asks of a script into one call, and bounds what may wait for an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from gateway.errors import Crowded, Unreachable
from gateway.tasks import Owner

BATCH_MAX: Final = 250  # elements a script: about 2 ms of Redis, half of what promise 15 allows
PENDING_MAX: Final = 10_000  # a second of the fastest joins: refuse rather than queue
WAIT_MAX_S: Final = 5.0  # and while each call takes long, until it is sent: who is answered later has asked again
NEWCOMERS_MAX: Final = 5_000  # the other half is for those who have a place
IN_FLIGHT_MAX: Final = 1  # one in Redis, one on the wire

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """`submit(item)` answers with that item's result. `send` gets <= BATCH_MAX items and returns as many results.

    The call itself belongs to `owner`, not to the request that caused it: a client that goes away cancels its own wait,
    never a script that others share (cancelled EVALSHA run all the same, `facts.md`).
    """

    def __init__(self, send: Callable[[Sequence[T]], Awaitable[Sequence[R]]], owner: Owner, name: str) -> None:
        self._send = send
        self._owner = owner
        self._name = name
        self._pending: deque[tuple[T, asyncio.Future[R], float]] = deque()
        self._in_flight = 0
        self._is_due = False

    async def submit(self, item: T, ahead_max: int = PENDING_MAX) -> R:
        """Raises Unreachable when Redis fails, Crowded when `ahead_max` wait for it already, or it has waited too long."""
        if len(self._pending) >= ahead_max:
            raise Crowded(f"{self._name}: {ahead_max} already wait for Redis")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._pending.append((item, future, loop.time()))
        if not self._is_due and self._in_flight < IN_FLIGHT_MAX:
            self._is_due = True
            loop.call_soon(self._flush)
        return await future

    def _flush(self) -> None:
        self._is_due = False
        late_s = asyncio.get_running_loop().time() - WAIT_MAX_S
        while self._pending and self._in_flight < IN_FLIGHT_MAX:
            batch: list[tuple[T, asyncio.Future[R]]] = []
            while self._pending and len(batch) < BATCH_MAX:
                item, future, asked_s = self._pending.popleft()
                if future.done():  # its request has gone: nothing to ask
                    continue
                if asked_s < late_s:
                    future.set_exception(Crowded(f"{self._name}: waited {WAIT_MAX_S:g} s for Redis"))
                else:
                    batch.append((item, future))
            if batch:
                self._in_flight += 1
                call = self._owner.start(self._call(batch), f"batch {self._name}")
                call.add_done_callback(partial(self._ended, batch))

    async def _call(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._send([item for item, _ in batch])
        except Unreachable as fault:
            # Who waits behind would meet the same a second later: nobody stands in line for a Redis that does not answer.
            behind = [(item, future) for item, future, _ in self._pending]
            self._pending.clear()
            self._fail(batch + behind, fault)
            return
        assert len(results) == len(batch), f"{self._name}: {len(batch)} items, {len(results)} results"
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _ended(self, batch: list[tuple[T, asyncio.Future[R]]], _: asyncio.Task[None]) -> None:
        """However the call ended, cancelled before its first step too: nobody is left waiting, and the next may go."""
        self._fail(batch, Unreachable(f"{self._name}: the call was given up"))
        self._in_flight -= 1
        self._flush()

    @staticmethod
    def _fail(batch: list[tuple[T, asyncio.Future[R]]], fault: Unreachable) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(type(fault)(*fault.args))
