"""Owns what a room's record proves about promises 3 and 4: who came first, and that a place is one place."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

from gateway.rules.events import Event, entered

ASIDE_AFTER_US: Final = 500_000  # a claim that was not tried for so long may be overtaken (`claim.lua`)
HOLD_MAY_END_US: Final = (
    118_000_000  # a hold may end once so much or less is left and all are seated again (`upkeep.lua`)
)


# --- promise 3 -------------------------------------------------------------------------------------------------------


class Order:
    """Promise 3: calls by number, the lowest claim at the door first, nobody at once past those who wait."""

    promise: Final = 3

    def __init__(self) -> None:
        self._passed: int | None = None
        self._line: set[int] = set()  # places known to stand
        self._above: list[int] = []  # a heap of those above the cursor; what has left is dropped when it surfaces
        self._door: list[int] = []  # numbers of claims, sorted
        self._at_door: dict[str, tuple[int, int]] = {}  # id -> number, when it came
        self._held_until_us = 0  # room clock; until then a hold after a loss lasts for certain
        self.asides = 0

    def forget(self) -> None:
        self._passed, self._line, self._above, self._door, self._at_door = None, set(), [], [], {}
        self._held_until_us = 0

    def feed(self, event: Event) -> Iterator[str]:
        self._know(event)
        is_moving = entered(event) or event.figures.get("count") or (event.kind == "call" and event.lists["called"])
        if event.clock_us < self._held_until_us and is_moving:
            yield "somebody was numbered, called or let in while those who waited before the loss could not be back yet"
        match event.kind:
            case "call":
                yield from self._call(event)
            case "claim":
                yield from self._claim(event)
            case "enter":
                yield from self._enter(event)
            case _:
                pass

    def _know(self, event: Event) -> None:
        """Who stands where, before the event is judged."""
        if event.kind in {"heal", "reset"}:
            self.forget()
            self._passed = event.figures["passed"]
        if event.kind == "heal":
            self._held_until_us = event.clock_us + max(0, event.figures["hold_us"] - HOLD_MAY_END_US)
        if event.kind in {"join", "upkeep"}:
            first, count = event.figures["first"], event.figures["count"]
            for number in (*range(first, first + count), *event.lists.get("seated", ())):
                self._line.add(number)
                heappush(self._above, number)
        for name in ("replaced", "places", "tickets", "absent", "removed"):
            self._line.difference_update(event.lists.get(name, ()))
        for name in ("gone", "left", "absent"):
            for one in event.ids.get(name, ()):
                self._leave_door(one)
        # One that is replaced stands at the door by its older number from its next call on, and is not told of as come.
        if removed := {*event.lists.get("removed", ()), *event.lists.get("replaced", ())}:
            for one in [one for one, (number, _) in self._at_door.items() if number in removed]:
                self._leave_door(one)

    def _call(self, event: Event) -> Iterator[str]:
        before, passed, called = event.figures["passed_before"], event.figures["passed"], event.lists["called"]
        if self._passed not in (None, before):
            yield f"the cursor stood at {self._passed}, and moved on from {before}"
        self._passed = passed
        if list(called) != sorted(set(called)) or (called and not before < called[0] <= called[-1] <= passed):
            yield f"numbers were called out of order, or outside of {before + 1} to {passed}"

    def _claim(self, event: Event) -> Iterator[str]:
        arrived, granted = event.lists["arrived"], event.lists["entered"]
        for one, number in zip(event.ids["arrived"], arrived, strict=True):
            self._leave_door(one)
            self._at_door[one] = (number, event.clock_us)
            insort(self._door, number)
        if self._passed is not None and max((*arrived, *granted), default=0) > self._passed:
            yield f"a number above the cursor ({self._passed}) was let to the door"
        if list(granted) != sorted(granted):
            yield "of the claims granted here a higher number came first"
        if granted:
            excused = {*granted, *event.lists["reserved"], *event.lists["aside"]}
            lower = self._door[: bisect_left(self._door, max(granted))]
            if overtaken := [number for number in lower if number not in excused]:
                yield f"number {max(granted)} entered before {overtaken[0]}, which stood at the door"
            yield from self._judge_asides(event, max(granted))
        for one in entered(event):
            self._leave_door(one)
        self._line.difference_update(granted)

    def _judge_asides(self, event: Event, highest: int) -> Iterator[str]:
        aside = {number for number in event.lists["aside"] if number < highest}
        self.asides += len(aside)
        if aside:
            for number, since_us in self._at_door.values():
                if number in aside and event.clock_us - since_us < ASIDE_AFTER_US:
                    yield f"number {highest} entered before {number}, which had come to the door just before"

    def _enter(self, event: Event) -> Iterator[str]:
        for one in entered(event):
            self._leave_door(one)
        if event.figures["ahead"] > 0:
            yield f"entered at once while {event.figures['ahead']} were waiting, called or at the door"
        while self._above and (self._above[0] not in self._line or self._above[0] <= (self._passed or 0)):
            heappop(self._above)
        if self._above and self._passed is not None:
            yield f"entered at once while number {self._above[0]} waited"

    def _leave_door(self, one: str) -> None:
        number, _ = self._at_door.pop(one, (0, 0))
        at = bisect_left(self._door, number)
        if number and at < len(self._door) and self._door[at] == number:
            del self._door[at]


# --- promise 4 -------------------------------------------------------------------------------------------------------


class Place:
    """Promise 4: a number is given once and spent once, a key stands at one place, and enters once."""

    promise: Final = 4

    def __init__(self) -> None:
        self._epoch, self._next = 0, 0
        self._spent: set[int] = set()  # as far as Redis knows it
        self._used: set[int] = set()  # entered with: once, whatever Redis lost
        self._number: dict[str, int] = {}  # id -> where it stands
        self._holder: dict[int, str] = {}  # number -> whose it is, as long as it stands
        self._inside: dict[str, int] = {}  # id -> until when its slot lasts for certain

    def forget(self) -> None:
        self._number, self._inside = {}, {}

    def feed(self, event: Event) -> Iterator[str]:
        if event.kind in {"heal", "reset"}:
            yield from self._begin(event)
        elif event.kind in {"join", "upkeep"}:
            yield from self._join(event)
        yield from self._end(event)
        if entered(event):
            yield from self._entry(event)

    def _begin(self, event: Event) -> Iterator[str]:
        if event.kind == "heal" or event.figures["voids_admissions"]:
            self._inside = {}
        self._number = {}
        if event.epoch != self._epoch:
            self._epoch, self._spent, self._used, self._holder = event.epoch, set(), set(), {}
            self._next = self._next if event.kind == "reset" else 0
        if event.kind == "heal":
            if event.figures[
                "lost"
            ]:  # what was spent comes back with `respend`; until then an old ticket may be seated
                self._spent = set()
            if event.figures["next"] < self._next:
                yield f"numbers go on at {event.figures['next']}, though {self._next - 1} was given"
            self._next = max(self._next, event.figures["next"])

    def _join(self, event: Event) -> Iterator[str]:
        first, count = event.figures["first"], event.figures["count"]
        for number, one in zip(event.lists.get("seated", ()), event.ids.get("seated", ()), strict=True):
            if number in self._spent:
                yield f"number {number}, which was spent, is seated again"
            if self._holder.get(number, one) != one:
                yield f"number {number} is given to two visitors"
            if (other := self._number.get(one, number)) != number and other not in event.lists["replaced"]:
                yield f"visitor {one} stands at {other} and at {number}"
            self._number[one], self._holder[number] = number, one
        if count and first < self._next:
            yield f"number {first} is given again: {self._next - 1} was given before"
        for number, one in enumerate(event.ids["new"], first):
            if one in self._number:
                yield f"visitor {one} stands at {self._number[one]} and is given {number}"
            self._number[one], self._holder[number] = number, one
        if count:
            self._next = max(self._next, first + count)

    def _end(self, event: Event) -> Iterator[str]:
        """Places given up, absent or replaced, and slots that are over."""
        for one in (*event.ids.get("lapsed", ()), *event.ids.get("released", ())):
            self._inside.pop(one, None)
        for name in ("absent", "replaced", "removed"):
            for number in event.lists.get(name, ()):
                self._spend(number)
        if event.kind == "leave":
            for place, ticket in zip(event.lists["places"], event.lists["tickets"], strict=True):
                if place in self._spent:
                    yield f"number {place}, which was spent, is given up"
                self._spend(place)
                self._spend(ticket)

    def _entry(self, event: Event) -> Iterator[str]:
        ids, none = entered(event), (0,) * len(entered(event))
        places = event.lists["entered"] if event.kind == "claim" else event.lists["places"]
        for one, place, ticket in zip(ids, places, event.lists.get("tickets", none), strict=True):
            for number in sorted({place, ticket} - {0}):
                if number in self._spent or number in self._used:
                    yield f"number {number} is used a second time"
                if self._holder.get(number, one) != one:
                    yield f"number {number} is used by another than its holder"
                self._spend(number)
                self._used.add(number)
            if self._inside.get(one, 0) > event.clock_us:
                yield f"visitor {one} enters again while its slot lasts"
            self._number.pop(one, None)
            self._inside[one] = event.clock_us + event.figures["lease_us"]

    def _spend(self, number: int) -> None:
        self._spent.add(number)
        holder = self._holder.pop(number, None)
        if holder is not None and self._number.get(holder) == number:
            del self._number[holder]
