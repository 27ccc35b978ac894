"""A gateway with its embedded server, stopped and started again: whole after a clean stop, never trusted after another."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import redis

from gateway.app import Gateway
from gateway.errors import StartError
from gateway.model import Memory, SettingsRecord
from gateway.queue.connect import open_redis
from gateway.queue.statefile import StateFile
from tests.web.gatewayfixture import House, opened, protecting, until, until_answer

ROOM = protecting("restart", paused=True)
GAP = 10_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened("embedded", tmp_path, [ROOM], gateways=0) as one:
        yield one


async def started(house: House, folder: Path) -> Gateway:
    gateway = await house.start(state_dir=str(folder))
    await until(lambda: house.queue(ROOM).board is not None)
    return gateway


async def joined(house: House, *names: str) -> list[int]:
    """Each name's number, once the room gives numbers."""
    visitors = [(house.visitor(), name * 22) for name in names]
    answers = [
        await until_answer(partial(visitor.join, ROOM, key), lambda answer: bool(answer.json["number"]), 10.0)
        for visitor, key in visitors
    ]
    return [answer.json["number"] for answer in answers]


async def crash(house: House, gateway: Gateway) -> None:
    """What `kill -9` of both does: nothing is saved, flushed or shut down."""
    assert gateway._connection is not None
    assert gateway._connection.server is not None
    process = gateway._connection.server.server._process
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    await house.kill(gateway)


async def test_after_a_clean_stop_the_line_goes_on_without_a_gap_or_a_hold(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 11: nothing was lost, so nobody waits for a hold, and the next number follows; again at the next stop."""
    caplog.set_level(logging.INFO, "waitroom")
    for round_number, (first, second) in enumerate([("a", "b"), ("c", "d"), ("e", "f")]):
        gateway = await started(house, tmp_path / "own")
        assert house.queue(ROOM).board.census.left_us == 0
        assert await joined(house, first, second) == [2 * round_number + 1, 2 * round_number + 2]
        await until(lambda: house.queue(ROOM).memory.highest_number >= 2)
        await house.stop(gateway)
    told = [record.msg for record in caplog.records if record.msg.startswith("room_")]
    assert told == ["room_made", "room_continued", "room_continued"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_crash_leaves_a_gap(house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 4: the file may have lost its last second, and with it numbers that were given."""
    await started(house, tmp_path / "own")
    assert await joined(house, "a") == [1]
    await crash(house, house.gateway)
    await started(house, tmp_path / "own")
    assert (await joined(house, "b"))[0] >= GAP
    assert "room_healed" in caplog.text


async def test_a_crash_just_after_a_clean_start_leaves_a_gap_too(house: House, tmp_path: Path) -> None:
    """Promise 4: the proof of a clean stop is good once, though nothing else was saved since."""
    await house.stop(await started(house, tmp_path / "own"))
    kept = tmp_path / "own" / f"{ROOM.id}.json"
    assert json.loads(kept.read_text())["memory"]["sealed_us"] > 0
    gateway = await started(house, tmp_path / "own")
    assert json.loads(kept.read_text())["memory"]["sealed_us"] == 0
    assert await joined(house, "a") == [1]
    await crash(house, gateway)
    await started(house, tmp_path / "own")
    assert (await joined(house, "b"))[0] >= GAP


async def test_data_that_do_not_end_with_the_last_write_are_not_trusted(house: House, tmp_path: Path) -> None:
    """Promise 4: an older copy of the data came back, or the last writes did not reach the disk."""
    await house.stop(await started(house, tmp_path / "own"))
    files = StateFile(tmp_path / "own", ROOM.id)
    document = json.loads((tmp_path / "own" / f"{ROOM.id}.json").read_text())
    memory = replace(Memory(**document["memory"]), sealed_us=document["memory"]["sealed_us"] + 1)
    files.save(memory, SettingsRecord(**document["settings"]))
    await started(house, tmp_path / "own")
    assert (await joined(house, "a"))[0] >= GAP


async def test_one_data_folder_has_one_gateway(house: House, tmp_path: Path) -> None:
    """Promise 4: two servers on one append-only file would give every number twice; the second start says which folder."""
    first = await started(house, tmp_path / "own")
    with pytest.raises(StartError, match=r"another gateway keeps its data in .*own/valkey"):
        await house.start(state_dir=str(tmp_path / "own"))
    await house.stop(first)
    await started(house, tmp_path / "own")


async def test_a_server_that_a_killed_gateway_left_is_ended(tmp_path: Path) -> None:
    """Promise 11: `kill -9` of the gateway leaves its Valkey running; the next start ends it and has all it knew."""
    source = (
        "import sys, time, pathlib; from gateway.queue.embedded import EmbeddedServer as E;"
        "one = E.start(pathlib.Path(sys.argv[1])); print(one.socket, one.server._process.pid, flush=True); time.sleep(60)"
    )
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, str(tmp_path / "valkey"), stdout=asyncio.subprocess.PIPE
    )
    assert killed.stdout is not None
    path, pid = (await killed.stdout.readline()).decode().split()
    with redis.Redis(unix_socket_path=path) as client:
        client.set("known", "yes")
    killed.kill()
    await killed.wait()
    os.kill(int(pid), 0)  # it lives on
    connection = await open_redis("embedded", str(tmp_path))
    try:
        assert not Path(path).parent.exists()
        await until(lambda: not is_alive(int(pid)))
        assert await connection.client.eval("return redis.call('GET', KEYS[1])", 1, "known") == b"yes"
    finally:
        await connection.close()


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody waits for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
