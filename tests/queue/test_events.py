"""The record that the scripts write: one event a call, numbered by Redis, kept in a stream of bounded length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from gateway.model import Code, Contact, Memory, Rate
from gateway.queue.record import Bypassed, read_stream
from gateway.queue.store import Healing
from gateway.rules.audit import Verdict, check
from gateway.rules.events import Event
from tests.queue.conftest import START_S, START_US, Scene, codes, ident

MakeScene = Callable[..., Scene]
STREAM_BYTES = 262_144


def shown(visitor: int) -> str:
    return ident(visitor).hex()


async def record_of(scene: Scene) -> list[Event]:
    return await read_stream(scene.connection, scene.room.id)


async def last(scene: Scene) -> Event:
    return (await record_of(scene))[-1]


async def test_every_transition_is_an_event_with_the_next_number(make_scene: MakeScene) -> None:
    """Promises 1 to 4 can be judged afterwards: joins, calls, entries, releases, changes and losses, and no gap between."""
    scene = make_scene(burst=2, drain_rate=Rate(1, "s"))
    told: list[Event] = []
    scene.store._on_event = lambda _room, event: told.append(event)
    await scene.open()
    await scene.store.enter([])
    await scene.join(1, 2, 3, 4)
    await scene.run(2)
    await scene.claim(1, 2, 3)
    await scene.leave(4)
    await scene.store.release([ident(1)], [START_S])
    await scene.claim(3, withdrawn=True)
    await scene.store.write_settings(scene.record(1, burst=3), by="sre")
    await scene.store.lower_stock(7)
    await scene.store.tell_bypassed({"static": 3})
    await scene.store.reset(void_admissions=False, by="sre")
    events = await record_of(scene)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events] == [
        *("heal", "join", "call", "claim", "leave", "release", "claim", "settings", "stock", "bypass", "reset")
    ]
    assert told == events, "the caller is told what the stream was told"
    assert check(events).verdict is Verdict.KEPT


async def test_joins_of_a_batch_are_one_event(scene: Scene) -> None:
    """Promise 4: who got which number, by its id; who is known gets none, and a look-up alone is no event."""
    await scene.join(1, 2, 3)
    event = await last(scene)
    assert (event.kind, event.figures) == ("join", {"first": 1, "count": 3})
    assert event.ids["new"] == (shown(1), shown(2), shown(3))
    assert (event.epoch, event.at_us) == (1, START_US)
    await scene.join(2)
    await scene.find(3)
    assert await last(scene) == event
    await scene.join(2, 4)
    assert (await last(scene)).figures == {"first": 4, "count": 1}


async def test_calls_say_where_the_cursor_went(scene: Scene) -> None:
    """Promise 3: from where to where, and whom it called on its way; a step that moves nothing is no event."""
    await scene.join(*range(1, 60))
    scene.advance(0.1)
    await scene.beat()
    event = await last(scene)
    assert event.kind == "call"
    assert event.lists["called"] == tuple(range(1, event.figures["passed"] + 1))
    count = len(await record_of(scene))
    scene.advance(0.01)
    await scene.beat()
    assert len(await record_of(scene)) == count


async def test_the_door_tells_who_came_who_entered_and_by_which_limits(make_scene: MakeScene) -> None:
    """Promises 1 to 3: rate, burst, cap and slots as the door saw them, and the lower claims that kept a permit."""
    scene = make_scene(gateways=2, burst=4, drain_rate=Rate(1, "s"), active_max=50)
    await scene.open()
    await scene.join(1, 2, 3, 4, 5)
    await scene.run(3)
    assert await scene.granted(1) == [1]
    await scene.store.write_settings(scene.record(1, paused=True))
    await scene.claim(2, gateway=0)
    await scene.store.write_settings(scene.record(2, paused=False))
    await scene.claim(3, gateway=1)
    event = await last(scene)
    assert event.figures == {
        "rate": scene.room.settings.drain_rate.units_per_us,
        "burst": 4,
        "active_max": 50,
        "active": 1,
        "lease_us": 600_000_000,
    }
    assert (event.lists["arrived"], event.lists["entered"], event.lists["reserved"]) == ((3,), (3,), (2,))
    assert (event.ids["arrived"], event.ids["entered"], event.ids["gone"]) == ((shown(3),), (shown(3),), ())
    scene.advance(0.6)
    await scene.claim(4, gateway=1)
    assert (await last(scene)).lists["aside"] == (2,), "nobody tried it for half a second"
    assert check(await record_of(scene)).verdict is Verdict.KEPT


async def test_renewals_are_no_events(make_scene: MakeScene) -> None:
    """Promise 15: a claim that is held is tried every 50 ms, and told of once."""
    scene = make_scene(paused=True)
    await scene.open()
    await scene.join(1)
    await scene.run(1)
    await scene.claim(1)
    count = len(await record_of(scene))
    for _ in range(5):
        scene.advance(0.05)
        assert codes(await scene.claim(1)) == [Code.HELD]
    assert len(await record_of(scene)) == count
    for _ in range(3):
        scene.advance(0.9)
        await scene.store.mark([1])
    await scene.store.upkeep()
    event = await last(scene)
    assert (event.kind, event.ids["gone"]) == ("upkeep", (shown(1),)), "its gateway went away"


async def test_slots_that_lapse_and_come_back_are_told(make_scene: MakeScene) -> None:
    """Promise 2: when each ended, and who takes one again; a lease that is only extended is no event."""
    scene = make_scene()
    await scene.open()
    await scene.run(1)
    assert codes(await scene.store.enter([Contact(ident(7))])) == [Code.ADMITTED]
    event = await last(scene)
    assert (event.kind, event.figures["ahead"], event.lists["places"]) == ("enter", 0, (0,))
    assert event.ids["entered"] == (shown(7),)
    await scene.run(31)
    lapsed = await last(scene)
    assert (lapsed.kind, lapsed.ids["lapsed"]) == ("upkeep", (shown(7),))
    assert lapsed.lists["lapsed_at_us"] == (event.clock_us + 30_000_000,)
    await scene.touch(7)
    assert (await last(scene)).ids == {"back": (shown(7),)}
    count = len(await record_of(scene))
    await scene.touch(7)
    assert len(await record_of(scene)) == count
    assert check(await record_of(scene)).verdict is Verdict.KEPT


async def test_a_refused_retry_tells_nothing(scene: Scene) -> None:
    """Promise 4: a call that ran already changes nothing, and the record has it once."""
    await scene.join(1)
    await scene.run(1)
    await scene.claim(1)
    await scene.store.release([ident(1)], [START_S + 1])
    events = await record_of(scene)
    await scene.claim(1)
    await scene.store.release([ident(1)], [START_S + 1])
    await scene.store.write_settings(scene.record(0))
    assert await record_of(scene) == events


async def test_absent_places_and_arrivals_of_a_hold_are_told(make_scene: MakeScene) -> None:
    """Promises 4 and 5: a place that is spent for absence, and the numbers given when a hold ends."""
    scene = make_scene(absence_max_s=120, burst=2, drain_rate=Rate(1, "h"), active_max=1)
    await scene.open(Memory(highest_number=5, clock_us=61_000_000, places=0, events=40))
    scene.advance(0.5)
    assert codes(await scene.join(1, 2)) == [Code.RECOVERING] * 2
    await scene.run(3)
    joined = [event for event in await record_of(scene) if event.ids.get("new")]
    assert [event.ids["new"] for event in joined] == [(shown(1), shown(2))]
    assert joined[0].figures["first"] == 10_005
    await scene.run(400, step_s=0.5)
    absent = [event for event in await record_of(scene) if event.ids.get("absent")]
    assert [(event.lists["absent"], event.ids["absent"]) for event in absent] == [
        ((10_005, 10_006), (shown(1), shown(2)))
    ]
    assert check(await record_of(scene)).verdict is Verdict.KEPT


async def test_after_a_loss_the_numbers_go_on_beyond_all_that_is_known(make_scene: MakeScene) -> None:
    """Promise 4, of the record itself: a gap that the heal event states, and never one number for two events."""
    scene = make_scene(gateways=2)
    await scene.open()
    await scene.join(1, 2, 3)
    before = await record_of(scene)
    await scene.erase()
    healing = await scene.store.heal(Memory(highest_number=3, clock_us=61_000_000, places=3), scene.record(1))
    assert healing is Healing.HEALED
    event = await last(scene)
    assert (event.seq, event.figures["had"], event.figures["known"], event.figures["lost"]) == (10_002, 0, 2, 1)
    judged = check(before, await record_of(scene))
    assert (judged.verdict, judged.left_out) == (Verdict.KEPT, [(3, 10_001)])


async def test_where_the_root_alone_is_lost_the_stream_says_how_far_it_was(scene: Scene) -> None:
    """The ids of a stream only go up: were they begun anew, nothing could be written any more."""
    await scene.join(1, 2, 3)
    await scene.connection.client.eval("return redis.call('DEL', KEYS[1])", 1, scene.key("pace"))
    assert await scene.store.heal(Memory(), scene.record(1)) is not None
    events = await record_of(scene)
    assert [event.seq for event in events] == [1, 2, 10_002]
    assert events[-1].figures["known"] == 2


async def test_a_continued_room_goes_on_with_the_next_number(scene: Scene) -> None:
    """Promise 11: a clean restart loses no event and leaves no gap."""
    await scene.join(1)
    sealed = await scene.store.last_write_us()
    await scene.restamp()
    assert await scene.open(Memory(highest_number=1, sealed_us=sealed)) is Healing.CONTINUED
    await scene.join(2)
    assert [event.seq for event in await record_of(scene)] == [1, 2, 3]


@pytest.mark.parametrize(("batch", "calls"), [(250, 200), (1, 4_000)])
async def test_the_stream_is_cut_by_bytes(make_scene: MakeScene, batch: int, calls: int) -> None:
    """Promise 15: a constant for each room, whatever its events are; what is left is whole and can be judged."""
    scene = make_scene(audit_bytes=STREAM_BYTES)
    await scene.open()
    for start in range(1, calls * batch + 1, batch):
        scene.advance(0.1)
        await scene.join(*range(start, start + batch))
        await scene.store.census()
    source = "return redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0)"
    used = await scene.connection.client.eval(source, 1, scene.key("audit"))
    assert 0.7 * STREAM_BYTES < used < 1.1 * STREAM_BYTES
    judged = check(await record_of(scene))
    assert (judged.verdict, judged.last) == (Verdict.KEPT, calls + 1)
    assert judged.first > calls / 10


async def test_without_a_record_nothing_is_told(make_scene: MakeScene) -> None:
    """`[audit] stream = "0B"`: no stream, no number, no cost."""
    scene = make_scene(audit_bytes=0)
    await scene.open()
    await scene.join(1, 2)
    await scene.run(1)
    await scene.claim(1)
    bypassed = Bypassed(scene.store)
    bypassed.note("static")
    await bypassed.flush()
    assert await record_of(scene) == []
    assert scene.store.newest_event == 0


async def test_a_record_that_was_switched_off_for_a_while_has_a_gap(scene: Scene) -> None:
    """What happened meanwhile was never told: the record does not look whole."""
    await scene.join(1)
    kept = scene.record(1)
    scene.store.room = replace(scene.room, audit_bytes=0)
    assert await scene.store.write_settings(kept)
    await scene.join(2, 3)
    scene.store.room = scene.room
    assert await scene.store.write_settings(replace(kept, version=2))
    await scene.join(4)
    judged = check(await record_of(scene))
    assert (judged.verdict, judged.gaps) == (Verdict.UNDECIDED, [(3, 3)])


async def test_a_record_that_cannot_be_written_stops_no_room(scene: Scene) -> None:
    """Promise 5: a key of another kind in its place costs the record its events, and the numbers show it."""
    key = scene.key("audit")
    await scene.connection.client.eval("redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'x')", 1, key)
    refused: list[str] = []
    scene.store._on_refused = refused.append
    assert codes(await scene.join(1, 2)) == [Code.NEW] * 2
    scene.advance(0.3)
    await scene.store.census()
    await scene.connection.client.eval("return redis.call('DEL', KEYS[1])", 1, key)
    await scene.join(3)
    assert [event.seq for event in await record_of(scene)] == [3]
    assert refused == [scene.room.id]


async def test_a_server_that_forbids_the_record_serves_all_the_same(make_scene: MakeScene) -> None:
    """Promise 5: rights of before there was a record, or a managed service without MEMORY: counted, and nobody notices."""
    scene = make_scene(audit_bytes=STREAM_BYTES)
    refused: list[str] = []
    scene.store._on_refused = refused.append
    denied = ("xadd", "xlen", "xrevrange", "xtrim", "memory")
    admin: Any = redis.Redis.from_url(scene.connection.url)
    try:
        admin.execute_command("ACL", "SETUSER", "default", *(f"-{command}" for command in denied))
        await scene.open()
        assert codes(await scene.join(1, 2)) == [Code.NEW] * 2
        await scene.run(2)
        assert await scene.granted(1) == [1]
        assert len(refused) >= 4
        admin.execute_command("ACL", "SETUSER", "default", *(f"+{command}" for command in denied), "-memory")
        for number in range(3, 3_000):
            scene.advance(0.1)
            await scene.join(number)
            await scene.store.census()
        kept = await record_of(scene)
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+@all")
        admin.close()
    assert len(kept) <= 1.2 * STREAM_BYTES / 256
    assert check(kept).verdict is Verdict.KEPT


async def test_who_was_let_past_is_told_in_counts(scene: Scene) -> None:
    """Promise 15: those requests ask Redis nothing; a batch a second says how many, and a failed one is told again."""
    bypassed = Bypassed(scene.store)
    for rule in ("static", "static", "10.0.0.0/8; or so"):
        bypassed.note(rule)
    await scene.restamp()
    with pytest.raises(Exception, match="does not know the room"):
        await bypassed.flush()
    await scene.open()
    bypassed.note("static")
    await bypassed.flush()
    await bypassed.flush()
    judged = check(await record_of(scene))
    assert judged.bypassed == {"static": 3, "10.0.0.0/8; or so": 1}
    assert judged.kinds["bypass"] == 1
