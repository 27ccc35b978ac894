"""Courses of events: seeded walks through everything, and short scenes for what a walk rarely meets."""

from __future__ import annotations

from random import Random

from tests.simulation.crowd import DirectConnection
from tests.simulation.twin import GATEWAYS, SETTINGS, VISITORS, Twin

EVERYBODY = list(range(VISITORS))


def rate_is_raised(twin: Twin) -> None:
    """From 5/s to 40/s while everybody claims and nothing but the rate holds them."""
    twin.change(SETTINGS.index({"active_max": 50}))
    twin.run(70)
    twin.join(EVERYBODY)
    for step in range(25):
        if step == 3:
            twin.change(1)
        twin.run(3)
        twin.claim(EVERYBODY[step % 7 :: 3], gateway=step % GATEWAYS)
        twin.join(EVERYBODY[:5])


def place_is_lost_and_joined_anew(twin: Twin) -> None:
    """A key joins during the hold without its ticket, gets a new number at the end of it, and then shows the old one."""
    twin.join(EVERYBODY)
    twin.flush()
    twin.join([3, 1, 2])
    for visitor in range(4, VISITORS):
        twin.show_ticket(visitor, -1)
    twin.run(250, step_us=500_000)
    for visitor in (1, 2, 3):
        twin.join([visitor])
        twin.show_ticket(visitor, 0)
        twin.show_ticket(visitor, -1)


def claim_is_withdrawn(twin: Twin) -> None:
    """The lowest goes away from the door of one gateway while others stand at another's."""
    twin.join(EVERYBODY)
    twin.run(60)
    twin.claim(EVERYBODY[:3], gateway=0)
    twin.claim(EVERYBODY[3:12], gateway=1)
    twin.claim([], gateway=1, withdrawn=tuple(EVERYBODY[3:12]))
    twin.run(2)
    twin.claim(EVERYBODY[12:], gateway=2)


def newcomers_enter_at_once(twin: Twin) -> None:
    """More than the burst come to an idle room, and come again when some credit is back."""
    for _ in range(3):
        twin.run(4)
        for visitor in EVERYBODY[:6]:
            twin.enter(visitor)


def room_is_paused(twin: Twin) -> None:
    """Claims stand before a paused door, and newcomers before an idle one."""
    twin.join(EVERYBODY)
    twin.run(20)
    twin.change(SETTINGS.index({"paused": True}))
    twin.claim(EVERYBODY)
    twin.run(10)
    twin.claim(EVERYBODY)
    twin.change(SETTINGS.index({"paused": False}))
    twin.claim(EVERYBODY)


SCENES = (rate_is_raised, place_is_lost_and_joined_anew, claim_is_withdrawn, newcomers_enter_at_once, room_is_paused)


class Walker:
    """Chooses what happens next: each method is one kind of event, drawn with the weight that `EVENTS` gives it."""

    def __init__(self, twin: Twin, random: Random) -> None:
        self.twin = twin
        self.random = random

    def some(self, most: int) -> list[int]:
        return self.random.sample(range(VISITORS), self.random.randint(1, most))

    def one(self) -> int:
        return self.random.randrange(VISITORS)

    def gateway(self) -> int:
        return self.random.randrange(GATEWAYS)

    def is_lost(self) -> bool:
        return self.random.random() < 0.2

    def join(self) -> None:
        self.twin.join(self.some(8), gateway=self.gateway(), is_lost=self.is_lost())

    def show_ticket(self) -> None:
        self.twin.show_ticket(
            self.one(), self.random.choice((-1, -1, 0, 1)), gateway=self.gateway(), is_lost=self.is_lost()
        )

    def claim(self) -> None:
        held = [int.from_bytes(one, "big") - 1 for one in sorted(self.twin.model.door)]
        gone = self.random.sample(held, min(2, len(held))) if self.random.random() < 0.3 else []
        self.twin.claim(self.some(10), gateway=self.gateway(), withdrawn=tuple(gone), is_lost=self.is_lost())

    def enter(self) -> None:
        self.twin.enter(self.one(), with_ticket=self.random.random() < 0.5, is_lost=self.is_lost())

    def leave(self) -> None:
        self.twin.leave(self.one(), is_lost=self.is_lost())

    def touch(self) -> None:
        self.twin.touch(self.one())

    def release(self) -> None:
        self.twin.release(self.one())

    def change(self) -> None:
        # What shuts the door is mostly taken back, or the walk would stand before it.
        opening = [SETTINGS.index({"paused": False}), SETTINGS.index({"stock": None})]
        anything = range(len(SETTINGS))
        self.twin.change(
            self.random.choice(opening if self.random.random() < 0.6 else anything), is_lost=self.is_lost()
        )

    def reset(self) -> None:
        self.twin.reset(void_admissions=self.random.random() < 0.5, is_lost=self.is_lost())

    def flush(self) -> None:
        self.twin.flush()
        self.twin.join(self.some(8), gateway=self.gateway())
        self.twin.come_back()
        self.twin.run(25)

    def run(self) -> None:
        self.twin.run(self.random.randint(1, 12), is_down=self.random.random() < 0.1)

    def run_long(self) -> None:
        self.twin.run(self.random.randint(20, 80), step_us=500_000)

    def stall(self) -> None:
        self.twin.stall(self.random.choice((-30_000_000, 4_000_000, 900_000, 3_600_000_000)))


EVENTS = {
    Walker.join: 14,
    Walker.show_ticket: 10,
    Walker.claim: 26,
    Walker.enter: 5,
    Walker.leave: 3,
    Walker.touch: 3,
    Walker.release: 3,
    Walker.change: 4,
    Walker.reset: 1,
    Walker.flush: 1,
    Walker.run: 18,
    Walker.run_long: 4,
    Walker.stall: 2,
}


def walk(connection: DirectConnection, seed: int, steps: int) -> Twin:
    """A seeded walk through everything that may happen to a room, compared at every step, and audited in the end."""
    random = Random(seed)
    walker = Walker(Twin(connection), random)
    for event in random.choices(list(EVENTS), list(EVENTS.values()), k=steps):
        event(walker)
    walker.twin.audit()
    return walker.twin
