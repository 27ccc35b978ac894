"""The loss matrix: whatever becomes of Redis while 10,000 wait, each keeps the place, and nobody gets in who may not."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import RedisServer, free_port, redis_server
from tests.faults.course import RATE_S, Course, half_drained
from tests.faults.estate import MAIN, Estate, key, open_estate
from tests.faults.faultproxy import CALM, FaultProxy, Faults
from tests.faults.ledger import Ledger
from tests.faults.scene import SEED, replayed

pytestmark = pytest.mark.faults

DISK = ("--appendonly", "yes", "--appendfsync", "no")


def client_of(server: RedisServer) -> Any:
    return redis.Redis(unix_socket_path=str(server.socket), socket_timeout=1)


@asynccontextmanager
async def serving(options: tuple[str, ...] = ()) -> AsyncIterator[RedisServer]:
    server = redis_server("valkey", options)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@asynccontextmanager
async def course_on(
    server: RedisServer, folder: Path, ledger: Ledger, fault: str, url: str = "", gateways: int = 2
) -> AsyncIterator[Course]:
    ledger.fault = fault
    admin = lambda: client_of(server)  # noqa: E731
    with replayed(SEED) as seed:
        async with (
            open_estate(folder, url or server.url, admin, gateways=gateways) as estate,
            half_drained(estate, ledger, seed) as course,
        ):
            yield course


def lose_everything(server: RedisServer) -> None:
    """`kill -9`, and all that was on its disk."""
    server.kill()
    shutil.rmtree(server.folder)
    server.folder.mkdir()


async def recovering(estate: Estate) -> None:
    """Until a gateway's board says so: else what follows would prove nothing."""
    await estate.until_board(lambda board: bool(board["room_state"] == "recovering"))


async def test_the_server_and_its_disk_are_gone_and_the_gateways_live(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5 and 7 to 9: what gateways remember and tickets prove brings everything back."""
    async with (
        serving(DISK) as server,
        course_on(server, tmp_path, ledger, "total loss, gateways alive") as course,
    ):
        course.come_late()
        course.is_record_whole = False
        await asyncio.to_thread(lose_everything, server)
        await asyncio.sleep(3)
        await asyncio.to_thread(server.start)
        await recovering(course.estate)


async def test_a_flush_in_mid_drain_and_another_while_it_heals(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5 and 7 to 9: an operator's slip, twice."""
    async with serving() as server, course_on(server, tmp_path, ledger, "FLUSHALL in mid-drain, twice") as course:
        course.come_late()
        with client_of(server) as client:
            for pause_s in (3, 0):
                client.flushall()
                await asyncio.sleep(pause_s)
        await recovering(course.estate)


async def test_a_stall_of_five_seconds(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5 and 7 to 9: nothing is lost, and the time that stood still earns no credit."""
    async with serving() as server, course_on(server, tmp_path, ledger, "stall of 5 s") as course:
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        course.come_late()
        await asyncio.sleep(5)
        server.process.send_signal(signal.SIGCONT)


async def test_a_full_server_refuses_newcomers_and_serves_the_others(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 7 and 8: `noeviction` and no memory left: claims go on, newcomers are told that the line is full."""
    async with serving() as server, course_on(server, tmp_path, ledger, "memory full") as course:
        with client_of(server) as client:
            client.config_set("maxmemory", client.info("memory")["used_memory"] - 500_000)
            before = int(client.hget(key(MAIN, "pace"), "entries"))
            fields = {"Content-Type": "application/json", "Waitroom-Transport": "header"}
            joins = [
                await course.estate.connections.ask("POST", f"/_waitroom/{MAIN}/ticket", fields, "{}")
                for _ in range(20)
            ]
            await asyncio.sleep(2)
            went_on = int(client.hget(key(MAIN, "pace"), "entries")) - before
            client.config_set("maxmemory", 0)
        wrong = [reply.status for reply in joins if reply.status != 503 or b"room-full" not in reply.body]
        ledger.check(4, "joins that a full server took", len(joins), wrong)
        ledger.check(6, "entries while it was full, missing", RATE_S, range(RATE_S - went_on))
        course.come_late()


async def test_the_master_becomes_a_replica_that_may_not_be_written_to(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5 and 7 to 9: READONLY is one more way not to be reached."""
    async with serving() as server, course_on(server, tmp_path, ledger, "read-only replica") as course:
        with client_of(server) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", free_port())
            course.come_late()
            await asyncio.sleep(5)
            with pytest.raises(redis.exceptions.ReadOnlyError):
                client.set("waitroom-test", 1)
            client.execute_command("REPLICAOF", "NO", "ONE")


async def through_proxy(
    tmp_path: Path, ledger: Ledger, fault: str, faults: Faults, seconds: float, kinds: tuple[str, ...]
) -> None:
    async with serving() as server, FaultProxy(server.socket, tmp_path / "wire.sock", SEED) as proxy:
        async with course_on(server, tmp_path, ledger, fault, proxy.url) as course:
            proxy.done.clear()
            proxy.faults = faults
            course.come_late()
            await asyncio.sleep(seconds)
            proxy.faults = CALM
            done = {kind: proxy.done[kind] for kind in kinds}
        assert min(done.values()) >= 5, f"the proxy did too little: {proxy.done}"


async def test_a_slow_network(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5 and 7 to 9: every reply 50 to 200 ms late."""
    slow = Faults(delay_ms=(50, 200))
    await through_proxy(tmp_path, ledger, "network of 50 to 200 ms", slow, 15, ("delay",))


async def test_replies_are_lost_after_the_script_ran(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 7 and 8: every call can be made again; one in seven is dropped, withheld, halved or reset."""
    rough = Faults(drop=0.03, withhold=0.02, halve=0.04, reset=0.05, delay_ms=(0, 20))
    kinds = ("drop", "withhold", "halve", "reset")
    await through_proxy(tmp_path, ledger, "replies lost after the script ran", rough, 15, kinds)


async def test_gateways_and_redis_come_back_empty_with_their_state_files(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5: all are killed at once; state files and signed tickets seat everyone again."""
    async with (
        serving(DISK) as server,
        course_on(server, tmp_path, ledger, "gateways and Redis lost at once") as course,
    ):
        course.cuts_allowed, course.is_record_whole = True, False
        estate = course.estate
        await asyncio.sleep(5.5)  # a state file is at most 5 s old
        course.not_counted = 6 * RATE_S  # so are the figures in it
        await asyncio.gather(*(gateway.kill() for gateway in estate.gateways))
        await asyncio.to_thread(lose_everything, server)
        await asyncio.to_thread(server.start)
        for gateway in estate.gateways:
            await estate.restart(gateway)
        await recovering(estate)
