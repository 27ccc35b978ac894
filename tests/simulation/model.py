"""A small model of the room in plain Python: what each script should answer, and promises 1 to 5 checked on what was seen.

The model keeps the room's clock, credit, places, leases and claims the way `design.md` says. It does not choose whom to call:
the cursor is taken from the server and judged (order, presence, holds). `History` knows nothing of the model: it checks the
promises on the entries alone, so a mistake shared by model and script still shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Final

from gateway.model import PERMIT_UNITS, Code, RoomSettings

SECOND: Final = 1_000_000
SLICE_US: Final = 60 * SECOND
NEVER: Final = 2**53
Answer = tuple[Code, int]


@dataclass(slots=True)
class Entry:
    at_us: int
    id: bytes
    epoch: int
    number: int  # 0: an instant entry without a ticket


@dataclass(slots=True)
class History:
    """What happened at the door, and the settings in force when, on a true clock: a step of the wall clock takes no time."""

    now_us: int = 0
    settings: list[tuple[int, RoomSettings]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    numbers: dict[tuple[int, int], bytes] = field(default_factory=dict)  # (epoch, number) -> whose it is

    def gave(self, epoch: int, number: int, one: bytes) -> None:
        """A number was given: no number twice, and always a higher one."""
        assert (epoch, number) not in self.numbers, f"number {number} was given twice"
        assert all(number > other for other_epoch, other in self.numbers if other_epoch == epoch), "numbers must ascend"
        self.numbers[epoch, number] = one

    def entered(self, entry: Entry) -> None:
        """An entry was granted: the ticket is fresh, and no window up to now holds more than its rate and burst."""
        spent = {(other.epoch, other.number) for other in self.entries if other.number}
        assert (entry.epoch, entry.number) not in spent, f"ticket {entry.number} entered twice"
        self.entries.append(entry)
        for count, first in enumerate(reversed(self.entries), 1):
            allowed = self._earned(first.at_us, entry.at_us)
            assert count <= allowed + 1e-9, f"{count} entries in {entry.at_us - first.at_us} us, {allowed} allowed"

    def _earned(self, from_us: int, to_us: int) -> float:
        """The integral of the rate that operators allowed, and the largest burst set meanwhile."""
        earned, burst = 0.0, 0
        ends = [at_us for at_us, _ in self.settings[1:]] + [NEVER]
        for (start_us, settings), end_us in zip(self.settings, ends, strict=True):
            inside_us = min(to_us, end_us) - max(from_us, start_us)
            if inside_us >= 0:
                earned += inside_us * settings.drain_rate.units_per_us / PERMIT_UNITS
                burst = max(burst, settings.burst)
        return earned + burst


@dataclass(slots=True)
class Model:
    """One room as every gateway should find it."""

    settings: RoomSettings
    session_us: int
    absence_us: int
    at: int
    history: History
    clock: int = 60 * SECOND
    credit: int = 0
    rate: int = 0  # in force: a raise follows in steps
    rate_at: int = 60 * SECOND
    steady: int = 60 * SECOND
    epoch: int = 1
    next: int = 1
    passed: int = 0
    recovering: int = 0
    goal: int = NEVER
    ghost: int = 0
    ghost_until: int = 0
    version: int = 1
    places: dict[bytes, int] = field(default_factory=dict)
    spent: set[int] = field(default_factory=set)
    leases: dict[bytes, int] = field(default_factory=dict)
    heard: dict[int, int] = field(default_factory=dict)  # number -> when, on the room's clock
    heard_slice: dict[int, int] = field(default_factory=dict)  # number -> in which slice of presence
    slice: int = 1
    door: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # id -> number, renewed at
    arrivals: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rate = self.settings.drain_rate.units_per_us
        self.history.settings.append((0, self.settings))

    # --- time, credit, cap ----------------------------------------------------------------------------------------------

    def wake(self, now: int) -> None:
        """A script reads the root: the room's clock moves by at most 1 s, and credit with it."""
        step = now - self.at
        if not 0 <= step <= SECOND:
            step, self.steady = 0, self.clock
        self.at, self.clock = now, self.clock + step
        rate = min(self.rate, self.settings.drain_rate.units_per_us)
        self.credit = min(self.settings.burst * PERMIT_UNITS, self.credit + step * rate)

    def active(self) -> int:
        ghosts = self.ghost if self.clock < self.ghost_until else 0
        return sum(end > self.clock for end in self.leases.values()) + ghosts

    def permits(self) -> int:
        if self.clock < self.recovering or self.settings.paused:
            return 0
        free = [self.credit // PERMIT_UNITS, self.settings.active_max - self.active()]
        if self.settings.stock is not None:
            free.append(self.settings.stock - self.active())
        return max(0, min(free))

    def lease(self, one: bytes) -> bool:
        return self.leases.get(one, 0) > self.clock

    # --- transitions ----------------------------------------------------------------------------------------------------

    def join(self, one: bytes) -> Answer:
        if self.lease(one):
            return Code.ADMITTED, 0
        if one in self.places:
            return self._stand(one)
        if self.settings.stock == 0:
            return Code.SOLD_OUT, 0
        if self.clock < self.recovering or self.arrivals:
            self.arrivals[one] = min(self.at, self.arrivals.get(one, self.at))
            return Code.RECOVERING, 0
        number, self.next = self.next, self.next + 1
        self.history.gave(self.epoch, number, one)
        self.places[one] = number
        return (Code.NEW, self._stand(one)[1]) if number > self.passed else self._stand(one)

    def _stand(self, one: bytes) -> Answer:
        number = self.places[one]
        self._hear(number)
        return (Code.KNOWN if number > self.passed else Code.CALLED), number

    def find(self, one: bytes, number: int, epoch: int) -> Answer:
        if epoch < self.epoch:
            return Code.ENDED, number
        if epoch > self.epoch or number >= self.next:
            return Code.AHEAD, number
        held = self.places.get(one)
        if held is not None and (held <= number or number in self.spent):
            return self._stand(one)
        if self.lease(one) or number in self.spent:
            return (Code.ADMITTED if self.lease(one) else Code.ENDED), number
        if held is not None:
            self.spent.add(held)
        self.places[one] = number
        return self._stand(one)

    def _hear(self, number: int) -> None:
        self.heard[number], self.heard_slice[number] = self.clock, self.slice

    def present(self) -> int:
        return sum(self.heard_slice.get(number, 0) >= self.slice - 1 for number in self.places.values())

    def leave(self, one: bytes, number: int, epoch: int) -> bool:
        self.arrivals.pop(one, None)
        held = self.places.get(one)
        if epoch != self.epoch or number >= self.next or (held is None and number in self.spent):
            return False
        self._remove(one)
        self.spent.add(number)
        return True

    def _remove(self, one: bytes) -> None:
        self.spent.add(self.places.pop(one, 0))
        self.spent.discard(0)
        self.door.pop(one, None)

    def claim(self, tries: list[tuple[bytes, int, int]], withdrawn: list[bytes]) -> list[Code]:
        """The door: who is held, and then the lowest numbers of all that stand there, others' permits kept."""
        answers = [self._judge(one, number, epoch) for one, number, epoch in tries]
        stale = [one for one, (_, renewed) in self.door.items() if renewed <= self.clock - 2 * SECOND]
        for one in [*withdrawn, *stale]:
            self.door.pop(one, None)
        mine = {one for (one, _, _), code in zip(tries, answers, strict=True) if code is Code.HELD}
        for one in mine:
            self.door[one] = self.places[one], self.clock
            self._hear(self.places[one])
        permits, granted = self.permits(), set()
        for one, (number, renewed) in sorted(self.door.items(), key=lambda item: item[1][0]):
            if permits > 0 and one in mine:
                self.enter(one, number, self.session_us)
                granted.add(one)
            if one in mine or self.clock - renewed <= SECOND // 2:
                permits -= 1
        return [Code.ADMITTED if one in granted else code for (one, _, _), code in zip(tries, answers, strict=True)]

    def _judge(self, one: bytes, number: int, epoch: int) -> Code:
        if self.lease(one):
            return Code.ADMITTED
        if epoch != self.epoch:
            return Code.ENDED if epoch < self.epoch else Code.AHEAD
        if number >= self.next:
            return Code.AHEAD
        if one not in self.places:
            return Code.ENDED if number in self.spent else Code.LOST
        return Code.WAITING if self.places[one] > self.passed else Code.HELD

    def enter(self, one: bytes, number: int, lease_us: int) -> None:
        assert self.active() < self.settings.active_max, "promise 2: entered above the cap"
        self._remove(one)
        if number:
            self.spent.add(number)
        self.credit -= PERMIT_UNITS
        self.leases[one] = self.clock + lease_us
        self.history.entered(Entry(self.history.now_us, one, self.epoch, number))

    def change(self, settings: RoomSettings) -> None:
        self.settings, self.version = settings, self.version + 1
        self.rate = min(self.rate, settings.drain_rate.units_per_us)
        self.history.settings.append((self.history.now_us, settings))

    def reset(self, *, void_admissions: bool) -> None:
        self.epoch, self.passed, self.recovering = self.epoch + 1, self.next - 1, self.clock
        for kept in (self.places, self.spent, self.door, self.heard, self.heard_slice, self.arrivals):
            kept.clear()
        if void_admissions:
            self.leases.clear()
            self.ghost = 0

    def lose_everything(self, active: int, now: int) -> None:
        """A flush, healed at once by a gateway that knew all there was: places wait for their tickets."""
        self.at, self.credit, self.steady, self.rate_at = now, 0, self.clock, self.clock
        self.rate = self.settings.drain_rate.units_per_us
        self.goal = self.above()
        self.recovering = self.clock + 120 * SECOND
        self.ghost, self.ghost_until = active, self.clock + self.session_us
        self.next = max(1, self.next) + 9999
        for lost in (self.places, self.leases, self.door, self.heard, self.heard_slice, self.arrivals):
            lost.clear()
        self.slice = self.clock // SLICE_US

    # --- what the drain did, judged -------------------------------------------------------------------------------------

    def ticked(self, passed: int, called: int, parked: int, *, is_down: bool) -> None:
        """The cursor moved: over nobody twice, in order, past nobody who was heard from within a slice."""
        assert passed >= self.passed, "promise 3: the cursor went back"
        walked = [number for number in self.places.values() if self.passed < number <= passed]
        assert len(walked) == called + parked, "promise 3: the cursor moved over places it did not count"
        silent = [n for n in walked if self.heard.get(n, 0) <= self.clock - SLICE_US]
        if self.clock - self.steady < 2 * SLICE_US:
            silent = []
        assert parked <= len(silent), f"promise 3: {parked} parked, only {silent} were silent"
        if is_down or self.clock < self.recovering:
            assert not walked, "nobody is called during a hold, nor while the upstream takes nobody"
        self.passed = passed

    def above(self) -> int:
        return sum(number > self.passed for number in self.places.values())

    def kept_up(self, places: dict[bytes, int]) -> None:
        """Upkeep ran: `places` is the queue as it is now. What is gone was silent for long enough; arrivals have numbers."""
        self.slice = self.clock // SLICE_US
        if self.rate < self.settings.drain_rate.units_per_us and self.clock - self.rate_at >= 6 * SECOND:
            self.rate, self.rate_at = min(self.settings.drain_rate.units_per_us, ceil(self.rate * 1.26)), self.clock
        if self.clock - self.recovering >= -118 * SECOND and self.recovering > self.clock and self.above() >= self.goal:
            self.recovering = self.clock
        self.leases = {one: end for one, end in self.leases.items() if end > self.clock}
        self.door = {one: held for one, held in self.door.items() if held[1] > self.clock - 2 * SECOND}
        if self.recovering <= self.clock:
            for one, _ in sorted(self.arrivals.items(), key=lambda item: (item[1], item[0])):
                if one not in self.places and not self.lease(one):
                    self.history.gave(self.epoch, self.next, one)
                    self.places[one], self.next = self.next, self.next + 1
                    self._hear(self.places[one])
            self.arrivals.clear()
        for one in set(self.places) - set(places):
            number = self.places[one]
            assert number <= self.passed, "promise 5: a place above the cursor was given up"
            assert self.clock - self.heard.get(number, 0) >= self.absence_us, "promise 5: given up before absence_max"
            self._remove(one)
