"""Joins and look-ups: one key, one place; what a ticket finds after anything that may have happened to it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.model import Code, Contact, Memory
from tests.queue.conftest import START_S, Scene, codes, ident


async def test_joins_of_a_batch_get_ascending_numbers_and_their_places(scene: Scene) -> None:
    """Promise 3: numbers come from one counter, in the order of arrival."""
    standings = await scene.join(*range(1, 251))
    assert [one.number for one in standings] == list(range(1, 251))
    assert [one.detail for one in standings] == list(range(250)), "detail is how many places are ahead"
    assert set(codes(standings)) == {Code.NEW}


async def test_joining_again_finds_the_same_place(scene: Scene) -> None:
    """Promise 4: from another tab, by retry or by replay, also within one batch."""
    first = await scene.join(1, 2, 3)
    again = await scene.join(3, 3, 2)
    assert [one.number for one in first] == [1, 2, 3]
    assert [(one.code, one.number, one.detail) for one in again] == [
        (Code.KNOWN, 3, 2),
        (Code.KNOWN, 3, 2),
        (Code.KNOWN, 2, 1),
    ]
    twice = await scene.join(7, 8, 8)
    assert [(one.code, one.number, one.detail) for one in twice] == [
        (Code.NEW, 4, 3),
        (Code.NEW, 5, 4),
        (Code.KNOWN, 5, 4),
    ]
    assert len(await scene.places()) == 5


async def test_a_lost_answer_is_made_good_by_asking_again(scene: Scene) -> None:
    """Promise 4: the retry of a join whose answer was lost gets the number that was given."""
    await scene.join(1)
    assert [(one.code, one.number) for one in await scene.join(1)] == [(Code.KNOWN, 1)]
    assert (await scene.census()).joins == 1


async def test_a_ticket_above_the_cursor_is_known_and_below_it_called(scene: Scene) -> None:
    """Promise 5: every unspent ticket at or below the cursor may claim, at once or late."""
    await scene.join(*range(1, 101))
    await scene.run(0.2)
    census = await scene.census()
    assert 0 < census.passed < 100
    found = await scene.find(census.passed, census.passed + 1)
    assert codes(found) == [Code.CALLED, Code.KNOWN]
    assert 0 < found[0].detail <= scene.room.claim_window_s * 1_000_000
    assert found[1].detail == 0


async def test_tickets_of_another_epoch_and_ahead_of_the_counter_are_told_apart(scene: Scene) -> None:
    """Promise 13 and 5: an old epoch has ended; a number or epoch ahead of Redis proves that it lost something."""
    await scene.join(1)
    assert codes(await scene.find(1)) == [Code.KNOWN]
    await scene.store.reset(1, void_admissions=False)
    old, ahead, next_epoch = (await scene.find(1, epoch=1), await scene.find(99, epoch=2), await scene.find(1, epoch=3))
    assert codes(old + ahead + next_epoch) == [Code.ENDED, Code.AHEAD, Code.AHEAD]


async def test_a_spent_ticket_is_ended_and_its_key_joins_anew(scene: Scene) -> None:
    """Promise 4: a ticket is spent once; the key may come again, at the end of the line."""
    await scene.join(1, 2)
    assert await scene.leave(1) == [True]
    assert await scene.leave(1) == [False], "a retry changes nothing"
    assert codes(await scene.find(1)) == [Code.ENDED]
    assert [one.number for one in await scene.join(1)] == [3]


async def test_a_place_that_redis_lost_is_seated_again_at_its_number(scene: Scene) -> None:
    """Promise 5: the signed ticket is the durable place."""
    await scene.join(*range(1, 6))
    await scene.connection.client.eval("return redis.call('ZREM', KEYS[1], ARGV[1])", 1, scene.key("queue"), ident(2))
    standing = (await scene.find(2))[0]
    assert (standing.code, standing.number, standing.detail) == (Code.KNOWN, 2, 1)
    assert (await scene.places())[ident(2)] == 2


async def test_of_two_tickets_of_one_key_the_older_place_wins(scene: Scene) -> None:
    """Promises 4 and 5: after a loss a key may hold two tickets; it has one place, the earlier one, and the other is spent."""
    await scene.join(1, 2, 3)
    await scene.connection.client.eval("return redis.call('ZREM', KEYS[1], ARGV[1])", 1, scene.key("queue"), ident(1))
    assert [one.number for one in await scene.join(1)] == [4]
    assert [one.number for one in await scene.find(1)] == [1]
    newer = await scene.store.check_in([Contact(ident(1), 4, 1)])
    assert [one.number for one in newer] == [1]
    assert sorted((await scene.places()).values()) == [1, 2, 3]
    assert await scene.leave(1) == [True]
    assert codes(await scene.store.check_in([Contact(ident(1), 4, 1)])) == [Code.ENDED]


async def test_a_key_that_holds_a_lease_is_told_so_and_gets_no_second_place(scene: Scene) -> None:
    """Promise 4: one key, one entry, as long as its lease lives."""
    await scene.run(1)
    assert codes(await scene.store.enter([Contact(ident(1))])) == [Code.ADMITTED]
    assert codes(await scene.join(1)) == [Code.ADMITTED]
    assert await scene.places() == {}


async def test_a_full_line_refuses_newcomers_and_seats_those_who_have_a_place(make_scene: Callable[..., Scene]) -> None:
    """Promise 5 before the limit: `waiting_max` counts present places; a place that is known is never refused."""
    scene = make_scene(waiting_max=3)
    await scene.open()
    assert codes(await scene.join(1, 2, 3, 4)) == [Code.NEW, Code.NEW, Code.NEW, Code.FULL]
    assert codes(await scene.join(3)) == [Code.KNOWN]
    assert await scene.leave(2) == [True]
    assert codes(await scene.join(4, 5)) == [Code.NEW, Code.FULL]


async def test_places_of_those_who_went_silent_make_room_in_a_full_line(make_scene: Callable[..., Scene]) -> None:
    """`waiting_max` counts who is present: heard from in this slice of a minute or the last one."""
    scene = make_scene(waiting_max=2, paused=True)
    await scene.open()
    await scene.join(1, 2)
    await scene.run(115, step_s=0.5)
    assert codes(await scene.join(3)) == [Code.FULL]
    await scene.run(60, step_s=0.5, present=(1,))
    assert (await scene.census()).present == 1
    assert codes(await scene.join(3, 4)) == [Code.NEW, Code.FULL]


async def test_a_room_before_opening_seats_and_after_closing_refuses(make_scene: Callable[..., Scene]) -> None:
    """Section 8: scheduled rooms take numbers before they open; closed ones refuse joins and entries."""
    scene = make_scene(opens_at_s=START_S + 60, closes_at_s=START_S + 120)
    await scene.open()
    assert codes(await scene.join(1)) == [Code.NEW]
    await scene.run(30, step_s=0.5)
    assert (await scene.census()).reason == "scheduled"
    assert (await scene.census()).calls == 0
    assert codes(await scene.store.enter([Contact(ident(9))])) == [Code.BUSY]
    await scene.run(35, step_s=0.5)
    assert await scene.granted(1) == [1]
    await scene.join(2)
    await scene.run(60, step_s=0.5)
    assert (await scene.census()).reason == "closed"
    assert codes(await scene.join(3)) == [Code.CLOSED]
    assert codes(await scene.claim(2)) == [Code.HELD]


async def test_a_sold_out_room_refuses_newcomers(make_scene: Callable[..., Scene]) -> None:
    """Section 8: with nothing left, every answer says so."""
    scene = make_scene(stock=0)
    await scene.open()
    assert codes(await scene.join(1)) == [Code.SOLD_OUT]
    assert codes(await scene.store.enter([Contact(ident(2))])) == [Code.BUSY]


async def test_numbers_beyond_the_bitmap_keep_their_presence(scene: Scene) -> None:
    """Promise 15: presence is kept modulo 2^23, so a high number costs no more than a low one."""
    await scene.store.heal(Memory(highest_number=20_000_000, clock_us=60_000_000), scene.record())
    await scene.run(3)
    (standing,) = await scene.join(1)
    assert standing.number == 20_010_000
    assert (await scene.census()).present == 1
    sizes = [
        await scene.connection.client.eval("return redis.call('STRLEN', KEYS[1])", 1, scene.key(f"seen:{i}"))
        for i in range(3)
    ]
    assert max(sizes) <= 2**20


async def test_a_mark_that_comes_late_does_not_count_who_has_gone(scene: Scene) -> None:
    """`waiting_max` stays honest: marks travel in batches and may arrive after the place was given up."""
    await scene.join(1, 2)
    await scene.leave(1)
    await scene.store.mark([1, 2, 50])
    assert (await scene.census()).present == 1
