"""A gateway as a process: how it starts, why it does not, and what it does with SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.errors import StartError
from tests.conftest import RedisServer, free_port, redis_server
from tests.serving import DEADLINE_S, Process, running
from tests.web.gatewayfixture import ManualBank, manual_bank, opened, protecting, until

bank = pytest.fixture(manual_bank)


@pytest.fixture
def evicting() -> Iterator[RedisServer]:
    server = redis_server("valkey", options=("--maxmemory-policy", "allkeys-lru"))
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def test_sigterm_under_load_loses_no_request(
    valkey: RedisServer, tmp_path: Path, bank: ManualBank, http: aiohttp.ClientSession
) -> None:
    """Promise 11: not ready from SIGTERM on, serving on for `stop_grace`, and what was begun is answered."""
    gateway = Process(tmp_path, valkey.url, bank.url, grace="800ms")
    async with running(gateway):
        statuses: list[int] = []
        failed: list[str] = []
        is_over = asyncio.Event()

        async def client() -> None:
            while not is_over.is_set():
                try:
                    async with http.get(f"http://127.0.0.1:{gateway.public}/free") as answer:
                        await answer.read()
                        statuses.append(answer.status)
                        if answer.headers.get("Connection") == "close" and not await gateway.is_ready(http):
                            return  # a balancer takes it elsewhere from here
                except aiohttp.ClientError as fault:
                    failed.append(repr(fault))

        async def slow() -> bytes:
            async with http.get(f"http://127.0.0.1:{gateway.public}/points/slow") as answer:
                return await answer.read()

        clients = [asyncio.create_task(client()) for _ in range(8)]
        await until(lambda: len(statuses) > 200)
        go = asyncio.Event()
        bank.play = held_until(go)
        long = [asyncio.create_task(slow()) for _ in range(5)]
        await until(lambda: sum(path == "/points/slow" for _, path, _ in bank.requests) == 5)
        gateway.signal(signal.SIGTERM)
        await until_stopping(gateway, http)
        async with aiohttp.ClientSession() as newcomer, newcomer.get(f"http://127.0.0.1:{gateway.public}/free") as late:
            assert (late.status, late.headers["Connection"]) == (200, "close"), "it serves on for stop_grace"
        await asyncio.gather(*clients)
        go.set()
        assert await asyncio.gather(*long) == [b"slow"] * 5
        is_over.set()
        assert failed == []
        assert set(statuses) == {200}
        code, errors = await gateway.end()
        assert code == 0, errors
        assert "Traceback" not in errors


async def until_stopping(gateway: Process, http: aiohttp.ClientSession) -> None:
    """Until /readyz itself says 503."""
    end = time.monotonic() + DEADLINE_S
    while True:
        async with http.get(f"http://127.0.0.1:{gateway.operator}/readyz") as answer:
            if answer.status == 503:
                return
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def held_until(go: asyncio.Event):  # type: ignore[no-untyped-def]
    from aiohttp import web

    async def play(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == "/points/slow":
            await go.wait()
            return web.Response(body=b"slow")
        return web.Response(body=b"quick")

    return play


async def test_a_port_in_use_is_one_sentence(valkey: RedisServer, tmp_path: Path) -> None:
    """Section 8: exit code 1, no traceback, and the port is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = Process(tmp_path, valkey.url, "http://127.0.0.1:9", public=taken.getsockname()[1])
        await process.start()
        code, errors = await process.end()
    assert code == 1
    assert str(process.public) in errors
    assert "in use" in errors
    assert "Traceback" not in errors


async def test_a_redis_that_may_evict_is_refused_in_one_sentence(evicting: RedisServer, tmp_path: Path) -> None:
    """Section 5: any policy but noeviction may evict the queue."""
    process = Process(tmp_path, evicting.url, "http://127.0.0.1:9")
    await process.start()
    code, errors = await process.end()
    assert code == 1
    assert "allkeys-lru" in errors
    assert "noeviction" in errors
    assert "Traceback" not in errors


async def test_a_start_that_fails_leaves_nothing_open(
    valkey: RedisServer, evicting: RedisServer, tmp_path: Path
) -> None:
    """Promise 11: ports, connections and tasks are given back, so that the next try can have them."""
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(opened(evicting.url, tmp_path, [protecting("refused")], gateways=0))
        tasks = asyncio.all_tasks()
        public, operator = free_port(), free_port()
        with pytest.raises(StartError, match="noeviction"):
            await house.start(public=("127.0.0.1", public), operator=("127.0.0.1", operator))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", operator))
            taken.listen()
            with pytest.raises(StartError, match="in use"):
                await house.start(public=("127.0.0.1", public), operator=("127.0.0.1", operator))
        assert asyncio.all_tasks() == tasks
        assert house.gateways == []
        with socket.socket() as free:
            free.bind(("127.0.0.1", public))


async def test_what_travels_in_batches_is_sent_before_the_end(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 11: a release told in the last moment frees its slot; a restart loses none."""
    monkeypatch.setattr("gateway.drain.RELEASES_S", 60.0)  # the loop does not get to it
    room = protecting("flush")
    async with opened(valkey.url, tmp_path, [room]) as house:
        visitor = house.visitor()
        await visitor.enter(room)
        other = await house.start()
        await until(lambda: house.queue(room, other).board.census.active == 1)
        house.bank.headers = {"Waitroom-Release": "1"}
        first = house.gateway
        await visitor.get(f"/{room.id}/")
        await house.stop(first)
        await until(lambda: house.queue(room, other).board.census.active == 0)


async def test_the_stop_of_an_idle_gateway_is_quick_and_leaves_no_task(valkey: RedisServer, tmp_path: Path) -> None:
    """Promise 11: kept-alive connections do not hold it up."""
    room = protecting("stop")
    async with opened(valkey.url, tmp_path, [room], gateways=0) as house:
        tasks = asyncio.all_tasks()
        for _ in range(15):
            gateway: Gateway = await house.start()
            assert (await house.visitor().get("/free")).status == 200
            began = time.monotonic()
            await house.stop(gateway)
            assert time.monotonic() - began < 2
        await asyncio.sleep(0)
        assert {task for task in asyncio.all_tasks() - tasks if "Server" not in repr(task)} == set()
