"""Opening Redis: URL forms, what is refused, and that every failure is one thing, soon."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from gateway.errors import StartError, Unreachable
from gateway.queue.connect import CALL_TIMEOUT_S, Connection, SentinelAddress, judge_server, open_redis, refusal
from tests.conftest import RedisServer, redis_server
from tests.queue.conftest import Scene


@pytest.fixture(params=["valkey", "redis"])
async def own(request: pytest.FixtureRequest) -> AsyncIterator[tuple[RedisServer, Connection]]:
    """A server that the test may stop."""
    server = redis_server(request.param)
    server.start()
    connection = await open_redis(server.url, "state")
    yield server, connection
    await connection.close()
    server.remove()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"redis_version": "6.2.0"}, None),
        ({"redis_version": "7.0.15", "maxmemory_policy": "noeviction"}, None),
        ({"redis_version": "8.0.1"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.8"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, None),
        ({"redis_version": "10.0.0"}, None),
        ({"redis_version": "6.0.16"}, "redis 6.0.16 is too old: redis 6.2 or newer is needed"),
        ({"redis_version": "5.0.14"}, "redis 5.0.14 is too old"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "valkey 7.1.0 is too old: valkey 7.2 or newer"),
        ({}, "redis 0 is too old"),
        ({"redis_version": "7.0.15", "maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is 'allkeys-lru'"),
        ({"redis_version": "7.0.15", "maxmemory_policy": "volatile-ttl"}, "set it to noeviction"),
    ],
)
def test_versions_and_policies_are_judged(facts: dict[str, str], said: str | None) -> None:
    """Promise 14: a server that is too old, or that may evict the queue, never starts a gateway."""
    verdict = judge_server(facts)
    assert verdict is None if said is None else verdict is not None and said in verdict


async def test_the_servers_at_hand_are_accepted(connection: Connection) -> None:
    """Section 5: Redis 6.2 to 8, Valkey 7.2 to 9."""
    assert await refusal(connection) is None


async def test_a_server_that_may_evict_is_refused() -> None:
    """Promise 14: any other policy may evict the queue."""
    server = redis_server("redis", options=("--maxmemory-policy", "allkeys-lru"))
    server.start()
    connection = await open_redis(server.url, "state")
    try:
        said = await refusal(connection)
        assert said is not None
        assert "noeviction" in said
    finally:
        await connection.close()
        server.remove()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis+sentinel://a/mymaster", SentinelAddress((("a", 26379),), "mymaster")),
        ("redis+sentinel://a:1,b:2,c/main/3", SentinelAddress((("a", 1), ("b", 2), ("c", 26379)), "main", 3)),
        ("redis+sentinel://:s%40crt@a:1/main", SentinelAddress((("a", 1),), "main", password="s@crt")),
        (
            "redis+sentinel://me:pw@a:1,b/main",
            SentinelAddress((("a", 1), ("b", 26379)), "main", user="me", password="pw"),
        ),
        ("redis+sentinel://[::1]:7,[fe80::1]/m", SentinelAddress((("::1", 7), ("fe80::1", 26379)), "m")),
        ("redis+sentinel:///main", SentinelAddress((("127.0.0.1", 26379),), "main")),
    ],
)
def test_sentinel_urls_are_read(url: str, address: SentinelAddress) -> None:
    """Section 13: redis+sentinel:// is not a form of the library's, so it is parsed here."""
    assert SentinelAddress.parse(url) == address


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a", "redis+sentinel://a:x/main", "redis+sentinel://a/main/db", "redis+sentinel://::1/m"]
)
def test_a_sentinel_url_that_means_nothing_is_refused_without_its_password(url: str) -> None:
    """Promise 14: the fault names the form that is meant, and tells nobody the password."""
    with pytest.raises(StartError, match=r"redis\.url: Sentinel is written") as caught:
        SentinelAddress.parse(url.replace("//", "//me:hush@"))
    assert "hush" not in str(caught.value)


async def test_a_server_that_is_down_fails_in_milliseconds(own: tuple[RedisServer, Connection]) -> None:
    """Promise 8: nothing waits for a Redis that refuses connections: no library retries."""
    server, connection = own
    scene = Scene(connection)
    await scene.open()
    server.kill()
    started = time.monotonic()
    for _ in range(10):
        with pytest.raises(Unreachable):
            await scene.store.tick()
    assert time.monotonic() - started < 0.5


async def test_a_server_that_hangs_fails_within_the_deadline_and_mixes_no_answers(
    own: tuple[RedisServer, Connection],
) -> None:
    """Promises 7 and 8: a stalled Redis costs its deadline once; its late answers reach nobody else's request."""
    server, connection = own
    scene = Scene(connection)
    await scene.open()
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        calls = [scene.join(1), scene.leave(2), scene.store.upkeep(), scene.store.tick()]
        settled = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(one, Unreachable) for one in settled)
        assert CALL_TIMEOUT_S * 0.9 < time.monotonic() - started < CALL_TIMEOUT_S + 1
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    scene.advance(0.1)
    assert [one.number for one in await scene.join(1, 2)] == [1, 2], "the join that hung had run, once"
    assert await scene.leave(9) == [False]


async def test_a_script_that_was_flushed_is_sent_again(own: tuple[RedisServer, Connection]) -> None:
    """Promise 5: a restarted server knows no scripts; the call goes on with its source."""
    _, connection = own
    scene = Scene(connection)
    await scene.open()
    await connection.client.eval("return redis.call('PING')", 0)
    with redis.Redis.from_url(connection.url) as client:
        client.script_flush()
    assert [one.number for one in await scene.join(1)] == [1]


async def test_the_embedded_server_keeps_the_line_over_a_restart(tmp_path: Path) -> None:
    """Promise 11: `embedded` keeps an append-only file; after a restart the places are there, held 2 s."""
    for round_number in range(2):
        connection = await open_redis("embedded", str(tmp_path))
        try:
            scene = Scene(connection, room_id="kept")
            await scene.open()
            places = await scene.places()
            if round_number:
                assert len(places) == 3
                assert (await scene.census()).reason == "recovering"
            else:
                await scene.join(1, 2, 3)
        finally:
            await connection.close()
