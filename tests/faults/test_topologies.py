"""The loss matrix where Redis is more than one server: Sentinel forgets what it acknowledged, Cluster moves the room's slot."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.faults.course import half_drained
from tests.faults.estate import MAIN, key, open_estate
from tests.faults.ledger import Ledger
from tests.faults.scene import SEED, replayed
from tests.test_cluster import move_slot, running_cluster
from tests.test_sentinel import Trio, running_trio
from tests.web.gatewayfixture import until

pytestmark = pytest.mark.faults

FROZEN_S = 0.5
FAIL_OVER_S = 30.0


def process_of(port: int) -> int:
    with redis.Redis(port=port) as client:
        return int(client.info("server")["process_id"])


def writes_of(port: int) -> int:
    """Entries and numbers given, as this server has them."""
    with redis.Redis(port=port) as client:
        return sum(int(value or 0) for value in client.hmget(key(MAIN, "pace"), "entries", "next"))


def lose_acknowledged_writes(trio: Trio, frozen_s: float, replica: int, master: int) -> int:
    """The master dies while its replica has not heard from it for a while; what it had acknowledged by then."""
    os.kill(replica, signal.SIGSTOP)
    try:
        with redis.Redis(port=trio.first) as client:  # else it would find all of it in its socket's buffer
            client.client_kill_filter(_type="replica")
        time.sleep(frozen_s)
        written = writes_of(trio.first)
        os.kill(master, signal.SIGKILL)
    finally:
        os.kill(replica, signal.SIGCONT)
    return written


async def test_a_fail_over_that_forgets_acknowledged_writes(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5 and 7 to 9: what the old master alone knew is with the gateways and in the tickets."""
    ledger.fault = "fail-over that lost acknowledged writes"
    with replayed(SEED) as seed, running_trio(tmp_path) as trio:

        def admin() -> Any:
            return redis.Redis(port=trio.master(), socket_timeout=1)

        replica, master = process_of(trio.second), process_of(trio.first)
        async with open_estate(tmp_path, trio.url, admin) as estate, half_drained(estate, ledger, seed) as course:
            course.come_late()
            course.is_record_whole = False
            await asyncio.sleep(1)
            written = await asyncio.to_thread(lose_acknowledged_writes, trio, FROZEN_S, replica, master)
            kept = writes_of(trio.second)
            assert kept < written, "the replica had everything: nothing was lost, and nothing is proved"
            await until(lambda: trio.master() == trio.second, FAIL_OVER_S)


async def test_the_slot_of_the_room_moves_during_the_drain(tmp_path: Path, ledger: Ledger) -> None:
    """Promises 1 to 5 and 7 to 9: three masters; the room moves from one to another while people join and enter."""
    ledger.fault = "Cluster moves the room's slot"
    with replayed(SEED) as seed, running_cluster(tmp_path) as ports:

        def admin() -> Any:
            return redis.RedisCluster("127.0.0.1", ports[0])

        url = f"redis+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
        async with open_estate(tmp_path, url, admin) as estate, half_drained(estate, ledger, seed) as course:
            course.come_late()
            await asyncio.to_thread(move_slot, ports, MAIN)
