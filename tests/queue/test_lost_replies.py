"""A wire that loses commands and replies between a gateway and its Redis: whatever was asked can be asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.errors import Unreachable
from gateway.model import Code, Rate
from gateway.queue.connect import open_redis
from tests.conftest import RedisServer
from tests.faults.faultproxy import FaultProxy, Faults
from tests.queue.conftest import START_US, Scene

SEED = 7  # the same losses each time; others come with tests/faults
ROUGH = Faults(drop=0.1, halve=0.1, reset=0.1)
PEOPLE, BATCH = 1_000, 50
RATE_S, BURST = 50, 50
TRIES_MAX = 40

T = TypeVar("T")


@pytest.fixture
async def proxy(valkey: RedisServer, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(valkey.socket, tmp_path / "wire.sock", SEED) as one:
        yield one


async def insisting(call: Callable[[], Awaitable[T]]) -> T:
    """As visitors do: again and again, until there is an answer."""
    for _ in range(TRIES_MAX):
        try:
            return await call()
        except Unreachable:
            continue
    raise AssertionError("the wire let nothing through")


async def test_a_thousand_are_seated_and_let_in_once_each(proxy: FaultProxy) -> None:
    """Promises 1, 3, 4 and 5: one in three calls is lost, before or after it ran; the line is as if none were."""
    connection = await open_redis(proxy.url, "state")
    scene = Scene(connection, drain_rate=Rate(RATE_S, "s"), burst=BURST, active_max=PEOPLE)
    await scene.open()
    proxy.faults = ROUGH
    people, entered = range(1, PEOPLE + 1), []
    for start in range(0, PEOPLE, BATCH):
        batch = people[start : start + BATCH]
        standings = await insisting(lambda batch=batch: scene.join(*batch))  # type: ignore[misc]
        assert [one.number for one in standings] == list(batch)
    for _ in range(60):
        scene.advance(0.1)
        await insisting(scene.store.upkeep)
        await insisting(scene.store.tick)
        lowest = [number for number in people if number not in entered][:BATCH]
        standings = await insisting(lambda lowest=lowest: scene.claim(*lowest))  # type: ignore[misc]
        entered += [one.number for one in standings if one.code is Code.ADMITTED]
        assert len(entered) <= RATE_S * (scene.now_us - START_US) / 1e6 + BURST
    assert min(proxy.done[fate] for fate in ("drop", "halve", "reset")) > 10
    assert len(entered) >= RATE_S * 5, "the door stood idle"
    assert entered == list(range(1, len(entered) + 1))
    left = await insisting(lambda: scene.leave(*people[-BATCH:]))
    assert not any(left) or all(left)
    proxy.faults = Faults()
    census = await scene.census()
    assert (census.entries, census.active, census.left) == (len(entered), len(entered), BATCH)
    assert sorted((await scene.places()).values()) == list(people[len(entered) : -BATCH])
    await connection.close()
