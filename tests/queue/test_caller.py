"""The caller and presence: who is called, who is parked, who comes back, and who is given up."""

from __future__ import annotations

from collections.abc import Callable

from gateway.model import Code, Rate
from tests.queue.conftest import Scene, codes


async def test_present_places_are_called_in_the_order_of_their_numbers(scene: Scene) -> None:
    """Promise 3: the cursor moves over the numbers; whoever is at or below it is called."""
    for start in range(1, 2001, 250):
        await scene.join(*range(start, start + 250))
    passed = 0
    for _ in range(30):
        await scene.run(0.1)
        census = await scene.census()
        assert census.passed >= passed
        passed = census.passed
        around = await scene.find(max(1, passed - 1), passed, passed + 1)
        assert codes(around) == [Code.CALLED, Code.CALLED, Code.KNOWN]
    assert passed < 1000


async def test_only_the_first_gateway_that_asks_does_a_tick(make_scene: Callable[..., Scene]) -> None:
    """Section 5: no leader; any gateway may tick, the others are told when to ask again."""
    scene = make_scene(gateways=2)
    await scene.open()
    await scene.join(*range(1, 100))
    scene.advance(0.1)
    first, second = await scene.stores[0].tick(), await scene.stores[1].tick()
    assert first.called > 0
    assert not first.is_early
    assert (second.is_early, second.called) == (True, 0)
    assert 0 < second.due_us <= 100_000


async def test_a_tick_that_stopped_at_its_limit_is_due_at_once(make_scene: Callable[..., Scene]) -> None:
    """Promise 15: no script looks at more than its limit, and the answer says that there is more."""
    scene = make_scene(drain_rate=Rate(1000, "s"), burst=1000)
    await scene.open()
    for start in range(1, 3001, 250):
        await scene.join(*range(start, start + 250))
    scene.advance(0.1)
    ticked = await scene.store.tick()
    assert (ticked.called, ticked.due_us) == (500, 0)
    await scene.beat()
    assert (await scene.census()).calls > 2000


async def frozen(make_scene: Callable[..., Scene]) -> Scene:
    """A room without a free slot whose door is full: 60 claims are held, so the cursor stands."""
    scene = make_scene(active_max=0)
    await scene.open()
    await scene.join(*range(1, 501))
    await scene.join(*range(501, 1001))
    await scene.run(4, claiming=range(1, 61))
    assert (await scene.census()).passed < 200
    return scene


async def test_nobody_is_absent_until_two_whole_slices_lie_behind(make_scene: Callable[..., Scene]) -> None:
    """Section 4: after a start nobody has had time to be heard from, so everybody is called."""
    scene = await frozen(make_scene)
    await scene.run(105, step_s=0.5, claiming=range(1, 61))
    await scene.run(8)
    census = await scene.census()
    assert census.calls == census.passed > 200, "nobody was parked"


async def test_silent_places_are_passed_and_come_back_called(make_scene: Callable[..., Scene]) -> None:
    """Promises 5 and 6: who went silent blocks nobody, loses nothing, and may claim when heard from again."""
    scene = await frozen(make_scene)
    awake = range(501, 1001)
    await scene.run(180, step_s=0.5, present=awake, claiming=range(1, 61))
    before = await scene.census()
    await scene.run(4, present=awake)
    census = await scene.census()
    assert census.passed > 500
    assert census.calls - before.calls < census.passed - before.passed - 200
    assert census.parked >= 300
    assert codes(await scene.find(400)) == [Code.CALLED]
    assert (await scene.census()).parked == census.parked - 1
    assert codes(await scene.claim(400)) == [Code.HELD]


async def test_slices_need_uninterrupted_ticks(make_scene: Callable[..., Scene]) -> None:
    """Section 4: a stall of the room starts the two slices anew: its visitors could not be heard meanwhile."""
    scene = await frozen(make_scene)
    await scene.run(170, step_s=0.5, claiming=range(1, 61))
    scene.advance(30)  # nobody ticks
    await scene.run(60, step_s=0.5, claiming=range(1, 61))
    await scene.run(8)
    census = await scene.census()
    assert census.calls == census.passed > 200, "nobody was parked yet"


async def test_a_parked_place_is_kept_for_absence_max_and_then_spent(make_scene: Callable[..., Scene]) -> None:
    """Promise 5: never earlier than `absence_max` after it was last heard from; after that it is gone (promise 2)."""
    scene = make_scene(absence_max_s=120, claim_window_s=120)
    await scene.open()
    await scene.join(*range(1, 21))
    await scene.run(10, step_s=0.5)
    assert (await scene.census()).passed == 20
    await scene.run(245, step_s=0.5, present=(7,))
    await scene.store.mark([8])
    heard_us = scene.now_us
    while scene.now_us < heard_us + 119_000_000:
        await scene.run(5, step_s=0.5, present=(7,))
        assert 8 in (await scene.places()).values()
    await scene.run(250, step_s=0.5, present=(7,))
    assert list((await scene.places()).values()) == [7]
    assert codes(await scene.find(7, 8, 1)) == [Code.CALLED, Code.ENDED, Code.ENDED]
    assert (await scene.census()).expired == 19


async def test_those_who_poll_and_never_claim_cost_the_caller_nothing(make_scene: Callable[..., Scene]) -> None:
    """Promise 6: older unclaimed calls count for nothing: the next in line are called."""
    scene = make_scene()
    await scene.open()
    await scene.join(*range(1, 2001))
    entered: list[int] = []
    for step in range(240):
        await scene.run(0.2)
        passed = (await scene.census()).passed
        await scene.find(*range(1, min(passed, 250)))  # all of them poll
        takers = [n for n in range(1, passed + 1) if n % 3 == 0 and n not in entered]
        entered += await scene.granted(*takers[:250])
        assert step < 8 or len(entered) >= (step - 8) * 2 * 0.97 - 1
    assert len(entered) > 450


async def test_leaving_frees_the_place_and_no_one_is_called_for_it(scene: Scene) -> None:
    """Promise 5 and section 8: a place given up is gone for good, wherever it stood."""
    await scene.join(*range(1, 101))
    await scene.run(0.2)
    passed = (await scene.census()).passed
    assert await scene.leave(1, passed + 1, 100) == [True, True, True]
    assert codes(await scene.claim(1)) == [Code.ENDED]
    assert codes(await scene.find(passed + 1, passed + 2)) == [Code.ENDED, Code.KNOWN]
    census = await scene.census()
    assert census.left == 3
    assert census.waiting + census.below == 97
