"""A server whose memory is full: newcomers are refused cleanly, everybody else is served."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from gateway.model import Code, Contact, Memory
from gateway.queue.connect import open_redis
from tests.conftest import redis_server
from tests.queue.conftest import Scene, codes, ident


@pytest.fixture(params=["valkey", "redis"])
async def full(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A room with places of every kind on a server that then ran out of memory."""
    server = redis_server(request.param)
    server.start()
    connection = await open_redis(server.url, "state")
    try:
        scene = Scene(connection)
        await scene.open()
        await scene.join(*range(1, 201))
        await scene.run(2)
        await scene.granted(1, 2)
        limit_memory(scene, 1)
        yield scene
    finally:
        await connection.close()
        server.remove()


def limit_memory(scene: Scene, limit_bytes: int) -> None:
    with redis.Redis.from_url(scene.connection.url) as client:
        client.config_set("maxmemory", limit_bytes)


async def test_a_join_is_refused_and_nothing_has_changed(full: Scene) -> None:
    """Promises 4 and 5: no number is used up, no half of a place is left behind."""
    before, places = await full.census(), await full.places()
    assert codes(await full.join(900, 901)) == [Code.FULL, Code.FULL]
    after = await full.census()
    assert await full.places() == places
    assert (after.next, after.joins, after.present) == (before.next, before.joins, before.present)


async def test_those_who_have_a_place_are_served_in_the_same_batch(full: Scene) -> None:
    """Promise 6: the called hear that they are called although others are refused beside them."""
    batch = [Contact(ident(900)), Contact(ident(3), 3, 1), Contact(ident(900)), Contact(ident(200), 200, 1)]
    assert codes(await full.store.check_in(batch)) == [Code.FULL, Code.CALLED, Code.FULL, Code.KNOWN]


async def test_claims_leaves_and_the_drain_go_on(full: Scene) -> None:
    """Promises 2 and 6: what makes room is never refused."""
    assert await full.granted(3, 4) == [3, 4]
    assert await full.leave(5) == [True]
    assert await full.store.release([ident(1)]) == 1
    assert await full.touch(2) == [600_000_000]
    await full.run(1)
    assert (await full.store.reset(1, void_admissions=False))[0] == 2
    limit_memory(full, 0)
    assert codes(await full.join(900)) == [Code.NEW]


async def test_an_arrival_during_a_hold_is_not_stored(full: Scene) -> None:
    """Promise 15: a full server takes nothing more, also while it recovers; the ticket keeps the arrival."""
    await full.restamp()
    await full.store.heal(Memory(highest_number=200), full.record(1))
    assert codes(await full.store.check_in([Contact(ident(900), arrived_us=1)])) == [Code.RECOVERING]
    source = "return redis.call('ZCARD', KEYS[1])"
    assert await full.connection.client.eval(source, 1, full.key("arrivals")) == 0
