"""The door: who enters, in which order, and what holds the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.model import Code, Contact, Rate
from gateway.rules.pacing import as_document
from tests.queue.conftest import Scene, codes, ident


async def called(scene: Scene, count: int) -> None:
    """Visitors 1 to `count` joined and were called, and the door has what credit its burst allows."""
    await scene.join(*range(1, count + 1))
    while (await scene.census()).passed < count:
        await scene.run(1)


async def test_the_lowest_numbers_at_the_door_enter_first_over_all_gateways(make_scene: Callable[..., Scene]) -> None:
    """Promise 3: a gateway that holds only high numbers takes no turn from another gateway's low ones."""
    scene = make_scene(gateways=3, burst=10)
    await scene.open()
    await called(scene, 30)
    await scene.claim(*range(1, 31))  # uses the credit up
    scene.advance(0.01)
    await scene.join(*range(31, 61))
    while (await scene.census()).passed < 60:
        await scene.run(1)
    assert await scene.granted(*range(50, 60), gateway=2) == list(range(50, 60)), "nobody lower stands at the door"
    assert await scene.granted(40, 41, gateway=0) == []
    assert await scene.granted(35, 36, gateway=1) == []
    scene.advance(0.2)  # two permits: both are for 35 and 36, whoever asks
    assert await scene.granted(40, 41, gateway=0) == []
    assert await scene.granted(35, 36, gateway=1) == [35, 36]
    scene.advance(0.2)
    assert await scene.granted(40, 41, gateway=0) == [40, 41]


async def test_a_dead_gateway_blocks_nobody_and_its_claims_lapse(make_scene: Callable[..., Scene]) -> None:
    """Promise 6: claims that no gateway tries any more wait aside after 0.5 s and are dropped after 2 s."""
    scene = make_scene(gateways=2, burst=2)
    await scene.open()
    await called(scene, 10)
    await scene.claim(9, 10)
    assert await scene.granted(1, 2, 3, gateway=1) == []
    scene.advance(0.4)
    assert await scene.granted(5, gateway=0) == [], "four permits of 0.4 s less burst: 1 and 2 stand before 5"
    scene.advance(0.2)
    assert await scene.granted(5, gateway=0) == [5], "its gateway has not tried for 0.6 s"
    assert (await scene.census()).held == 3
    for _ in range(3):
        scene.advance(0.5)
        await scene.store.upkeep()
    assert (await scene.census()).held == 0
    assert codes(await scene.find(1, 2, 3)) == [Code.CALLED] * 3, "the turn is kept"


async def test_a_withdrawn_claim_keeps_its_turn_and_frees_the_door(make_scene: Callable[..., Scene]) -> None:
    """Section 4: the client has gone; the next lower number gets the permit, and the place is still called."""
    scene = make_scene(gateways=2, burst=2)
    await scene.open()
    await called(scene, 6)
    await scene.claim(5, 6)
    await scene.claim(1, gateway=1)
    assert codes(await scene.claim(1, gateway=1, withdrawn=True)) == [Code.WITHDRAWN]
    scene.advance(0.1)
    assert await scene.granted(2) == [2]
    assert codes(await scene.find(1)) == [Code.CALLED]


async def test_a_claim_can_be_retried_and_enters_once(scene: Scene) -> None:
    """Promise 4: the retry of a claim whose answer was lost is answered with the lease, and spends nothing more."""
    await called(scene, 3)
    assert await scene.granted(1) == [1]
    before = await scene.census()
    assert await scene.granted(1, 1) == [1, 1]
    assert (await scene.census()).entries == before.entries == 1
    assert (await scene.census()).active == 1


async def test_two_tabs_of_one_key_enter_once(scene: Scene) -> None:
    """Promise 4: both claim in the same batch."""
    await called(scene, 3)
    await scene.claim(1, 1)
    assert (await scene.census()).entries == 1


async def test_claims_before_the_call_after_the_end_and_without_a_place_are_told_apart(scene: Scene) -> None:
    """Promise 4 and 13: waiting, ended, ahead of Redis, of an old epoch, and lost are five different things."""
    await scene.join(*range(1, 200))
    await scene.run(0.2)
    await scene.leave(1)
    await scene.connection.client.eval("return redis.call('ZREM', KEYS[1], ARGV[1])", 1, scene.key("queue"), ident(2))
    assert codes(await scene.claim(199, 1, 2, 5000)) == [Code.WAITING, Code.ENDED, Code.LOST, Code.AHEAD]
    assert codes(await scene.claim(3, epoch=2)) == [Code.AHEAD]
    await scene.store.reset(1, void_admissions=False)
    assert codes(await scene.claim(3, epoch=1)) == [Code.ENDED]


async def test_a_stalled_room_earns_no_credit(make_scene: Callable[..., Scene]) -> None:
    """Promise 1: a stall, or a clock that steps either way, adds nothing to the door's credit or to the room's clock."""
    scene = make_scene(burst=10)
    await scene.open()
    await called(scene, 40)
    await scene.claim(*range(1, 41))
    before = await scene.census()
    for step_s in (3600, -7200, 3600, 1.5):
        scene.advance(step_s)
        assert await scene.granted(*range(11, 41)) == []
    assert (await scene.census()).clock - before.clock <= 250_000


async def test_credit_never_exceeds_the_burst(make_scene: Callable[..., Scene]) -> None:
    """Promise 1: after a lull of any length no more than `burst` enter at once."""
    scene = make_scene(burst=7)
    await scene.open()
    await called(scene, 30)
    await scene.run(30)
    assert len(await scene.granted(*range(1, 31))) == 7


async def test_no_entry_at_the_cap_until_a_lease_ends(make_scene: Callable[..., Scene]) -> None:
    """Promise 2: entries stop at `active_max`, and a slot that is released goes to the lowest number."""
    scene = make_scene(active_max=5)
    await scene.open()
    await called(scene, 12)
    assert await scene.granted(*range(1, 13)) == [1, 2, 3, 4, 5]
    scene.advance(1)
    held = await scene.claim(*range(6, 13))
    assert {(one.code, one.reason) for one in held} == {(Code.HELD, "cap")}
    await scene.store.release([ident(2)])
    assert await scene.granted(*range(6, 13)) == [6]
    assert (await scene.census()).active == 5


async def test_slots_come_back_without_traffic(make_scene: Callable[..., Scene]) -> None:
    """Promise 2: nothing leaks: a session after the last use, active is 0 and the cap is free again."""
    scene = make_scene(active_max=2, session_s=60)
    await scene.open()
    await called(scene, 4)
    assert await scene.granted(1, 2, 3, 4) == [1, 2]
    await scene.run(59)
    assert (await scene.census()).active == 2
    await scene.run(2)
    assert (await scene.census()).active == 0
    assert await scene.granted(3, 4) == [3, 4]


async def change(scene: Scene, version: int, **settings: object) -> None:
    base = as_document(replace(scene.room.settings, **settings))  # type: ignore[arg-type]  # a test names real fields
    assert await scene.store.write_settings(replace(scene.record(version), base=base))


async def test_credit_is_kept_in_permits_when_the_rate_changes(make_scene: Callable[..., Scene]) -> None:
    """Promise 1: a cut counts at once and turns no time already earned into entries of the new rate, nor the reverse."""
    scene = make_scene(drain_rate=Rate(100, "s"), burst=100)
    await scene.open()
    await called(scene, 150)
    await scene.claim(*range(1, 151))
    scene.advance(0.1)  # ten permits at the old rate
    await change(scene, 1, drain_rate=Rate(10, "s"), burst=100)
    assert len(await scene.granted(*range(101, 151))) == 10
    scene.advance(0.5)
    assert len(await scene.granted(*range(111, 151))) == 5


async def test_a_raise_takes_effect_in_steps(make_scene: Callable[..., Scene]) -> None:
    """Promise 6: x1.26 every 6 s, so that the crowd called at the old rate reaches the door first."""
    scene = make_scene()
    await scene.open()
    await scene.run(6)
    await change(scene, 1, drain_rate=Rate(100, "s"), burst=100)
    rates = []
    for _ in range(12):
        await scene.run(6)
        rates.append((await scene.census()).rate_per_s)
    assert rates[0] <= 10 * 1.26**2 + 0.01
    assert all(later <= earlier * 1.26 + 0.01 for earlier, later in pairwise(rates))
    assert rates[-1] == pytest.approx(100)


async def test_a_paused_room_grants_nothing_and_calls_up_to_its_target(make_scene: Callable[..., Scene]) -> None:
    """Section 8: a paused room admits nobody, newcomers included; when it opens the door has claims at hand."""
    scene = make_scene(paused=True)
    await scene.open()
    await scene.join(*range(1, 501))
    for _ in range(60):
        await scene.run(0.5)
        held = await scene.claim(*range(1, 501))
        assert not [one for one in held if one.code is Code.ADMITTED]
    census = await scene.census()
    assert census.reason == "paused"
    assert 20 <= census.held <= 60, "2 s of the rate and a margin"
    assert codes(await scene.store.enter([Contact(ident(900))])) == [Code.BUSY]
    await change(scene, 1, paused=False)
    assert len(await scene.granted(*range(1, 501))) == 10


async def test_the_door_shuts_and_the_caller_stops_when_the_stock_is_taken(make_scene: Callable[..., Scene]) -> None:
    """Section 8: with stock known nobody is called whom it will not reach."""
    scene = make_scene(stock=8)
    await scene.open()
    await scene.join(*range(1, 101))
    entered = 0
    for _ in range(40):
        await scene.run(0.5)
        entered += len(await scene.granted(*range(entered + 1, 101)))
    census = await scene.census()
    assert entered == 8
    assert census.reason == "stock"
    assert census.active == 8
    assert census.held <= 20


async def test_nobody_is_called_while_the_upstream_is_down(scene: Scene) -> None:
    """Section 8: with no healthy upstream the door shuts by itself and nobody is called."""
    await scene.join(*range(1, 50))
    for _ in range(20):
        scene.advance(0.1)
        ticked = await scene.store.tick(is_upstream_down=True)
        assert ticked.called == 0
    assert (await scene.census()).passed == 0


async def test_an_idle_room_lets_newcomers_in_at_once_until_its_credit_is_used(scene: Scene) -> None:
    """Section 4: instant entry, in the same request, within the rate (promise 1)."""
    await scene.run(2)
    standings = await scene.store.enter([Contact(ident(i)) for i in range(1, 16)])
    assert codes(standings) == [Code.ADMITTED] * 10 + [Code.BUSY] * 5
    assert codes(await scene.store.enter([Contact(ident(1))])) == [Code.ADMITTED], "a retry finds its slot"
    census = await scene.census()
    assert (census.instants, census.active) == (10, 10)


@pytest.mark.parametrize("who", ["waits", "is called", "claims"])
async def test_instant_entry_never_overtakes_anybody(scene: Scene, who: str) -> None:
    """Promise 3: while somebody waits, holds a claim or was called within 2 s, nobody enters at once."""
    await scene.run(2)
    await scene.join(1)
    if who != "waits":
        await scene.run(0.1)
    if who == "claims":
        await scene.run(1)
        await change(scene, 1, active_max=0)
        assert codes(await scene.claim(1)) == [Code.HELD]
        await change(scene, 2, active_max=1000)
        scene.advance(0.2)
    assert codes(await scene.store.enter([Contact(ident(9))])) == [Code.BUSY]
    assert await scene.granted(1) == ([] if who == "waits" else [1])


async def test_an_unconfirmed_slot_lapses_after_30_s_and_comes_back_with_the_admission(scene: Scene) -> None:
    """Section 4: monitors and previews never come back; the admission itself stays good."""
    await scene.run(2)
    await scene.store.enter([Contact(ident(1)), Contact(ident(2))])
    assert await scene.touch(2) == [600_000_000]
    await scene.run(31)
    assert (await scene.census()).active == 1
    assert await scene.touch(1) == [600_000_000]
    assert (await scene.census()).active == 2


async def test_a_ticket_holder_enters_an_idle_room_under_the_ticket_which_is_spent(scene: Scene) -> None:
    """Promise 4: the number is used up by the instant entry."""
    await scene.join(1)
    await scene.run(5)
    assert codes(await scene.store.enter([Contact(ident(1), 1, 1)])) == [Code.ADMITTED]
    await scene.store.release([ident(1)])
    assert codes(await scene.find(1)) == [Code.ENDED]
    assert codes(await scene.store.enter([Contact(ident(1), 1, 1)])) == [Code.ENDED]
    assert codes(await scene.store.enter([Contact(ident(3), 77, 1)])) == [Code.AHEAD]
    assert await scene.places() == {}
