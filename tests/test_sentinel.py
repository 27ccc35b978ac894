"""Redis Sentinel for real: a master, a replica and a sentinel; the gateway goes on with whoever is master."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from gateway.model import Rate
from gateway.queue.connect import open_redis
from tests.conftest import free_port, until_so
from tests.queue.test_heal import GAP
from tests.web.gatewayfixture import Visitor, opened, protecting, until, until_answer

NAME = "line"
DEADLINE_S = 10.0
FOLLOW_S = 6.0  # the old master answers for ten, and what it is told meanwhile is lost


@dataclass
class Trio:
    """Two servers and the sentinel that watches them, on ports of their own."""

    folder: Path
    first: int
    second: int
    sentinel: int

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel}/{NAME}"

    def commands(self) -> list[list[str]]:
        config = self.folder / "sentinel.conf"  # it rewrites this file itself
        config.write_text(
            f"port {self.sentinel}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {self.first} 1\n"
            f"sentinel down-after-milliseconds {NAME} 2000\nsentinel failover-timeout {NAME} 5000\n"
        )
        server = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        server += ["--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"]
        replica = ["--replicaof", "127.0.0.1", str(self.first)]
        return [
            [*server, "--port", str(self.first)],
            [*server, "--port", str(self.second), *replica],
            ["redis-server", str(config), "--sentinel"],
        ]

    def master(self) -> int:
        with redis.Redis(port=self.sentinel) as client:
            return int(client.sentinel_master(NAME)["port"])

    def is_replicated(self) -> bool:
        with redis.Redis(port=self.second) as replica:
            return bool(replica.info("replication")["master_link_status"] == "up")

    def is_watched(self) -> bool:
        with redis.Redis(port=self.sentinel) as client:
            return bool(client.sentinel_slaves(NAME))

    def fail_over(self) -> None:
        with redis.Redis(port=self.sentinel) as client:
            client.sentinel_failover(NAME)


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    with running_trio(tmp_path) as one:
        yield one


@contextmanager
def running_trio(folder: Path) -> Iterator[Trio]:
    one = Trio(folder, free_port(), free_port(), free_port())
    *servers, sentinel = one.commands()
    processes = [subprocess.Popen(server, stdout=subprocess.DEVNULL) for server in servers]
    try:
        until_so(one.is_replicated)  # a sentinel asks for replicas when it starts, and then every ten seconds
        processes.append(subprocess.Popen(sentinel, stdout=subprocess.DEVNULL))
        until_so(one.is_watched)
        yield one
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_a_fail_over_keeps_the_line_and_nobody_inside_notices(trio: Trio, tmp_path: Path) -> None:
    """Promises 5, 7 and 8: another master takes over; places and their order are kept, admitted visitors pass throughout."""
    room = protecting("sentinel", drain_rate=Rate(1000, "s"), burst=1000)
    async with opened(trio.url, tmp_path, [room], gateways=2) as house:
        await house.idle(room)
        inside = house.visitor()
        await inside.enter(room)
        await house.patch(room, paused=True)
        line = [house.visitor(house.gateways[i % 2]) for i in range(20)]
        numbers = [(await visitor.join(room, f"{i:022}")).json["number"] for i, visitor in enumerate(line)]
        passes: list[tuple[int, float]] = []
        watching = asyncio.create_task(keep_passing(inside, f"/{room.id}/", passes))

        await asyncio.to_thread(trio.fail_over)
        await until(lambda: trio.master() == trio.second, DEADLINE_S)
        assert [(await visitor.see(room))["number"] for visitor in line] == numbers, "also while they change places"
        last = house.visitor()
        await last.join(room, "y" * 22)  # the old master may take it, as long as nobody told it
        boards = [house.queue(room, gateway) for gateway in house.gateways]
        await until(lambda: all(queue.board.census.next > GAP for queue in boards), FOLLOW_S)
        await house.state("paused", room)
        assert [(await visitor.see(room))["number"] for visitor in line] == numbers
        newcomer = house.visitor()
        late = (await newcomer.join(room, "z" * 22)).json["number"]
        assert late >= numbers[-1] + GAP, "numbers that the new master may not know of stay unused"
        assert numbers[-1] < (await last.see(room))["number"] < late
        await house.patch(room, paused=False)
        for visitor in [*line, last, newcomer]:
            await until_answer(lambda v=visitor: v.claim(room), lambda answer: answer.status == 200)  # type: ignore[misc]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert len(passes) > 50
    assert {status for status, _ in passes} == {200}
    assert max(took_s for _, took_s in passes) < 0.5, "no added wait"


async def keep_passing(visitor: Visitor, target: str, passes: list[tuple[int, float]]) -> None:
    while True:
        began = time.monotonic()
        answer = await visitor.get(target)
        passes.append((answer.status, time.monotonic() - began))
        await asyncio.sleep(0.02)


async def test_a_sentinel_that_does_not_know_the_name_is_unreachable(trio: Trio, tmp_path: Path) -> None:
    """Section 9: newcomers are held, and the start does not fail, for the sentinel may learn the name."""
    room = protecting("nobody")
    async with opened(trio.url.replace(NAME, "other"), tmp_path, [room]) as house:
        assert house.gateway._desks[room.id].room_state() == "unreachable"
        assert (await house.visitor().open(f"/{room.id}/")).status == 429
        assert (await house.visitor().get("/free")).status == 200
    connection = await open_redis(trio.url, str(tmp_path))
    assert await connection.client.eval("return 7", 0) == 7
    await connection.close()
