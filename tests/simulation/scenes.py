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


SCENES = (rate_is_raised, place_is_lost_and_joined_anew, claim_is_withdrawn, newcomers_enter_at_once)


def walk(connection: DirectConnection, seed: int, steps: int) -> Twin:
    """A seeded walk through everything that may happen to a room, compared at every step."""
    twin, random = Twin(connection), Random(seed)

    def some(most: int) -> list[int]:
        return random.sample(range(VISITORS), random.randint(1, most))

    for _ in range(steps):
        gateway, is_lost = random.randrange(GATEWAYS), random.random() < 0.2
        match random.choices(range(13), [14, 10, 26, 5, 3, 3, 3, 4, 1, 1, 18, 2, 4])[0]:
            case 0:
                twin.join(some(8), gateway=gateway, is_lost=is_lost)
            case 1:
                twin.show_ticket(
                    random.randrange(VISITORS), random.choice((-1, -1, 0, 1)), gateway=gateway, is_lost=is_lost
                )
            case 2:
                held = [int.from_bytes(one, "big") - 1 for one in sorted(twin.model.door)]
                gone = random.sample(held, min(2, len(held))) if random.random() < 0.3 else []
                twin.claim(some(10), gateway=gateway, withdrawn=tuple(gone), is_lost=is_lost)
            case 3:
                twin.enter(random.randrange(VISITORS), with_ticket=random.random() < 0.5, is_lost=is_lost)
            case 4:
                twin.leave(random.randrange(VISITORS), is_lost=is_lost)
            case 5:
                twin.touch(random.randrange(VISITORS))
            case 6:
                twin.release(random.randrange(VISITORS))
            case 7:
                # What shuts the door is mostly taken back, or the walk would stand before it.
                shut = [i for i, change in enumerate(SETTINGS) if change in ({"paused": False}, {"stock": None})]
                which = random.choice(shut) if random.random() < 0.6 else random.randrange(len(SETTINGS))
                twin.change(which, is_lost=is_lost)
            case 8:
                twin.reset(void_admissions=random.random() < 0.5, is_lost=is_lost)
            case 9:
                twin.flush()
                twin.join(some(8), gateway=gateway)
                twin.come_back()
                twin.run(25)
            case 10:
                twin.run(random.randint(1, 12), is_down=random.random() < 0.1)
            case 11:
                twin.stall(random.choice((-30_000_000, 4_000_000, 900_000, 3_600_000_000)))
            case _:
                twin.run(random.randint(20, 80), step_us=500_000)
    return twin
