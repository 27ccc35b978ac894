"""The judge against lives drawn at random: a good one is kept, and one wrong event anywhere in it is found, whatever follows."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import PERMIT_UNITS
from gateway.rules.audit import Judged, Verdict, check
from tests.rules.recorded import LEASE_US, Record

BEFORE, AFTER = 60, 20  # steps of a life before and after what is planted
STRANGERS = 10_000  # visitors who enter at once; who joins bears the number it is given
lives = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32)


class Life:
    """A room that does nothing wrong, in the words of its record: who waits, who stands at the door, who is inside."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.record = Record().made()
        self.next, self.passed, self.stranger = 1, 0, STRANGERS
        self.credit, self.seen_us = 0, self.record.clock_us
        self.line: list[int] = []  # above the cursor
        self.away: list[int] = []  # passed, and not at the door
        self.door: list[int] = []
        self.inside: dict[int, int] = {}  # visitor -> end of its slot
        self.used: list[int] = []  # numbers

    def live(self, steps: int) -> None:
        events = (self.wait, self.join, self.call, self.claim, self.enter, self.leave, self.release, self.change)
        for _ in range(steps):
            self.random.choices(events, (30, 15, 15, 25, 5, 4, 4, 2))[0]()

    def wait(self) -> None:
        self.record.wait(self.random.choice((0.003, 0.1, 0.7, 3, 200)))
        record = self.record
        earned = record.limits["rate"] * (record.clock_us - self.seen_us)
        self.credit = min(record.limits["burst"] * PERMIT_UNITS, self.credit + earned)
        self.seen_us = record.clock_us
        over = [one for one, end_us in self.inside.items() if end_us <= record.clock_us]
        if over:
            ends = [self.inside.pop(one) for one in over]
            record.active = len(self.inside)
            record.tell("upkeep", first=self.next, lapsed_at_us=ends, lapsed_ids=over)

    def join(self) -> None:
        count = self.random.randint(1, 6)
        numbers = range(self.next, self.next + count)
        self.record.join(self.next, *numbers)
        self.next += count
        self.line += numbers

    def call(self) -> None:
        if passed := self.line[: self.random.randint(1, 8)]:
            called = [number for number in passed if self.random.random() < 0.8]  # the others are absent
            self.record.call(self.passed, passed[-1], called)
            self.passed, self.line = passed[-1], self.line[len(passed) :]
            self.away += passed

    def permits(self) -> int:
        return max(0, min(self.credit // PERMIT_UNITS, self.slots()))

    def slots(self) -> int:
        return self.record.limits["active_max"] - len(self.inside)

    def come(self, count: int) -> list[int]:
        """So many of those who were passed go to the door."""
        came = self.random.sample(self.away, min(count, len(self.away)))
        self.away = [number for number in self.away if number not in came]
        self.door = sorted([*self.door, *came])
        return came

    def claim(self) -> None:
        came = self.come(self.random.randint(0, 6))
        granted = self.door[: self.random.randint(0, self.permits())]
        if came or granted:
            self.grant(granted, came)

    def grant(self, numbers: list[int], came: list[int]) -> None:
        self.record.claim(*numbers, arrived=came)
        self.door = [number for number in self.door if number not in numbers]
        self.used += numbers
        self.spend_credit(numbers, LEASE_US)

    def spend_credit(self, visitors: list[int], lease_us: int) -> None:
        self.credit -= PERMIT_UNITS * len(visitors)
        self.inside |= dict.fromkeys(visitors, self.record.clock_us + lease_us)

    def enter(self) -> None:
        if not self.line and not self.door and self.permits():
            self.stranger += 1
            self.record.enter(self.stranger)
            self.spend_credit([self.stranger], 30_000_000)

    def leave(self) -> None:
        if self.line or self.away:
            number = self.random.choice([*self.line, *self.away])
            self.line, self.away = ([one for one in row if one != number] for row in (self.line, self.away))
            self.record.tell("leave", places=[number], tickets=[number], left_ids=[number])
            self.used.append(number)

    def release(self) -> None:
        if self.inside:
            one = self.random.choice(sorted(self.inside))
            del self.inside[one]
            self.record.active = len(self.inside)
            self.record.tell("release", freed=1, released_ids=[one])

    def change(self) -> None:
        limits = self.record.limits
        limits["burst"] = self.random.choice((2, 5, 9))
        limits["active_max"] = len(self.inside) + self.random.randint(0, 40)
        self.credit = min(self.credit, limits["burst"] * PERMIT_UNITS)
        self.record.tell("settings", **limits, stock=-1, version=2)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Live on until there is what a fault needs."""
        for _ in range(2_000):
            if is_so():
                return
            self.live(1)
        raise AssertionError("this life never came to that")

    def drain(self) -> None:
        """Live on without joins until nobody waits, somebody is inside, and one more could enter."""
        self.until(lambda: bool(self.used) and bool(self.inside))
        for _ in range(2_000):
            if not self.line and not self.door and self.permits() and self.inside:
                return
            self.random.choice((self.wait, self.call, self.claim, self.change))()
            if not self.inside and not self.line:
                self.enter()
        raise AssertionError("this line never came to its end")

    def judged(self) -> Judged:
        return check(self.record.events)


# --- what is planted -------------------------------------------------------------------------------------------------


def overtaking(life: Life) -> None:
    """Two stand at the door, and the higher goes in."""
    life.until(lambda: len(life.door) >= 2 and life.permits() >= 1)
    life.grant(life.door[-1:], [])


def overtaking_of_the_line(life: Life) -> None:
    """Somebody enters at once while others wait."""
    life.until(lambda: len(life.line) >= 1 and life.permits() >= 1)
    life.stranger += 1
    life.record.enter(life.stranger)
    life.spend_credit([life.stranger], 30_000_000)


def double_entry(life: Life) -> None:
    """Somebody who is inside enters again."""
    life.drain()
    one = life.random.choice(sorted(life.inside))
    life.record.enter(one)
    life.spend_credit([one], 30_000_000)


def double_use(life: Life) -> None:
    """A number that was used lets another in."""
    life.drain()
    number = life.random.choice(life.used)
    life.stranger += 1
    life.record.claim(number, arrived=[], entered_ids=[life.stranger])
    life.spend_credit([life.stranger], LEASE_US)


def rate_excess(life: Life) -> None:
    """The burst at once, which may be, and one more."""
    life.until(lambda: len(life.door) > life.record.limits["burst"] < life.slots())
    burst = life.record.limits["burst"]
    life.record.wait(0.001)  # what was allowed until a change still is at its very moment
    life.grant(life.door[: burst + 1], [])


def cap_excess(life: Life) -> None:
    """Credit for one more is there, a slot is not."""
    life.until(lambda: bool(life.door) and life.credit >= PERMIT_UNITS and not life.permits())
    life.grant(life.door[:1], [])


def double_number(life: Life) -> None:
    """The counter goes back by one."""
    life.until(lambda: life.next > 1)
    life.stranger += 1
    life.record.join(life.next - 1, life.stranger)


PLANTED: dict[Callable[[Life], None], int] = {
    overtaking: 3,
    overtaking_of_the_line: 3,
    double_entry: 4,
    double_use: 4,
    rate_excess: 1,
    cap_excess: 2,
    double_number: 4,
}


@lives
@given(seeds)
def test_a_life_without_a_fault_is_kept(seed: int) -> None:
    """Promises 1 to 4: whatever happens in whatever order, no false alarm; and the door may use its credit to the last."""
    life = Life(seed)
    life.live(BEFORE + AFTER)
    judged = life.judged()
    assert [str(one) for one in judged.violations] == []
    assert (judged.verdict, judged.fullest <= 0) == (Verdict.KEPT, True)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
@lives
@given(seed=seeds)
def test_one_wrong_event_is_found_whatever_was_before_and_comes_after(plant: Callable[[Life], None], seed: int) -> None:
    """Promises 1 to 4: by the promise it breaks, and at the very event."""
    life = Life(seed)
    life.live(BEFORE)
    plant(life)
    wrong = life.record.seq
    life.live(AFTER)
    judged = life.judged()
    assert judged.verdict is Verdict.BROKEN
    assert PLANTED[plant] in {one.promise for one in judged.violations if one.seq == wrong}
    assert not [one for one in judged.violations if one.seq < wrong]


@lives
@given(seed=seeds, data=st.data())
def test_a_gap_is_named_and_nobody_is_blamed_for_it(seed: int, data: st.DataObject) -> None:
    """Promises 1 to 4: any events may be missing; a number of Redis's says which."""
    life = Life(seed)
    life.live(BEFORE)
    events = life.record.events
    missing = data.draw(st.sets(st.integers(2, max(2, len(events) - 1)), max_size=10))
    judged = check([event for event in events if event.seq not in missing or event.seq == len(events)])
    named = {seq for first, last in judged.gaps for seq in range(first, last + 1)}
    assert named == missing - {len(events)}
    assert [str(one) for one in judged.violations] == []
    assert judged.verdict is (Verdict.UNDECIDED if named else Verdict.KEPT)
