"""A worker whose event loop stands still: whoever the kernel hands to it waits, until its parent has replaced it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from gateway.workers import DUMP_S, SILENT_S
from tests.conftest import RedisServer
from tests.faults.ledger import Ledger
from tests.serving import Process, running
from tests.web.gatewayfixture import ManualBank, until

pytestmark = pytest.mark.faults

AFTER_S = 10.0  # a busy machine takes its time to end one process and to start another
ASKED = 50


async def test_a_hung_worker_is_replaced(valkey: RedisServer, tmp_path: Path, ledger: Ledger) -> None:
    """Promise 11: within 15 s and the time of a start, and from then on everybody is answered."""
    bank = ManualBank()
    await bank.open()
    gateway = Process(tmp_path, valkey.url, bank.url, workers=2)
    try:
        async with running(gateway), aiohttp.ClientSession() as http:
            await until_said(gateway, "workers_serving", AFTER_S)
            victim = min(workers_of(gateway))
            os.kill(victim, signal.SIGSTOP)
            await until_said(gateway, "worker_hung", SILENT_S + AFTER_S)
            await until_said(gateway, "worker_died", DUMP_S + AFTER_S)
            await until(lambda: len(workers_of(gateway) - {victim}) == 2, AFTER_S)
            ledger.check(11, "hung workers replaced", 1, [victim] if victim in workers_of(gateway) else [])
            asked = await asyncio.gather(*(ask(http, gateway) for _ in range(ASKED)))
            ledger.check(11, "requests after it", ASKED, [status for status in asked if status != 200])
            async with http.get(f"http://127.0.0.1:{gateway.operator}/metrics") as scraped:
                told = re.findall(r'^waitroom_workers_lost_total\{reason="hung"\} (\S+)', await scraped.text(), re.M)
            ledger.check(11, "counted", 1, [] if told == ["1.0"] else told or ["nothing"])
    finally:
        await bank.close()
    ledger.settle()


async def ask(http: aiohttp.ClientSession, gateway: Process) -> int:
    async with http.get(f"{gateway.url}/free", headers={"Connection": "close"}) as answer:
        return answer.status


def workers_of(gateway: Process) -> set[int]:
    assert gateway.process is not None
    pid = gateway.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def until_said(gateway: Process, event: str, deadline_s: float) -> None:
    until_s = time.monotonic() + deadline_s
    while event not in gateway.log.read_text():
        assert time.monotonic() < until_s, f"{event} was not said"
        await asyncio.sleep(0.1)
