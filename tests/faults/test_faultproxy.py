"""The fault proxy itself, before a real server: what passes is unchanged, and each fault does what its name says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.conftest import RedisServer
from tests.faults.faultproxy import CALM, FaultProxy, Faults


@pytest.fixture
async def proxy(valkey: RedisServer, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(valkey.socket, tmp_path / "wire.sock", 1) as one:
        yield one


def client_of(url: str) -> redis_asyncio.Redis:
    return redis_asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=0.3)


async def test_what_passes_is_unchanged(proxy: FaultProxy, valkey: RedisServer) -> None:
    script = "return {1, {'a', {ARGV[1], false}}, redis.status_reply('fine'), {}}"
    for text in ("", "\r\n$5\r\n", "x" * 300_000):
        async with client_of(proxy.url) as through, client_of(valkey.url) as direct:
            assert await through.eval(script, 0, text) == await direct.eval(script, 0, text)
    assert set(proxy.done) <= {"pass", "delay"}


@pytest.mark.parametrize(
    ("fate", "has_run"), [("drop", False), ("withhold", True), ("halve", True), ("reset", True), ("pass", True)]
)
async def test_each_fault_does_what_it_says(proxy: FaultProxy, valkey: RedisServer, fate: str, has_run: bool) -> None:
    async with client_of(proxy.url) as through, client_of(valkey.url) as direct:
        await direct.delete("waitroom-test")
        await through.ping()
        proxy.faults = CALM if fate == "pass" else replace(CALM, **{fate: 1.0})  # type: ignore[arg-type]  # chances, by name
        proxy.done.clear()
        try:
            assert await through.eval("return redis.call('INCR', KEYS[1])", 1, "waitroom-test") == 1
        except RedisError:
            assert fate != "pass"
        else:
            assert fate == "pass"
        assert proxy.done[fate] == 1
        assert int(await direct.get("waitroom-test") or 0) == has_run
        proxy.faults = CALM
        assert await through.ping(), "a new connection is sound again"


async def test_replies_are_late_and_a_stall_holds_everything(proxy: FaultProxy) -> None:
    clock = asyncio.get_running_loop().time
    async with client_of(proxy.url) as client:
        await client.ping()
        proxy.faults = Faults(delay_ms=(50, 60))
        began_s = clock()
        await client.ping()
        assert clock() - began_s >= 0.05
        stalling = asyncio.create_task(proxy.stall(0.6))
        await asyncio.sleep(0)
        with pytest.raises(RedisError):
            await client.ping()
        await stalling


def test_the_same_seed_means_the_same_faults() -> None:
    faults = Faults(drop=0.2, withhold=0.2, halve=0.2, reset=0.2)
    first, again, other = ([faults.choose(random) for _ in range(200)] for random in map(Random, ("7 1", "7 1", "8 1")))
    assert first == again != other
    assert set(first) == {"drop", "withhold", "halve", "reset", "pass"}
