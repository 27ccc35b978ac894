"""A thousand wait when Redis loses everything: who is heard from in the hold, who is late, who had entered, who is new."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from gateway.model import Code, Contact, Memory, Rate
from tests.queue.conftest import Scene, ident

PEOPLE = 1_000
RATE_S, BURST = 50, 50
BATCH = 250
LATE_SHARE = 0.1


def known(scene: Scene, passed: int, entered: int, places: int) -> Memory:
    return Memory(highest_number=PEOPLE, passed=passed, clock_us=65_000_000, active=entered, places=places)


async def in_batches(scene: Scene, numbers: Iterable[int], find: bool = True) -> dict[int, Code]:
    """Each shows the ticket, or joins with the key; what each was told."""
    told: dict[int, Code] = {}
    rows = list(numbers)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        asked = [Contact(ident(one), one if find else 0, 1 if find else 0) for one in batch]
        told |= {one: standing.code for one, standing in zip(batch, await scene.store.check_in(asked), strict=True)}
    return told


async def enter(scene: Scene, numbers: list[int], seconds: float) -> list[int]:
    """Let them claim for so long; who got in, in that order."""
    entered: list[int] = []
    for _ in range(round(seconds / 0.1)):
        scene.advance(0.1)
        await scene.beat()
        lowest = [number for number in numbers if number not in entered][:BATCH]
        entered += await scene.granted(*lowest)
    return entered


async def test_a_thousand_are_seated_again_as_they_stood(make_scene: Callable[..., Scene]) -> None:
    """Promises 1 to 5: who is heard from stands as before; the late keep theirs; spent stays spent; the cap counts on."""
    random, cap = Random(1), 400
    scene = make_scene(drain_rate=Rate(RATE_S, "s"), burst=BURST, active_max=cap)
    await scene.open()
    await in_batches(scene, range(1, PEOPLE + 1), find=False)
    entered = await enter(scene, list(range(1, PEOPLE + 1)), 5)
    assert entered == list(range(1, len(entered) + 1))
    census = await scene.census()
    await scene.erase()
    memory = known(scene, census.passed, len(entered), census.waiting)
    await scene.store.heal(memory, scene.record(1))
    await scene.store.respend(1, entered)
    waiting = list(range(len(entered) + 1, PEOPLE + 1))
    late = set(random.sample(waiting, round(LATE_SHARE * len(waiting))))
    heard = [number for number in waiting if number not in late]
    shuffled = random.sample(heard, len(heard))
    await in_batches(scene, shuffled)
    new = await in_batches(scene, range(PEOPLE + 1, PEOPLE + 51), find=False)
    assert set(new.values()) == {Code.RECOVERING}
    assert await enter(scene, waiting, 10) == [], "the door is shut during the hold"
    await scene.run(115, step_s=0.5, present=heard[:500])
    by_number = sorted((number, one) for one, number in (await scene.places()).items())
    assert [one for _, one in by_number][: len(heard)] == [ident(number) for number in heard]
    assert min(number for number, _ in by_number[len(heard) :]) > PEOPLE, "who came during the hold stands behind all"
    went_in = await enter(scene, heard, 12)
    assert went_in == heard[: len(went_in)]
    assert len(entered) + len(went_in) == cap, "the last known count stands in"
    told = await in_batches(scene, late)
    passed = (await scene.census()).passed
    assert all(code is (Code.CALLED if number <= passed else Code.KNOWN) for number, code in told.items())
    assert {one.number: one.code for one in await scene.find(*entered[:100])} == dict.fromkeys(
        entered[:100], Code.ENDED
    )
