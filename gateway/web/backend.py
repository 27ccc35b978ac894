"""Owns one upstream as this process sees it: its URLs, its shares of requests in flight, its health."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from gateway.model import Upstream
from gateway.tasks import Owner
from gateway.web.pool import Failure, Link, Pool, Tally

log = logging.getLogger("waitroom")

ILL_STATUS: Final = frozenset((500, 502, 503, 504))  # answers that count against an upstream, not against its URL
OUT_FIRST_S: Final = 1.0
OUT_MAX_S: Final = 8.0


class Share:
    """A limit on requests in flight with a short line before it: as many may wait as may go, in order of arrival."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._line: deque[asyncio.Future[bool]] = deque()

    @property
    def is_free(self) -> bool:
        return self.used < self.limit and not self._line

    async def take(self, timeout_s: float) -> bool:
        if self.is_free:
            self.used += 1
            return True
        if len(self._line) >= self.limit:
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._line.append(turn)
        late = loop.call_later(timeout_s, _refuse, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.give()
            raise
        finally:
            late.cancel()
            if turn in self._line:
                self._line.remove(turn)

    def give(self) -> None:
        while self._line and self.used <= self.limit:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(True)  # the place is handed on: `used` stays
                return
        self.used -= 1


def _refuse(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)


class Backend:
    """One upstream as this process sees it: its URLs, its shares, its health."""

    def __init__(self, upstream: Upstream, owner: Owner) -> None:
        self.upstream = upstream
        self._owner = owner
        self._pools = [Pool(url, upstream.connect_timeout_s, upstream.ca) for url in upstream.urls]
        self._turn = 0
        self._tally = Tally()
        self.share = Share(upstream.max_in_flight)
        self._rooms: dict[str, Share] = {}

    def enter_at_once(self, room: str | None, room_in_flight_max: int) -> list[Share] | None:
        """The shares a request now holds; None if it must wait for one in `enter`."""
        shares = self._shares(room, room_in_flight_max)
        for share in shares:
            if not share.is_free:
                return None
        for share in shares:
            share.used += 1
        return shares

    def _shares(self, room: str | None, room_in_flight_max: int) -> list[Share]:
        """The room's own comes first: its crowd waits for itself, not in the line that all routes share."""
        if room is None:
            return [self.share]
        own = self._rooms.get(room)
        if own is None:
            own = self._rooms[room] = Share(room_in_flight_max)
        own.limit = room_in_flight_max
        return [own, self.share]

    async def enter(self, room: str | None, room_in_flight_max: int) -> list[Share]:
        """The shares a request now holds. Raises Failure if it had to wait too long, by whose share it was."""
        shares = self._shares(room, room_in_flight_max)
        held: list[Share] = []
        try:
            for share in shares:
                if not await share.take(self.upstream.connect_timeout_s):
                    self.leave(held)
                    raise Failure("busy" if share is self.share else "room_busy")
                held.append(share)
        except asyncio.CancelledError:
            self.leave(held)
            raise
        return held

    @staticmethod
    def leave(shares: Iterable[Share]) -> None:
        for share in shares:
            share.give()

    async def link(self, pools: list[Pool], rest_max_s: float) -> tuple[Pool, Link]:
        """A connection to the first of these URLs that gives one; nothing has been sent yet, so the next may be tried."""
        failure = Failure("refused")
        for pool in pools:
            if link := pool.take(rest_max_s, asyncio.get_running_loop().time()):
                return pool, link
            try:
                return pool, await pool.open()
            except Failure as fault:
                failure = fault
                self._put_out(pool)
        raise failure

    def order(self) -> list[Pool]:
        """The URLs that are well, or else all, the one with the least to do first."""
        if len(self._pools) == 1:
            return self._pools
        self._turn = (self._turn + 1) % len(self._pools)
        pools = self._pools[self._turn :] + self._pools[: self._turn]
        well = [pool for pool in pools if not pool.is_out]
        return sorted(well or pools, key=lambda pool: pool.in_flight)

    def record(self, pool: Pool | None, now_s: float, kind: str | None, status: int = 0) -> None:
        """How an exchange ended: None is well, whatever the status says about the application."""
        self._tally.add(kind is None and status not in ILL_STATUS, now_s)
        if pool is not None:
            pool.tally.add(kind is None, now_s)
            if kind is not None and pool.tally.is_ill(now_s):
                self._put_out(pool)

    @property
    def is_healthy(self) -> bool:
        now = asyncio.get_running_loop().time()
        return not all(pool.is_out for pool in self._pools) and not self._tally.is_ill(now)

    def _put_out(self, pool: Pool) -> None:
        if not pool.is_out:
            pool.is_out = True
            log.warning("upstream_url_out", extra={"upstream": self.upstream.name, "url": pool.url})
            self._owner.start(self._bring_back(pool), f"probe {self.upstream.name}")

    async def _bring_back(self, pool: Pool) -> None:
        delay_s = OUT_FIRST_S
        while True:
            await asyncio.sleep(delay_s)
            if await pool.answers():
                break
            delay_s = min(delay_s * 2, OUT_MAX_S)
        pool.tally.clear()
        pool.is_out = False
        log.warning("upstream_url_back", extra={"upstream": self.upstream.name, "url": pool.url})

    def close(self) -> None:
        for pool in self._pools:
            pool.close()
