"""Owns what a room's record proves about promises 1 and 2: nobody entered beyond the rate, or above the cap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.model import PERMIT_UNITS
from gateway.rules.events import Event, entered

LAPSES_TOLD_US: Final = 5_000_000  # a lease that ended is told of within that time: upkeep follows each tick


# --- promise 1 -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Windows:
    """Every window that ends now, by the one that says most: units entered less what the rate allowed since its start.

    Where the burst was lowered, later windows are allowed less than those that reach back before it: one level for each
    burst that is the largest of its window. All whole numbers, so nothing is rounded.
    """

    rate: int = 0
    at_us: int = 0
    levels: list[list[int]] = field(default_factory=list)  # [burst, level], bursts falling

    def limit(self, rate: int, burst: int) -> None:
        level = 0
        while self.levels and self.levels[-1][0] <= burst:
            level = self.levels.pop()[1]
        self.rate = rate
        self.levels.append([burst, level])

    def move(self, at_us: int) -> None:
        earned = self.rate * max(0, at_us - self.at_us)
        self.at_us = at_us
        for one in self.levels:
            one[1] = max(0, one[1] - earned)

    def enter(self, count: int) -> float:
        """Entries beyond what the worst window allows; negative: so much is left."""
        for one in self.levels:
            one[1] += count * PERMIT_UNITS
        return max(level / PERMIT_UNITS - burst for burst, level in self.levels)

    def clear(self) -> None:
        for one in self.levels:
            one[1] = 0


class Rate:
    """Promise 1, in every window: by the room's clock, and by Redis' time as long as that does not step back."""

    promise: Final = 1

    def __init__(self) -> None:
        self._clock, self._redis = Windows(), Windows()
        self._limits: tuple[int, int] | None = None
        self._is_paused = False
        self._last: Event | None = None
        self.fullest = float("-inf")  # the worst window: entries beyond its limit
        self.steps_back = 0

    def forget(self) -> None:
        self._limits, self._is_paused, self._last = None, False, None
        self._clock.levels, self._redis.levels = [], []

    def feed(self, event: Event) -> Iterator[str]:
        self._move(event)
        if event.kind in {"settings", "heal"}:
            self._is_paused = event.figures["paused"] == 1
            self._limit(event)
        if not (count := len(entered(event))):
            return
        if self._is_paused:
            yield f"{count} entered while the room was paused"
        if self._limits not in (None, (event.figures["rate"], event.figures["burst"])):
            yield "the door went by another rate or burst than the last change had set"
        self._limit(event)
        for windows, by in ((self._clock, "the room's clock"), (self._redis, "Redis' time")):
            excess = windows.enter(count)
            self.fullest = max(self.fullest, excess)
            if excess > 0:
                windows.clear()  # else all that follow would be told again
                yield f"{excess:.3f} entries too many in a window that ends here, by {by}"
                return

    def _limit(self, event: Event) -> None:
        limits = event.figures["rate"], event.figures["burst"]
        if limits != self._limits:
            self._limits = limits
            self._clock.limit(*limits)
            self._redis.limit(*limits)

    def _move(self, event: Event) -> None:
        last, self._last = self._last, event
        if last is None or event.kind == "heal":  # the room's clock may go on from an older board
            self._clock.at_us = event.clock_us
        if last is None or event.at_us - last.at_us < event.clock_us - last.clock_us:  # Redis' time stepped back
            self.steps_back += last is not None
            self._redis.clear()
            self._redis.at_us = event.at_us
        self._clock.move(event.clock_us)
        self._redis.move(event.at_us)


# --- promise 2 -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Doubt:
    """The door counted fewer slots than the record knows: unless leases turn out to have lapsed by then."""

    seq: int
    clock_us: int
    said: int
    excess: int


class Cap:
    """Promise 2: no entry above the cap, and the door counts every slot that the record knows to be taken."""

    promise: Final = 2

    def __init__(self) -> None:
        self._open: dict[str, int] = {}  # id -> number of the event that opened its slot
        self._cap: int | None = None
        self._doubts: list[_Doubt] = []
        self.most = 0

    def forget(self) -> None:
        self._open, self._cap, self._doubts = {}, None, []

    def feed(self, event: Event) -> Iterator[str]:
        if event.kind == "heal":
            self.forget()  # what was lost, the door makes up for by the last known count (`active`)
        yield from self._resolve(event.clock_us)
        if event.kind in {"settings", "heal"}:
            self._cap = event.figures["active_max"]
        self._end(event)
        count = len(entered(event))
        if count:
            yield from self._judge(event, count)
        for one in (*entered(event), *event.ids.get("back", ())):
            if (since := self._open.pop(one, None)) is not None:
                self._lapse(since, 0)  # it had lapsed, and nobody had told yet when
            self._open[one] = event.seq

    def _judge(self, event: Event, count: int) -> Iterator[str]:
        active, cap = event.figures["active"], event.figures["active_max"]
        self.most = max(self.most, active + count)
        if self._cap not in (None, cap):
            yield "the door went by another cap than the last change had set"
        self._cap = cap
        if active + count > cap:
            yield f"{count} entered while {active} of {cap} slots were taken"
        mine = len(self._open) - sum(one in self._open for one in entered(event))
        if mine > active:
            self._doubts.append(_Doubt(event.seq, event.clock_us, active, mine - active))

    def _end(self, event: Event) -> None:
        for one, end_us in zip(event.ids.get("lapsed", ()), event.lists.get("lapsed_at_us", ()), strict=True):
            if (since := self._open.pop(one, None)) is not None:
                self._lapse(since, end_us)
        for one in event.ids.get("released", ()):
            self._open.pop(one, None)
        if event.kind == "reset" and event.figures["voids_admissions"]:
            self._open.clear()

    def _lapse(self, since: int, end_us: int) -> None:
        """A slot was over before it was told of: who counted after its end did well not to count it."""
        for doubt in self._doubts:
            doubt.excess -= since < doubt.seq and end_us <= doubt.clock_us
        self._doubts = [doubt for doubt in self._doubts if doubt.excess > 0]

    def _resolve(self, clock_us: int) -> Iterator[str]:
        for doubt in self._doubts:
            if clock_us - doubt.clock_us > LAPSES_TOLD_US:
                yield (
                    f"event {doubt.seq}: the door counted {doubt.said} slots, the record knows "
                    f"{doubt.said + doubt.excess} that were taken"
                )
        self._doubts = [doubt for doubt in self._doubts if clock_us - doubt.clock_us <= LAPSES_TOLD_US]
