"""The loops that keep a room moving: ticks, the board, marks and touches, held claims, and healing after a loss.

Theory of operation
    Every gateway runs the same loops for every room; there is no leader. The script decides who does the work: the first
    gateway that asks after a step is due does it, the others are told when to ask again. A gateway that dies therefore
    stops nothing, and a tick that is late is made up for by the next. Nothing here holds state of the room: all of it is in
    Redis, and what a loop needs it reads anew. When Redis fails a loop backs off to 2 s; when Redis does not know the
    room the board loop heals it from this gateway's memory and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, assert_never

from gateway.errors import Unknown, Unreachable
from gateway.queue.room import RoomQueue
from gateway.queue.store import Healing
from gateway.tasks import Owner

log = logging.getLogger("waitroom.drain")

BOARD_S: Final = 0.25
MARKS_S: Final = 1.0
RELEASES_S: Final = 0.2  # every gateway refuses a released admission within 1 s
BACKOFF_S: Final = (0.1, 2.0)
TICK_MIN_S: Final = 0.005  # between two scripts that stopped at their limit: others get a turn


class Events(Protocol):
    """What the loops tell the metrics."""

    def ticked(self, room: str, called: int) -> None: ...

    def kept_up(self, room: str, lapsed: int, no_shows: int, expired: int) -> None: ...

    def released(self, room: str, count: int) -> None: ...

    def beat(self, queue: RoomQueue, seconds: float, *, is_upstream_up: bool) -> None: ...

    def failed_loop(self, room: str) -> None: ...


class Drain:
    """Runs the loops of one room until its owner closes them. `is_upstream_up` says whether the room's bank takes anybody."""

    def __init__(self, queue: RoomQueue, is_upstream_up: Callable[[], bool], events: Events) -> None:
        self._queue = queue
        self._is_upstream_up = is_upstream_up
        self._events = events
        self._beat_at_s = queue.clock.monotonic()

    def start(self, owner: Owner) -> None:
        room = self._queue.room.id
        owner.start(self._forever(self._board), f"board {room}")
        owner.start(self._forever(self._tick), f"drain {room}")
        owner.start(self._forever(self._marks), f"marks {room}")
        owner.start(self._forever(self._releases), f"releases {room}")
        owner.start(self._forever(self._queue.claims.step), f"claims {room}")

    async def _forever(self, step: Callable[[], Awaitable[float]]) -> None:
        """Run `step` again and again; it answers how many seconds to wait. Ends only when cancelled."""
        backoff_s, room = BACKOFF_S[0], self._queue.room.id
        while True:
            try:
                wait_s = await step()
                backoff_s = BACKOFF_S[0]
            except Unreachable as fault:
                wait_s, backoff_s = backoff_s, min(BACKOFF_S[1], backoff_s * 2)
                if wait_s == BACKOFF_S[0]:
                    log.warning("redis_unreachable", extra={"room": room, "fault": str(fault)})
            except Exception:
                wait_s, backoff_s = backoff_s, min(BACKOFF_S[1], backoff_s * 2)
                log.exception("loop_failed", extra={"room": room})
                self._events.failed_loop(room)
            await asyncio.sleep(wait_s)

    async def _board(self) -> float:
        queue, now_s = self._queue, self._queue.clock.monotonic()
        try:
            if queue.needs_heal:
                self._tell(await queue.heal())
            await queue.publish()
            await queue.census()
            await queue.read_board()
        except Unknown:
            queue.needs_heal = True
            raise
        finally:
            self._events.beat(queue, now_s - self._beat_at_s, is_upstream_up=self._is_upstream_up())
            self._beat_at_s = now_s
        return BOARD_S

    def _tell(self, done: Healing | None) -> None:
        facts = {"room": self._queue.room.id, "epoch": self._queue.memory.epoch}
        match done:
            case Healing.HEALED:
                log.warning("room_healed", extra=facts)
            case Healing.CONTINUED:
                log.info("room_continued", extra=facts)
            case Healing.MADE:
                log.info("room_made", extra=facts)
            case None:
                pass
            case _:
                assert_never(done)

    async def _tick(self) -> float:
        queue = self._queue
        if queue.needs_heal:
            return BOARD_S
        queue.claims.is_shut = not self._is_upstream_up()
        ticked = await queue.store.tick(is_upstream_down=queue.claims.is_shut)
        self._events.ticked(queue.room.id, ticked.called)
        if not ticked.is_early:
            await self._keep_up()
        return max(TICK_MIN_S, ticked.due_us / 1e6)

    async def _keep_up(self) -> None:
        queue = self._queue
        while True:
            done = await queue.store.upkeep()
            self._events.kept_up(queue.room.id, done.lapsed, done.no_shows, done.expired)
            if not done.is_more:
                return
            await asyncio.sleep(TICK_MIN_S)

    async def _marks(self) -> float:
        await self._queue.flush_marks()
        await self._queue.bypassed.flush()
        return MARKS_S

    async def _releases(self) -> float:
        await self._queue.flush_releases()
        self._events.released(self._queue.room.id, self._queue.take_freed())
        return RELEASES_S
