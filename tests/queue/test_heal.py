"""The loss of Redis: what `heal` makes whole, what the hold keeps shut, and what can never happen twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from gateway.errors import Unknown
from gateway.model import Code, Contact, Memory
from gateway.queue.connect import Connection
from gateway.queue.store import Healing
from tests.queue.conftest import START_US, Scene, codes, ident
from tests.queue.test_door import called

GAP = 10_000


def known(highest: int, *, passed: int = 0, places: int = 0, active: int = 0, epoch: int = 1) -> Memory:
    """What a gateway that read a board remembers."""
    return Memory(epoch=epoch, highest_number=highest, passed=passed, clock_us=65_000_000, active=active, places=places)


async def test_a_new_room_opens_at_once_with_no_credit(scene: Scene) -> None:
    """Section 9: missing keys alone are a new room; promise 1: credit that is missing starts at 0."""
    census = await scene.census()
    assert (census.left_us, census.next, census.permits, census.epoch) == (0, 1, 0, 1)
    assert [one.number for one in await scene.join(1)] == [1]


async def test_healing_what_is_whole_changes_nothing(scene: Scene) -> None:
    """Promise 4: any gateway may heal at any time; a room that lost nothing keeps its credit and its door."""
    await scene.join(1, 2)
    await scene.run(2)
    before = await scene.census()
    assert not await scene.store.heal(known(2, passed=2, places=2), scene.record(1))
    assert await scene.census() == replace(before, version=before.version + 1)


async def test_after_a_flush_nothing_goes_on_until_it_is_healed(scene: Scene) -> None:
    """Promise 5: after FLUSHALL the counter does not start again at 1."""
    await scene.join(*range(1, 11))
    await scene.erase()
    with pytest.raises(Unknown):
        await scene.join(11)
    await scene.store.heal(known(10, places=10), scene.record(1))
    assert codes(await scene.join(11)) == [Code.RECOVERING]
    census = await scene.census()
    assert census.next == 10 + GAP
    assert census.reason == "recovering"


async def test_places_are_seated_again_in_the_same_order_and_the_hold_ends(scene: Scene) -> None:
    """Promise 5: signed tickets seat everyone again; newcomers of the hold are numbered after them, by arrival."""
    await scene.join(*range(1, 11))
    await scene.erase()
    await scene.store.heal(known(10, places=10), scene.record(1))
    late, early = START_US - 1_000_000, START_US - 9_000_000
    arrivals = [Contact(ident(50), arrived_us=late), Contact(ident(51), arrived_us=early)]
    assert codes(await scene.store.check_in(arrivals)) == [Code.RECOVERING] * 2
    assert codes(await scene.join(50, 52)) == [Code.RECOVERING] * 2
    for number in (7, 3, 10, 1, 2, 4, 5, 6, 8, 9):
        assert codes(await scene.find(number)) == [Code.KNOWN]
    await scene.run(1.5)
    assert (await scene.census()).reason == "recovering", "the other gateways have 2 s to report"
    assert codes(await scene.claim(1)) == [Code.WAITING]
    await scene.run(1)
    order = sorted((number, one) for one, number in (await scene.places()).items())
    assert [one for _, one in order] == [*(ident(i) for i in range(1, 11)), ident(51), ident(50), ident(52)]
    assert order[10][0] == 10 + GAP
    assert (await scene.census()).left_us == 0


async def test_without_all_places_the_hold_lasts_one_presence_window(scene: Scene) -> None:
    """Section 9: one presence window, and then it goes on with those who were heard from."""
    await scene.join(*range(1, 11))
    await scene.erase()
    await scene.store.heal(known(10, places=10), scene.record(1))
    await scene.find(2, 5)
    await scene.run(119, step_s=0.5)
    assert (await scene.census()).reason == "recovering"
    assert (await scene.census()).calls == 0
    await scene.run(2, step_s=0.5)
    assert (await scene.census()).calls == 2


async def test_a_proof_without_a_board_holds_the_whole_window(scene: Scene) -> None:
    """Section 9: loss is also proved by a signed token; how many waited is then unknown."""
    await scene.erase()
    await scene.store.heal(Memory(epoch=1, highest_number=500), scene.record(1))
    await scene.run(60, step_s=0.5)
    assert (await scene.census()).reason == "recovering"


async def test_a_restart_that_lost_nothing_holds_two_seconds(scene: Scene) -> None:
    """Section 9: another run id; nobody's report raises anything; numbers given and not yet known stay clear of new ones."""
    await scene.join(1, 2, 3)
    await scene.run(2)
    await scene.restamp()
    with pytest.raises(Unknown):
        await scene.store.tick()
    assert await scene.store.heal(known(3, passed=3, places=3), scene.record(1))
    await scene.run(1.8)
    assert codes(await scene.claim(1)) == [Code.HELD]
    assert (await scene.claim(1))[0].reason == "recovering"
    assert await scene.touch(9) == [600_000_000], "touches go on"
    assert await scene.leave(3) == [True], "leaves go on"
    await scene.run(0.3)
    assert (await scene.census()).left_us == 0
    await scene.run(1)
    assert await scene.granted(1) == [1]
    assert (await scene.join(4))[0].number == 3 + GAP


async def test_after_a_restart_a_report_that_knows_more_prolongs_the_hold(scene: Scene) -> None:
    """Section 9: the first gateway knew nothing of what was lost, the second does."""
    await scene.join(*range(1, 6))
    await scene.restamp()
    await scene.store.heal(known(5, places=5), scene.record(1))
    assert await scene.store.heal(known(80, places=80), scene.record(1))
    await scene.run(5)
    census = await scene.census()
    assert census.reason == "recovering"
    assert census.next >= 80 + GAP


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_gateways_that_know_different_things_heal_in_any_order(
    make_scene: Callable[..., Scene], order: tuple[int, ...]
) -> None:
    """Section 9: within one epoch counters take the maximum, settings the higher version; a lower epoch is ignored."""
    scene = make_scene()
    reports = [
        (known(900, passed=40, places=300, active=7, epoch=3), scene.record(5, paused=True)),
        (known(950, passed=20, places=310, active=9, epoch=3), scene.record(4)),
        (known(40_000, passed=39_000, places=9, active=500, epoch=2), scene.record(3)),
    ]
    for i in order:
        await scene.store.heal(*reports[i])
    again = [await scene.store.heal(*reports[i]) for i in order]
    assert again == [None] * 3, "a second round changes nothing"
    census = await scene.census()
    assert (census.epoch, census.passed, census.settings) == (3, 40, 5)
    assert census.active == (9 if order[0] != 2 else 500), "what was counted stands in until a session has passed"
    assert 950 + GAP <= census.next <= 40_000 + 2 * GAP
    assert census.left_us == 120_000_000


async def test_no_number_is_given_twice_over_repeated_losses(scene: Scene) -> None:
    """Promise 4: gaps, never twins."""
    seen: list[int] = []
    for round_number in range(4):
        ids = range(1 + 20 * round_number, 21 + 20 * round_number)
        seen += [one.number for one in await scene.join(*ids)]
        await scene.erase()
        await scene.store.heal(known(max(seen), places=0), scene.record(1))
        await scene.run(2.2)
        assert (await scene.census()).left_us == 0, "nobody was to be seated"
    assert len(set(seen)) == 80


async def test_who_read_a_board_before_the_first_join_gives_no_number_again(scene: Scene) -> None:
    """Promise 4: the first numbers were given after the last board; that there was a board proves that there was a room."""
    memory = replace(Memory(), clock_us=(await scene.census()).clock)
    assert [one.number for one in await scene.join(1, 2)] == [1, 2]
    await scene.erase()
    assert await scene.store.heal(memory, scene.record(1)) is Healing.HEALED
    await scene.run(2.2)
    assert (await scene.join(3))[0].number >= GAP


async def test_a_server_that_is_behind_on_events_is_not_whole(make_scene: Callable[..., Scene]) -> None:
    """Promises 2 and 4: who heals second knows of instant entries that the first, with no memory, did not: they count, and
    no event's number is told again."""
    scene = make_scene(gateways=2, active_max=5, session_s=60)
    await scene.open()
    for visitor in range(1, 5):
        await scene.run(0.5)
        assert (await scene.store.enter([Contact(ident(visitor))]))[0].code is Code.ADMITTED
    memory = Memory(clock_us=(await scene.census()).clock, active=4, events=scene.store.newest_event)
    assert memory.events >= 4
    await scene.erase()
    assert await scene.stores[1].heal(Memory(), scene.record(0)) is Healing.MADE
    await scene.run(0.2)
    assert await scene.store.heal(memory, scene.record(1)) is Healing.HEALED
    assert (await scene.census()).active == 4
    assert scene.store.newest_event > memory.events
    assert await scene.store.heal(memory, scene.record(1)) is None, "whole, now that it was told"


async def test_spent_stays_spent_whoever_comes_first(scene: Scene) -> None:
    """Promise 4: a ticket that entered before the loss is refused, also when it came back before the spent bits did."""
    await called(scene, 4)
    assert await scene.granted(1, 2) == [1, 2]
    await scene.erase()
    await scene.store.heal(known(4, passed=4, places=0), scene.record(1))
    assert codes(await scene.find(1)) == [Code.CALLED], "this server does not know yet"
    await scene.claim(1)
    await scene.store.respend(1, [1, 2])
    await scene.store.respend(1, [1, 2])
    assert codes(await scene.find(1, 2, 3)) == [Code.ENDED, Code.ENDED, Code.CALLED]
    await scene.store.respend(2, [3])
    await scene.find(4)
    await scene.run(3)
    assert await scene.granted(1, 2, 3, 4) == [3, 4], "spent numbers of another epoch are not ours"


async def test_the_last_known_count_stands_in_for_lost_leases(make_scene: Callable[..., Scene]) -> None:
    """Promise 2: after a loss the cap counts those who were inside, each once, until one session has passed."""
    scene = make_scene(active_max=5, session_s=60)
    await scene.open()
    await called(scene, 8)
    await scene.granted(1, 2, 3, 4)
    issued_s = scene.now_us // 1_000_000
    await scene.erase()
    await scene.store.heal(known(8, passed=8, places=0, active=4), scene.record(1))
    await scene.find(5, 6, 7, 8)
    await scene.run(3)
    assert await scene.granted(5, 6, 7, 8) == [5]
    assert await scene.touch(1, 2, issued_at_s=issued_s) == [60_000_000] * 2
    assert (await scene.census()).active == 5, "known again, counted once"
    await scene.run(2)
    assert await scene.granted(6) == []
    assert await scene.store.release([ident(3)]) == 0
    assert await scene.granted(6, 7) == [6]
    await scene.run(61, step_s=0.5)
    assert (await scene.census()).active == 0


async def test_leases_that_were_not_lost_are_counted_once_whoever_tells_of_them(
    make_scene: Callable[..., Scene],
) -> None:
    """Promises 2 and 6: another server has them all; gateways that counted them at different times add nobody."""
    scene = make_scene(active_max=50)
    await scene.open()
    await called(scene, 6)
    await scene.granted(1, 2, 3, 4, 5, 6)
    await scene.restamp()
    for active in (3, 5, 6):
        await scene.store.heal(known(6, passed=6, active=active), scene.record(1))
        assert (await scene.census()).active == 6


async def test_an_admission_of_after_the_loss_takes_the_place_of_no_lost_one(make_scene: Callable[..., Scene]) -> None:
    """Promise 2: only what was issued before the loss can have been among those counted."""
    scene = make_scene(active_max=100)
    await scene.open()
    await scene.erase()
    await scene.store.heal(known(0, active=10), scene.record(1))
    await scene.run(1)
    await scene.touch(1, issued_at_s=scene.now_us // 1_000_000 + 60)
    assert (await scene.census()).active == 11


async def test_a_higher_epoch_replaces_what_redis_has(scene: Scene) -> None:
    """Section 9: a higher epoch, also proved by a verified ticket, voids the places of the lower."""
    await scene.join(1, 2)
    assert await scene.store.heal(Memory(epoch=3, highest_number=40), scene.record(1))
    assert await scene.places() == {}
    assert codes(await scene.find(1, epoch=1) + await scene.find(40, epoch=3)) == [Code.ENDED, Code.KNOWN]
    census = await scene.census()
    assert (census.epoch, census.next, census.present) == (3, 40 + GAP, 1)


async def test_places_that_outlived_their_root_are_no_twins(scene: Scene) -> None:
    """Promise 4: somebody deleted the root alone; its places still prove which numbers were given."""
    await scene.join(*range(1, 31))
    await scene.connection.client.eval("return redis.call('DEL', KEYS[1])", 1, scene.key("pace"))
    await scene.store.heal(Memory(), scene.record())
    assert (await scene.census()).next == 30 + GAP


async def test_lost_settings_alone_are_made_whole(scene: Scene) -> None:
    """Section 9: without its limits the door answers unknown, and any gateway brings them back."""
    await scene.join(1)
    await scene.connection.client.eval("return redis.call('DEL', KEYS[1])", 1, scene.key("settings"))
    with pytest.raises(Unknown):
        await scene.store.tick()
    assert await scene.store.heal(known(1, places=1), scene.record(1, active_max=3))
    stored = (await scene.store.read(0, 0, 0)).settings
    assert stored is not None
    assert stored.overrides == {"active_max": 3}
    assert codes(await scene.find(1)) == [Code.KNOWN]


async def test_what_the_upstream_reported_comes_back_with_the_settings_it_was_about(
    make_scene: Callable[..., Scene],
) -> None:
    """Section 9: a room that was sold out stays so after a loss; one that operators opened since is not shut by older news."""
    scene = make_scene(stock=100)
    await scene.open()
    await scene.erase()
    sold_out = replace(known(1), reported=1)
    await scene.store.heal(sold_out, scene.record(3))
    assert (await scene.census()).stock == 0
    await scene.store.heal(known(1), scene.record(4, stock=50))
    assert (await scene.census()).stock == 50, "the report was about what these settings replace"
    await scene.store.heal(sold_out, scene.record(3))
    assert (await scene.census()).stock == 50, "a gateway that knows less tells it last"
    await scene.store.heal(replace(known(1), reported=31), scene.record(4, stock=50))
    await scene.store.heal(replace(known(1), reported=41), scene.record(4, stock=50))
    assert (await scene.census()).stock == 30, "the lowest of those who know the same settings"


async def test_data_that_were_written_to_since_or_end_earlier_are_no_proof(scene: Scene) -> None:
    """Promise 4: a copy of older data, a file that lost its end, a stop that another gateway outlived: gaps, never twins."""
    await scene.join(1, 2)
    sealed_us = await scene.store.last_write_us()
    await scene.run(2)
    for known_us in (sealed_us, await scene.store.last_write_us() + 1, 0):
        await scene.restamp()
        before = await scene.places()
        assert (
            await scene.store.heal(replace(known(2, passed=2), sealed_us=known_us), scene.record(1)) is Healing.HEALED
        )
        await scene.run(3)
        assert await scene.places() == before
    assert (await scene.join(3))[0].number >= 3 * (GAP - 1)


async def test_data_that_end_with_the_last_write_go_on_as_they_are(scene: Scene) -> None:
    """Promise 11: no gap, no hold, no credit lost or gained; numbers that a gateway knows beyond them still prove a loss."""
    await scene.join(1, 2)
    await scene.run(2)
    before = await scene.census()
    sealed = replace(known(2, passed=2), sealed_us=await scene.store.last_write_us())
    await scene.restamp()
    assert await scene.store.heal(sealed, scene.record(1)) is Healing.CONTINUED
    assert await scene.store.heal(sealed, scene.record(1)) is None
    census = await scene.census()
    assert (census.next, census.left_us, census.permits) == (before.next, 0, before.permits)
    sealed = replace(sealed, highest_number=50, sealed_us=await scene.store.last_write_us())
    await scene.restamp()
    assert await scene.store.heal(sealed, scene.record(1)) is Healing.HEALED
    assert (await scene.census()).next == 50 + GAP


async def test_nobody_overtakes_the_arrivals_of_the_hold_while_they_are_numbered(scene: Scene) -> None:
    """Section 9: provisional tickets are numbered by arrival, before anybody who joins after the hold."""
    await scene.erase()
    await scene.store.heal(known(0, passed=0, places=0, epoch=2), scene.record(1))
    for start in range(0, 1500, 250):
        await scene.store.check_in(
            [Contact(ident(5000 - i), arrived_us=START_US + i) for i in range(start, start + 250)]
        )
    scene.advance(1)
    await scene.store.upkeep()
    scene.advance(1)
    scene.advance(0.1)
    scene.set_clock(scene.now_us - 200_000)
    await scene.store.upkeep()
    while (await scene.places()) == {}:
        scene.advance(0.1)
        await scene.store.upkeep()
    assert len(await scene.places()) == 500
    assert codes(await scene.join(1)) == [Code.RECOVERING]
    await scene.beat()
    by_number = [one for _, one in sorted((number, one) for one, number in (await scene.places()).items())]
    assert by_number == [*(ident(5000 - i) for i in range(1500)), ident(1)]


async def test_presence_of_another_slice_is_not_taken_for_this_one(scene: Scene, connection: Connection) -> None:
    """Section 4: a heal that moves the room's clock on leaves no old marks behind, and nobody is absent for two slices."""
    await scene.join(*range(1, 6))
    await scene.restamp()
    memory = Memory(epoch=1, highest_number=5, clock_us=60_000_000 + 200_000_000, places=5)
    await scene.store.heal(memory, scene.record(1))
    assert (await scene.census()).present == 0
    await scene.find(1, 2)
    assert (await scene.census()).present == 2
    await scene.run(20, step_s=0.5)
    assert (await scene.census()).calls == 5
