"""Owns what a run is judged by: the places and admissions of its visitors, what is counted, and the last words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from gateway.demo.figures import DoorPass, overtaken_at_door
from locustfiles.waiting import Answer, Outcome

DOOR_SLACK_S: Final = (
    0.25  # between a claim or a grant and the moment its visitor sees it; a process's lag comes on top
)
LEASE_MARGIN_S: Final = 1.0  # lapse is told in whole seconds


class Count(StrEnum):
    """Rows of the kind VISIT beside the outcomes, each with what it counts as its name."""

    ARRIVED = "arrived"
    ENTERED = "entered"
    AT_ONCE = "entered at once"  # without having joined
    TOLD = "entered, and had been told a time"
    BY_P50 = "entered by the told p50"
    BY_P90 = "entered by the told p90"
    WRONGLY_REFUSED = "wrongly refused"
    LOST_PLACES = "lost places"


class Wait(StrEnum):
    """Rows of the kind WAIT: what was waited, and what had been told; the first also per kind of visitor."""

    UNTIL_ENTRY = "until entry"
    SINCE_TOLD = "since a time was told"
    TOLD_P50 = "told as p50"
    TOLD_P90 = "told as p90"


class Lost(StrEnum):
    """How a place can be lost."""

    NUMBER = "its number changed"
    POSITION = "its position grew without a cause"
    OVER = "it was over before its visitor had been let in"


@dataclass(slots=True)
class Seat:
    """The number that one key found, and whether it was used; all tabs of a browser share it."""

    number: int | None = None
    has_entered: bool = False


@dataclass(slots=True)
class Place:
    """A place as one tab was told of it."""

    seat: Seat
    position: int | None = None
    is_stale: bool = False
    as_of: str = ""

    def note(self, status: Mapping[str, Any]) -> Lost | None:
        """What is wrong with this status, after those before it (promises 4 and 5)."""
        number, position = status.get("number"), status.get("position")
        was, was_stale = self.position, self.is_stale
        self.is_stale = bool(status.get("stale"))
        if isinstance(number, int):
            had, self.seat.number = self.seat.number, number
            if had not in {None, number}:
                self.position = position if isinstance(position, int) else None
                return Lost.NUMBER
        # Gateways read the board at moments of their own: who asks the next one within a quarter of a second may see an
        # older picture after a newer one. All stamps are of one form, so that they sort as text.
        as_of = str(status.get("as_of") or "")
        if not isinstance(position, int) or as_of < self.as_of:
            return None
        self.position, self.as_of = position, as_of
        # Between two stale answers it may grow: gateways last heard from Redis at different moments.
        is_judged = was is not None and not status.get("cause") and not (was_stale and self.is_stale)
        return Lost.POSITION if is_judged and was is not None and position > was else None


@dataclass(frozen=True, slots=True)
class Told:
    """The first expected time a visitor was shown, in seconds from then."""

    at_s: float
    p50_s: float
    p90_s: float


def told_by(status: Mapping[str, Any], now_s: float) -> Told | None:
    match status.get("eta"):
        case {"p50_s": int() | float() as p50_s, "p90_s": int() | float() as p90_s}:
            return Told(now_s, p50_s, p90_s)
        case _:
            return None


@dataclass(slots=True)
class Admission:
    """From when until when a visitor knows that it is admitted, on its own clock; until 0 is not."""

    since_s: float = 0.0
    until_s: float = 0.0

    def note(self, answer: Answer, now_s: float) -> None:
        """Every admitted answer says how long the lease lasts; a grant says when it ends."""
        lease = answer.headers.get("waitroom-lease", "")
        if lease.isdecimal():
            lease_s = float(lease)
        elif answer.body.get("state") == "admitted":
            lease_s = _lease_s(answer.body)
        else:
            return
        if now_s >= self.until_s:
            self.since_s = now_s
        self.until_s = now_s + lease_s

    def is_wrongly_refused(self, answer: Answer, asked_s: float) -> bool:
        """A request sent well within the lease was answered as if there were none (promise 7).

        Not one that another tab had sent before this one was let in, and whose answer came after.
        """
        is_within = self.since_s <= asked_s < self.until_s - LEASE_MARGIN_S
        return is_within and (answer.is_held or answer.status in {403, 429})


def _lease_s(status: Mapping[str, Any]) -> float:
    try:
        until, now = (datetime.fromisoformat(str(status.get(name))) for name in ("lease_until", "now"))
    except ValueError:
        return 0.0
    return (until - now).total_seconds()


@dataclass(frozen=True, slots=True)
class Figures:
    """A whole run. Waits are (p50, p90) in seconds, `passes` one list for each machine, as each has its own clock;
    `lag_s` is how late a process of the crowd came to its turn.
    """

    counts: Mapping[str, int]
    waits: Mapping[str, tuple[float, float]]
    passes: Sequence[Sequence[DoorPass]]
    lag_s: float

    @property
    def under_way(self) -> int:
        return self._of(Count.ARRIVED) - sum(self._of(outcome) for outcome in Outcome)

    @property
    def overtaken(self) -> int:
        """Claims at the door while a higher number was let in, as far as this crowd's clocks can tell (promise 3)."""
        return sum(overtaken_at_door(seen, DOOR_SLACK_S + self.lag_s) for seen in self.passes)

    def rows(self) -> Iterator[tuple[str, str]]:
        """What is told at the end, as name and value."""
        for name in (Count.ARRIVED, Count.ENTERED, Count.AT_ONCE, *Outcome):
            yield name, f"{self._of(name)}"
        yield "still under way", f"{self.under_way}"
        for wait in Wait:
            waited = self.waits.get(wait)
            yield f"wait {wait}", f"p50 {waited[0]:.1f} s, p90 {waited[1]:.1f} s" if waited else "nobody"
        told = self._of(Count.TOLD)
        for name in (Count.BY_P50, Count.BY_P90):
            yield name, f"{self._of(name) / told:.0%} of {told}" if told else "nobody was told a time"
        yield Count.WRONGLY_REFUSED, f"{self._of(Count.WRONGLY_REFUSED)}"
        yield Count.LOST_PLACES, f"{self._of(Count.LOST_PLACES)}"
        yield "overtaken at the door", f"{self.overtaken} of {sum(map(len, self.passes))} claims seen"
        yield "the crowd's own lag", f"{self.lag_s:.2f} s at most"

    def _of(self, name: str) -> int:
        return self.counts.get(name, 0)


def last_words(figures: Figures) -> str:
    """The last words of a run."""
    return "\n".join(["", "Visits", *(f"  {name:<36} {value}" for name, value in figures.rows()), ""])
