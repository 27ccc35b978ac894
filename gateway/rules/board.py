"""What a room publishes about itself, and what follows from it without asking Redis: positions, expected times, states.

The census is counted in Redis once for all gateways (`census.lua`). Ranks are the numbers found at fixed ranks: 1 to 100,
then every 1 % further, so a position interpolated between two of them errs by at most 1 % of itself. Leavers may have
left in a clump, and a position interpolated from a later board could then grow; a `Board` therefore keeps the ranks before
the newest and answers with the smaller of the two.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Final, Self

from gateway.model import PERMIT_UNITS, RoomSettings, RoomState

FIELDS: Final = (
    *("reason", "permits", "kappa", "throughput", "waiting", "below", "called", "held", "young", "active", "left_us"),
    *(
        "show_up",
        "version",
        "settings",
        "rate",
        "stock",
        "now",
        "epoch",
        "next",
        "passed",
        "clock",
        "present",
        "entries",
    ),
    *(
        "instants",
        "calls",
        "no_shows",
        "lapsed",
        "left",
        "expired",
        "joins",
        "admission_epoch",
        "release_seq",
        "heals",
        "events",
        "reported",
    ),
    "ranks",
)
EXACT_RANKS: Final = 100
RANK_STEP: Final = 1.01
STALE_AFTER_S: Final = 2.0  # eight readings missed


@dataclass(frozen=True, slots=True)
class Census:
    """The counts of one moment, by Redis. Times in microseconds, rates in units a microsecond, shares in thousandths."""

    reason: str  # what holds the door: rate (nothing else), cap, stock, paused, recovering, scheduled, closed
    permits: int
    kappa: int
    throughput: int
    waiting: int
    below: int
    called: int
    held: int
    young: int
    active: int
    left_us: int
    show_up: int
    version: int
    settings: int
    rate: int
    stock: int
    now: int
    epoch: int
    next: int
    passed: int
    clock: int
    present: int
    entries: int
    instants: int
    calls: int
    no_shows: int
    lapsed: int
    left: int
    expired: int
    joins: int
    admission_epoch: int
    release_seq: int
    heals: int
    events: int
    reported: int
    ranks: int

    @classmethod
    def parse(cls, values: Sequence[bytes | None]) -> Self:
        """Read the reply of `read.lua`, which asked for `FIELDS` in order; a board never written is all zeros."""
        reason = (values[0] or b"rate").decode()
        return cls(reason, *(int(float(value or 0)) for value in values[1:]))

    def is_newer_than(self, other: Census) -> bool:
        """Counted later, by the same server: across epochs and losses the order of arrival decides."""
        is_comparable = self.epoch == other.epoch and self.heals == other.heals
        return is_comparable and self.version > other.version

    @property
    def parked(self) -> int:
        return max(0, self.below - self.called)

    @property
    def rate_per_s(self) -> float:
        return self.rate * 1e6 / PERMIT_UNITS


@dataclass(frozen=True, slots=True)
class Ranks:
    """Numbers at ascending ranks among the places above `passed`, at one moment."""

    version: int
    next_number: int
    passed: int
    numbers: tuple[int, ...]
    ranks: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `census.lua` wrote: waiting, version, next, passed, then the numbers. Empty text: nobody waits."""
        if not text:
            return cls(0, 0, 0, (), ())
        waiting, version, next_number, passed, *numbers = map(int, text.split())
        return cls(version, next_number, passed, tuple(numbers), fixed_ranks(waiting))

    def rank(self, number: int) -> float:
        """Interpolated rank of a number, as if it were in the queue; 0 before the first place."""
        numbers, ranks = self.numbers, self.ranks
        i = bisect_left(numbers, number)
        if i == len(numbers):
            return float(ranks[-1]) if ranks else 0.0
        high_number, high_rank = numbers[i], ranks[i]
        if high_number == number:
            return float(high_rank)
        low_rank, low_number = (ranks[i - 1], numbers[i - 1]) if i else (0, self.passed)
        share = (number - low_number) / (high_number - low_number) if number > low_number else 0.0
        return low_rank + share * (high_rank - low_rank)

    def under(self, before: Ranks | None) -> Ranks:
        """These ranks, nowhere above what was shown from `before`: an exact rank between two old points may be higher than
        what was interpolated there, and a position that has been shown must not grow.

        Both are straight between their points, so the smaller of the two at the points of both bounds them everywhere. An
        old point at which the new ranks are the smaller ones changes nothing and is left out, so the points stay few. The
        bound on the error comes first: where a fast cursor made the old ranks err by more, they do not count.
        """
        if before is None or not before.numbers or not self.numbers:
            return self
        moved = before.moved(self.passed)
        points = {number: float(rank) for number, rank in zip(self.numbers, self.ranks, strict=True)}
        for number in before.numbers:
            if self.passed < number < self.numbers[-1]:
                points.setdefault(number, self.rank(number))
        shown = set(self.numbers)
        capped = []
        for number, rank in sorted(points.items()):
            cap = before.rank(number) - moved if number < before.next_number else rank
            if number in shown or cap < rank:
                capped.append((number, min(rank, max(cap, rank - max(1.0, rank * (RANK_STEP - 1))))))
        return replace(self, numbers=tuple(n for n, _ in capped), ranks=tuple(rank for _, rank in capped))

    def moved(self, passed: int) -> float:
        """How many of these places the cursor has gone by since the ranks were read, now that it stands at `passed`."""
        return self.rank(passed) if passed > self.passed else 0.0


def fixed_ranks(waiting: int) -> tuple[int, ...]:
    """The ranks `census.lua` looks at: 1 to 100, then every 1 % further, and the last."""
    ranks = list(range(1, min(waiting, EXACT_RANKS) + 1))
    rank = EXACT_RANKS
    while rank < waiting:
        rank = min(waiting, ceil(rank * RANK_STEP))
        ranks.append(rank)
    return tuple(ranks)


@dataclass(frozen=True, slots=True)
class Board:
    """All a gateway needs to answer a poll: the census, its ranks and the ones before, and the settings in force."""

    census: Census
    ranks: Ranks
    earlier: Ranks
    settings: RoomSettings
    read_at_s: float  # monotonic, of the gateway
    moved: float = field(init=False)  # places passed since `ranks`, and since `earlier`, were read
    earlier_moved: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "moved", self.ranks.moved(self.census.passed))
        object.__setattr__(self, "earlier_moved", self.earlier.moved(self.census.passed))

    def knows(self, number: int, epoch: int) -> bool:
        """Whether a ticket can be answered from this board alone."""
        census = self.census
        return census.passed < number < self.ranks.next_number and epoch == census.epoch and census.left_us == 0

    def position(self, number: int) -> int:
        """Place of a number above `passed` among those above it: 1 is next."""
        rank = self.ranks.rank(number) - self.moved
        if number < self.earlier.next_number:
            before = self.earlier.rank(number) - self.earlier_moved
            rank = min(rank, before)
        return int(rank + 0.5) or 1 if rank > 0 else 1

    def expected_s(self, position: int) -> float:
        """Seconds until a place at `position` enters, as if the room were open (`design.md` section 6)."""
        census = self.census
        before = census.held + census.young * census.show_up / 1000 + position * census.kappa / 1000
        return before / max(census.rate_per_s, 1e-9)

    def room_state(self, waiting_max: int) -> RoomState:
        """What the door would say to a newcomer now; `unreachable` is the caller's to know."""
        match self.census:
            case Census(reason="recovering"):
                return RoomState.RECOVERING
            case Census(reason="closed"):
                return RoomState.CLOSED
            case Census(stock=0):
                return RoomState.SOLD_OUT
            case Census(reason="paused"):
                return RoomState.PAUSED
            case Census(reason="scheduled"):
                return RoomState.SCHEDULED
            case Census(present=present) if present >= waiting_max:
                return RoomState.FULL
            case Census(waiting=0, held=0, young=0, permits=permits) if permits > 0:
                return RoomState.IDLE
            case _:
                return RoomState.QUEUEING
