"""A record written by hand, event by event, for tests of what judges it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from gateway.model import Rate
from gateway.rules.audit import Judged, check
from gateway.rules.events import SHAPES, Event

AT_US = 1_800_000_000_000_000
RATE = Rate(10, "s").units_per_us
LIMITS = {"rate": RATE, "burst": 5, "active_max": 100}
LEASE_US = 600_000_000


def ident(visitor: int) -> str:
    return visitor.to_bytes(16, "big").hex()


class Record:
    """Visitor n is `ident(n)`; the clocks move when told to."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seq, self.at_us, self.clock_us, self.epoch = 0, AT_US, 60_000_000, 1
        self.limits = dict(LIMITS)
        self.active = 0

    def wait(self, seconds: float, *, redis_s: float | None = None) -> Self:
        self.clock_us += round(seconds * 1e6)
        self.at_us += round((seconds if redis_s is None else redis_s) * 1e6)
        return self

    def tell(self, kind: str, **facts: Any) -> Self:
        """Figures are numbers, lists of numbers lists, ids lists of visitors under `<name>_ids`; what is left out is empty."""
        shape, self.seq = SHAPES[kind], self.seq + 1
        event = Event(
            self.seq,
            kind,
            self.at_us,
            self.clock_us,
            self.epoch,
            {name: facts.get(name, 0) for name in shape.figures},
            {name: tuple(facts.get(name, ())) for name in shape.lists},
            {name: tuple(map(ident, facts.get(f"{name}_ids", ()))) for name, _ in shape.ids},
            str(facts.get("text", "")),
        )
        self.events.append(event)
        return self

    def made(self, **facts: Any) -> Self:
        return self.tell("heal", **({"next": 1} | self.limits | facts))

    def join(self, first: int, *visitors: int, **facts: Any) -> Self:
        return self.tell("join", first=first, count=len(visitors), new_ids=visitors, **facts)

    def call(self, before: int, passed: int, called: Sequence[int] | None = None) -> Self:
        numbers = range(before + 1, passed + 1) if called is None else called
        return self.tell("call", passed_before=before, passed=passed, looked=passed - before, called=numbers)

    def claim(self, *numbers: int, arrived: Sequence[int] | None = None, **facts: Any) -> Self:
        """Numbers that enter; visitor n holds number n unless `entered_ids` says otherwise."""
        came = numbers if arrived is None else arrived
        given = {"arrived": came, "arrived_ids": came, "entered": numbers, "entered_ids": numbers}
        self.tell("claim", **(self.limits | {"active": self.active, "lease_us": LEASE_US} | given | facts))
        self.active += len(numbers)
        return self

    def enter(self, *visitors: int, **facts: Any) -> Self:
        given = {"entered_ids": visitors, "places": [0] * len(visitors), "tickets": [0] * len(visitors)}
        self.tell("enter", **(self.limits | {"active": self.active, "lease_us": 30_000_000} | given | facts))
        self.active += len(visitors)
        return self

    def judged(self) -> Judged:
        return check(self.events)

    def broken(self) -> list[int]:
        """The promises that were broken, each as often as it was."""
        return [one.promise for one in self.judged().violations]


def lived() -> Record:
    """A record in which everything happens and nothing is wrong."""
    record = Record()
    record.made()
    record.enter(101)
    record.wait(1)
    record.join(1, 1, 2, 3, 4, 5, 6, 7, 8)
    record.wait(0.1)
    record.call(0, 6, [1, 2, 4, 5, 6])
    record.wait(1)
    record.claim(1, 2, arrived=[1, 2, 5])
    record.wait(0.6)
    record.claim(4, 6, reserved=[5], arrived=[4, 6])
    record.claim(5, arrived=[])
    record.tell("join", first=9, called_ids=[3])
    record.claim(3)
    record.tell("release", freed=1, released_ids=[1])
    record.active -= 1
    record.wait(1)
    record.join(9, 1)
    record.tell("leave", places=[8], tickets=[8], left_ids=[8])
    record.wait(28)
    record.tell("upkeep", first=10, lapsed_at_us=[record.clock_us - 1000], lapsed_ids=[101])
    record.active -= 1
    record.tell("settings", **(record.limits | {"burst": 3, "stock": -1, "version": 2}), text="sre")
    record.limits["burst"] = 3
    record.tell("bypass", text='{"static": 7, "10.0.0.0/8": 1}')
    record.call(6, 9, [7, 9])
    record.wait(1)
    record.claim(7, 9, entered_ids=[7, 1], arrived_ids=[7, 1])
    return record
