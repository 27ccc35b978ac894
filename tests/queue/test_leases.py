"""Leases, releases, resets and settings: what operators and upstreams do to a room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.errors import Unknown
from gateway.model import ClaimTry, Code, Contact
from gateway.queue.scripts import KEY_NAMES
from tests.queue.conftest import START_S, Scene, codes, ident
from tests.queue.test_door import called


async def test_a_lease_slides_while_it_is_used(make_scene: Callable[..., Scene]) -> None:
    """Promise 2: a touch extends the slot; without one it lapses."""
    scene = make_scene(session_s=60)
    await scene.open()
    await called(scene, 2)
    await scene.granted(1, 2)
    for _ in range(3):
        await scene.run(40, step_s=0.5)
        assert await scene.touch(1) == [60_000_000]
    census = await scene.census()
    assert (census.active, census.lapsed) == (1, 1)


async def test_no_lease_goes_beyond_session_max_and_nothing_of_it_stays(make_scene: Callable[..., Scene]) -> None:
    """Promise 2: touches renew up to `session_max` after the entry; what is remembered of an entry ends with its slot."""
    scene = make_scene(session_s=60, session_max_s=100)
    await scene.open()
    await called(scene, 1)
    await scene.granted(1)
    entered_s = scene.now_us // 1_000_000
    leases = []
    for _ in range(5):
        await scene.run(25, step_s=0.5)
        leases += await scene.touch(1, issued_at_s=entered_s)
    assert leases[0] == 60_000_000
    assert leases[-2:] == [0, 0]
    await scene.run(61, step_s=0.5)
    assert await scene.touch(1, issued_at_s=entered_s) == [0]
    assert (await scene.census()).active == 0
    source = "return redis.call('EXISTS', KEYS[1], KEYS[2])"
    assert await scene.connection.client.eval(source, 2, scene.key("active"), scene.key("entered")) == 0


async def test_a_released_admission_is_refused_and_its_slot_is_free(scene: Scene) -> None:
    """Section 8: the upstream ends a lease; touches of what was issued before are refused, entries since are not."""
    await called(scene, 3)
    await scene.granted(1, 2, 3)
    assert await scene.store.release([ident(1), ident(2)], [START_S, START_S]) == 2
    assert await scene.store.release([ident(1)], [START_S]) == 0, "a retry"
    assert await scene.touch(1, 3) == [0, 600_000_000]
    reading = await scene.store.read(0, 0, 0)
    assert [one for one, _ in reading.releases] == [ident(1), ident(2)]
    stamps = [stamp for _, stamp in reading.releases]
    assert stamps == sorted(set(stamps)), "each has a stamp of its own, so a reader misses none"
    assert (await scene.store.read(0, 0, stamps[0])).releases == reading.releases[1:]


async def test_a_retried_release_leaves_alone_what_was_entered_since(scene: Scene) -> None:
    """Promise 4: every call can be retried safely; the lease of a second visit is not ended by the first one's release."""
    await scene.run(2)
    await scene.store.enter([Contact(ident(1))])
    issued_s = scene.now_us // 1_000_000
    assert await scene.store.release([ident(1)], [issued_s]) == 1
    await scene.run(2)
    assert codes(await scene.store.enter([Contact(ident(1))])) == [Code.ADMITTED]
    assert await scene.store.release([ident(1)], [issued_s]) == 0
    assert (await scene.census()).active == 1
    assert await scene.store.release([ident(1)], [scene.now_us // 1_000_000]) == 1


async def test_five_hundred_releases_of_one_moment_are_all_read(scene: Scene) -> None:
    """Section 8: every gateway refuses it within 1 s, also when a report ends many at once."""
    await scene.store.release([ident(i) for i in range(1, 501)])
    await scene.store.release([ident(i) for i in range(501, 701)])
    seen, newest = set(), 0
    while releases := (await scene.store.read(0, 0, newest)).releases:
        seen |= {one for one, _ in releases}
        newest = releases[-1][1]
    assert len(seen) == 700


async def test_a_reset_voids_tickets_and_never_gives_a_number_twice(scene: Scene) -> None:
    """Promises 4 and 13: the epoch rises, older tickets have ended, numbers go on; asked again it does nothing."""
    await scene.join(1, 2, 3)
    await scene.run(2)
    await scene.claim(1)
    assert (await scene.store.reset(1, void_admissions=False))[0] == 2
    assert await scene.store.reset(1, void_admissions=False) == (2, 0), "a retry"
    assert codes(await scene.find(2, 3, epoch=1)) == [Code.ENDED, Code.ENDED]
    (standing,) = await scene.join(2)
    assert (standing.code, standing.number, standing.epoch) == (Code.NEW, 4, 2)
    census = await scene.census()
    assert (census.active, census.present, census.held, census.young) == (1, 1, 0, 0)


async def test_a_reset_that_voids_admissions_ends_them(scene: Scene) -> None:
    """Promise 13: admissions of the old epoch are refused, their slots are free."""
    await called(scene, 2)
    await scene.granted(1, 2)
    assert await scene.store.reset(1, void_admissions=True) == (2, 2)
    assert await scene.touch(1) == [0]
    census = await scene.census()
    assert (census.active, census.admission_epoch) == (0, 2)


async def test_settings_are_written_once_and_a_retry_finds_them(scene: Scene) -> None:
    """Promise 4: of two who computed from the same version one wins; the retry of a lost answer is no conflict."""
    mine, other = scene.record(1, paused=True), scene.record(1, active_max=5)
    assert await scene.store.write_settings(mine)
    assert await scene.store.write_settings(mine)
    assert not await scene.store.write_settings(other)
    stored = (await scene.store.read(0, 0, 0)).settings
    assert stored == replace(mine, version=2)
    assert (await scene.store.read(0, 2, 0)).settings is None, "what a gateway has is not sent again"


async def test_who_names_the_stock_ends_what_the_upstream_reported(make_scene: Callable[..., Scene]) -> None:
    """Section 8: a room that sold out by the upstream's word opens again at the figure it had; promise 4: a retry is no news."""
    scene = make_scene(stock=500)
    await scene.open()
    await scene.store.lower_stock(0)
    assert (await scene.census()).stock == 0
    assert await scene.store.write_settings(scene.record(1, paused=True))
    assert (await scene.census()).stock == 0, "it was about something else"
    again = scene.record(2, paused=True, stock=500)
    assert await scene.store.write_settings(again, names_stock=True)
    assert ((await scene.census()).stock, (await scene.census()).reported) == (500, 0)
    await scene.store.lower_stock(3)
    assert await scene.store.write_settings(again, names_stock=True), "its answer was lost"
    assert (await scene.census()).stock == 3, "the upstream spoke after it"


async def test_a_change_of_settings_is_on_the_next_board(scene: Scene) -> None:
    """Section 8: a change reaches every gateway within 1 s, and who made it reads it back at once."""
    await scene.census()
    assert await scene.store.write_settings(scene.record(1, stock=7))
    assert await scene.store.census() == 250_000, "not early"
    assert (await scene.store.read(0, 0, 0)).census.stock == 7


async def test_a_touch_never_shortens_a_lease_and_revives_one_that_lapsed(make_scene: Callable[..., Scene]) -> None:
    """Promise 2: an admission of an earlier entry is bound to an earlier end; the slot of the later one stays."""
    scene = make_scene(session_s=60, session_max_s=100)
    await scene.open()
    await scene.run(2)
    earlier_s = scene.now_us // 1_000_000 - 80
    await scene.store.enter([Contact(ident(1))])
    await scene.touch(1, issued_at_s=scene.now_us // 1_000_000)
    assert await scene.touch(1, issued_at_s=earlier_s) == [20_000_000 - scene.now_us % 1_000_000], (
        "what it may still have"
    )
    await scene.run(40, step_s=0.5)
    assert (await scene.census()).active == 1
    for _ in range(21):
        scene.advance(1)
        await scene.store.tick()  # no upkeep: the lease has lapsed and is still there
    assert (await scene.census()).active == 0
    assert await scene.touch(1, issued_at_s=scene.now_us // 1_000_000) == [60_000_000]
    assert (await scene.census()).active == 1


async def test_an_entry_and_a_leave_tell_the_number_of_the_place(scene: Scene) -> None:
    """Promise 4: what must stay spent after a loss is the place's number, also where the visitor shows another ticket."""
    await scene.join(1)
    await scene.store.check_in([Contact(ident(9), 0)])
    await scene.run(2)
    claimed = await scene.store.claim([ClaimTry(ident(9), 1, 1)])
    assert [(one.code, one.number) for one in claimed] == [(Code.ADMITTED, 2)]
    left = await scene.store.leave([Contact(ident(1), 1, 1), Contact(ident(1), 1, 1)])
    assert left == [1, 0]


async def test_a_room_that_was_never_made_answers_unknown_and_stays_unwritten(make_scene: Callable[..., Scene]) -> None:
    """Promise 5: a missing root never starts the counter again; only `heal` creates it."""
    scene = make_scene()
    store = scene.store
    calls = {
        "check_in": store.check_in([Contact(ident(1))]),
        "claim": scene.claim(1),
        "enter": store.enter([Contact(ident(1))]),
        "touch": scene.touch(1),
        "leave": scene.leave(1),
        "release": store.release([ident(1)]),
        "mark": store.mark([1]),
        "tick": store.tick(),
        "upkeep": store.upkeep(),
        "census": store.census(),
        "read": store.read(0, 0, 0),
        "settings": store.write_settings(scene.record()),
        "reset": store.reset(1, void_admissions=False),
        "respend": store.respend(1, [1]),
        "last": store.last_write_us(),
    }
    for call in calls.values():
        with pytest.raises(Unknown):
            await call
    source = "local n = 0 for _, k in ipairs(KEYS) do n = n + redis.call('EXISTS', k) end return n"
    keys = [scene.key(name) for name in KEY_NAMES]
    assert await scene.connection.client.eval(source, len(keys), *keys) == 0
