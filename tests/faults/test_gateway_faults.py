"""What becomes of gateways while 10,000 wait: killed, stopped, on a wrong clock, on a full disk, replaced, told nonsense."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis

from gateway.rules.keys import new_key_file
from tests.conftest import redis_server
from tests.faults.clocks import FakeClock
from tests.faults.course import RATE_S, Course, half_drained
from tests.faults.estate import MAIN, Estate, open_estate
from tests.faults.ledger import Ledger
from tests.faults.scene import SEED, replayed
from tests.serving import Line, Process
from tests.web.gatewayfixture import until

pytestmark = pytest.mark.faults

AFTER = 1_500
KILLS = 6
STEPS_S = (30, -30, 0)
STOPS = 3
STOP_S = 3.0
STOP_MAX_S = 60.0  # claims that are held end within 10 s; a busy machine takes its time
BYTES_MAX = 100  # less than any state file


@asynccontextmanager
async def course_of(folder: Path, ledger: Ledger, fault: str, **options: Any) -> AsyncIterator[Course]:
    """Gateways on a Valkey of their own."""
    ledger.fault = fault
    server = redis_server("valkey")

    def admin() -> Any:
        return redis.Redis(unix_socket_path=str(server.socket), socket_timeout=1)

    try:
        server.start()
        with replayed(SEED) as seed:
            async with (
                open_estate(folder, server.url, admin, **options) as estate,
                half_drained(estate, ledger, seed, AFTER) as course,
            ):
                yield course
    finally:
        server.remove()


async def test_one_of_three_is_killed_again_and_again(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 8, 9 and 11: what was in flight is cut, and nothing else is lost."""
    async with course_of(tmp_path, ledger, "kill -9, again and again", gateways=3) as course:
        course.cuts_allowed, random = True, Random(SEED)
        course.come_late()
        for _ in range(KILLS):
            victim = random.choice(course.estate.gateways)
            said = await victim.kill()
            assert "Traceback" not in said, said
            await asyncio.sleep(random.uniform(0, 1))
            await course.estate.restart(victim)
            await asyncio.sleep(random.uniform(0, 1))


async def test_the_clock_of_one_gateway_steps(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 7 to 9: the room's clock is in Redis; what a gateway's own wall clock says decides nothing."""
    clock = FakeClock(tmp_path)

    def prepare(gateways: list[Process]) -> None:
        gateways[0].environment = clock.environment

    async with course_of(tmp_path, ledger, "clock of one gateway +-30 s", prepare=prepare) as course:
        course.come_late()
        for step_s in STEPS_S:
            clock.step(step_s)
            await asyncio.sleep(4)
            wrong_s = await date_of(course.estate.gateways[0]) - time.time()
            assert abs(wrong_s - step_s) < 5, f"its clock is {wrong_s:.0f} s off, not {step_s}"


async def date_of(gateway: Process) -> float:
    """What the gateway's answers say the time is."""
    line = Line(gateway.public)
    reply = await line.ask("GET", "/_waitroom/nothing")
    line.close()
    (date,) = [row for row in reply.head.decode().split("\r\n") if row.lower().startswith("date: ")]
    return parsedate_to_datetime(date[6:]).timestamp()


async def test_a_gateway_stands_still_for_seconds(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 7 to 9: an event loop that stalls holds up those who are with it, and nobody else."""
    async with course_of(tmp_path, ledger, "a gateway stopped for 3 s") as course:
        course.come_late()
        stopped = course.estate.gateways[:STOPS]
        # Who stands at its door or comes to it meanwhile is overtaken: as many as enter elsewhere. The record judges to the one.
        course.aside = round(len(stopped) * STOP_S * RATE_S)
        for gateway in stopped:
            gateway.signal(signal.SIGSTOP)
            await asyncio.sleep(STOP_S)
            gateway.signal(signal.SIGCONT)
            await asyncio.sleep(1)


async def test_the_disk_is_full(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 7 to 9 and 11: state files stay as they were, gateways go on, and save again when they can."""
    async with course_of(tmp_path, ledger, "disk full under state_dir") as course:
        files = [tmp_path / f"state-{one.public}" / f"{MAIN}.json" for one in course.estate.gateways]
        await until(lambda: all(file.exists() for file in files), 10)
        limit_files(course.estate, BYTES_MAX)
        before = [file.read_bytes() for file in files]
        course.come_late()
        await asyncio.sleep(6)  # a state file is written every 5 s
        during = [file.read_bytes() for file in files]
        limit_files(course.estate, resource.RLIM_INFINITY)
        damaged = [file.name for file, old, new in zip(files, before, during, strict=True) if old != new]
        ledger.check(11, "state files damaged by a full disk", len(files), damaged)
        await until(lambda: all(file.read_bytes() != old for file, old in zip(files, before, strict=True)), 15)
        assert all(json.loads(file.read_text())["memory"]["highest_number"] for file in files)


def limit_files(estate: Estate, bytes_max: int) -> None:
    """No file of a gateway grows beyond it: what a full disk is to a process, and needs no rights."""
    for gateway in estate.gateways:
        assert gateway.process is not None
        _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (bytes_max, hard))


async def roll(estate: Estate) -> None:
    """One after the other, each as a service manager does it: SIGTERM, until it has ended, and start."""
    for gateway in estate.gateways:
        gateway.signal(signal.SIGTERM)
        code, said = await gateway.end(STOP_MAX_S)
        assert code == 0, said
        await estate.restart(gateway)
        await until(lambda one=gateway: one in estate.balancer.ready, 60)  # type: ignore[misc]


async def test_all_are_restarted_one_by_one(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 7 to 9 and 11: nobody's request fails."""
    async with course_of(tmp_path, ledger, "rolling restart") as course:
        course.come_late()
        await roll(course.estate)


async def test_the_keys_are_rotated(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 5, 7 to 9, 11 and 13: a new key that verifies everywhere before it signs is noticed by nobody."""
    async with course_of(tmp_path, ledger, "key rotation") as course:
        course.come_late()
        old, new = tmp_path / "key.pem", tmp_path / "key-new.pem"
        new_key_file(new, "ES256")
        for signing, verifying in ((old, new), (new, old)):
            for gateway in course.estate.gateways:
                change_file(gateway, lambda text, s=signing, v=verifying: with_keys(text, s, v))  # type: ignore[misc]
            await roll(course.estate)


def with_keys(text: str, signing: Path, verifying: Path) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("signing_key_file = ", "verify_key_files = "))]
    upstream_key = [line for line in text.splitlines() if "bank.hmac" in line]
    at = lines.index("[tokens]") + 1
    lines[at:at] = [f'signing_key_file = "{signing}"', f'verify_key_files = ["{verifying}"]']
    at = lines.index("[upstreams.bank]") + 1
    return "\n".join([*lines[:at], *upstream_key, *lines[at:]]) + "\n"


def change_file(gateway: Process, change: Callable[[str], str]) -> None:
    gateway.file.write_text(change(gateway.file.read_text()))


async def test_a_reload_with_faults_and_one_without(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5, 7 to 9, 11 and 14: nonsense leaves the old file in force; a good one rolls in, and nobody notices."""
    async with course_of(tmp_path, ledger, "reload, with and without faults", gateways=1, workers=2) as course:
        (gateway,) = course.estate.gateways
        course.come_late()
        good = gateway.file.read_text()
        gateway.file.write_text(good.replace('drain_rate = "600/s"', 'drain_rate = "many"'))
        gateway.signal(signal.SIGHUP)
        await until(lambda: "reload_refused" in gateway.log.read_text(), 15)
        gateway.file.write_text(good.replace('drain_rate = "600/s"', 'drain_rate = "500/s"'))
        gateway.signal(signal.SIGHUP)
        await until(lambda: "reloaded" in gateway.log.read_text(), 60)
        based = (await course.estate.room(gateway, MAIN))["base"]["drain_rate"]
        ledger.check(14, "files refused, and taken", 2, [based] if based != "500/s" else [])
