"""Judges the record of a room after the fact: what is missing in it, and whether promises 1 to 4 were kept. No I/O.

    judged = judge(merge(events_of_the_stream, events_of_a_file, ...))
    judged.verdict, judged.violations, judged.gaps

Theory of operation
    Every event has a number from Redis, so a missing one shows. The first number of a record may be any: what came before has
    been cut from the stream. For each promise there is a class (`allowance.py`, `fairness.py`), fed event by event, that keeps
    what follows from the events alone, compares it with what the scripts say, and answers what was broken. It never needs
    all: where something is not known (the record began later, events are missing: `forget`; Redis was lost: a `heal` event)
    it forgets, judges less, and raises no false alarm. What is proved, and what is not, is listed in docs/audit.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gateway.rules.allowance import Cap, Rate
from gateway.rules.events import Event, entered, instant
from gateway.rules.fairness import Order, Place

TITLES: Final = {1: "rate", 2: "cap", 3: "order", 4: "one key, one place, one entry"}


class Verdict(Enum):
    """The values are exit codes."""

    KEPT = 0
    BROKEN = 1
    UNDECIDED = 2


@dataclass(frozen=True, slots=True)
class Violation:
    promise: int
    seq: int  # of the event that shows it
    at_us: int  # Redis' time
    what: str

    def __str__(self) -> str:
        return f"promise {self.promise} ({TITLES[self.promise]}), event {self.seq}, {instant(self.at_us)}: {self.what}"


@dataclass(slots=True)
class Merged:
    """Events of several sources in the order of their numbers, each once; `conflicts` are numbers with two stories."""

    events: list[Event]
    conflicts: list[int]


@dataclass(slots=True)
class Judged:
    """What a record says. `gaps` and `left_out` are ranges of numbers, both ends included."""

    first: int = 0
    last: int = 0
    from_us: int = 0  # Redis' time of the first event, and of the last
    until_us: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    entries: Counter[str] = field(default_factory=Counter)  # claim, instant
    bypassed: Counter[str] = field(default_factory=Counter)  # by rule
    gaps: list[tuple[int, int]] = field(default_factory=list)
    gap_times_us: list[tuple[int, int]] = field(default_factory=list)  # of each gap: the events before and after it
    left_out: list[tuple[int, int]] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    fullest: float = float("-inf")  # of all windows: entries beyond what is allowed, 0 is the limit itself
    most_active: int = 0
    asides: int = 0  # claims overtaken because nobody had tried them for half a second
    steps_back: int = 0

    @property
    def verdict(self) -> Verdict:
        if self.violations:
            return Verdict.BROKEN
        return Verdict.UNDECIDED if self.gaps or self.conflicts or not self.kinds else Verdict.KEPT


def merge(*sources: Iterable[Event]) -> Merged:
    """The union of a stream and files, which tell most events twice."""
    found: dict[int, Event] = {}
    conflicts: set[int] = set()
    for source in sources:
        for event in source:
            if found.setdefault(event.seq, event) != event:
                conflicts.add(event.seq)
    return Merged([found[seq] for seq in sorted(found)], sorted(conflicts))


def violations(events: Iterable[Event]) -> Iterator[Violation]:
    """What promises 1 to 4 say against a record, in the order of its events. The events ascend by number."""
    yield from _Judge().walk(events)


def judge(merged: Merged) -> Judged:
    work = _Judge()
    work.judged.violations = list(work.walk(merged.events))
    judged = work.finish()
    judged.conflicts = merged.conflicts
    return judged


def check(*sources: Iterable[Event]) -> Judged:
    """Merge, and judge."""
    return judge(merge(*sources))


class _Judge:
    """One walk over a record."""

    def __init__(self) -> None:
        self.judged = Judged()
        self._rate, self._cap, self._order, self._place = Rate(), Cap(), Order(), Place()
        self._proofs: Sequence[Rate | Cap | Order | Place] = (self._rate, self._cap, self._order, self._place)

    def walk(self, events: Iterable[Event]) -> Iterator[Violation]:
        judged = self.judged
        for event in events:
            if judged.kinds and self._is_gap(event):
                for proof in self._proofs:
                    proof.forget()
            if not judged.kinds:
                judged.first, judged.from_us = event.seq, event.at_us
            judged.last, judged.until_us = event.seq, event.at_us
            self._count(event)
            for proof in self._proofs:
                for what in proof.feed(event):
                    yield Violation(proof.promise, event.seq, event.at_us, what)

    def finish(self) -> Judged:
        judged = self.judged
        judged.fullest, judged.steps_back = self._rate.fullest, self._rate.steps_back
        judged.most_active, judged.asides = self._cap.most, self._order.asides
        return judged

    def _is_gap(self, event: Event) -> bool:
        """True where events are missing. Those that a `heal` leaves out were never given, or lost before anybody was told."""
        start, end = self.judged.last + 1, event.seq - 1
        if start > end:
            return False
        if event.kind == "heal" and event.figures["known"] < end:
            left_out = max(start, event.figures["known"] + 1)
            self.judged.left_out.append((left_out, end))
            end = left_out - 1
        if start <= end:
            self.judged.gaps.append((start, end))
            self.judged.gap_times_us.append((self.judged.until_us, event.at_us))
        return start <= end

    def _count(self, event: Event) -> None:
        self.judged.kinds[event.kind] += 1
        if count := len(entered(event)):
            self.judged.entries["instant" if event.kind == "enter" else "claim"] += count
        if event.kind == "bypass":
            try:
                self.judged.bypassed.update({str(rule): int(count) for rule, count in json.loads(event.text).items()})
            except (ValueError, AttributeError, TypeError):
                self.judged.bypassed["(not readable)"] += 1
