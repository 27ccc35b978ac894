"""Gateways replaced under load, and killed under load: real processes behind a balancer, clients that repeat nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.tasks import Owner
from tests.conftest import RedisServer
from tests.serving import ROOM, Balancer, Line, Process, running
from tests.web.gatewayfixture import ManualBank, manual_bank, until

bank = pytest.fixture(manual_bank)

LINES = 24
RETRY_S = 0.3  # while a process is being ended its port may still take connections, and cut them
APP = {"Waitroom-Transport": "header", "Content-Type": "application/json"}
CALLS = "/_waitroom/cashout/"


class Load:
    """People who come one after the other on each line: join, claim, read, pay, read what needs no place."""

    def __init__(self, balancer: Balancer) -> None:
        self.lines = [Line(balancer.port) for _ in range(LINES)]
        self.failed: list[tuple[int, str]] = []  # which line, and how
        self.numbers: list[int] = []
        self.paid: list[str] = []
        self.is_over = False

    @property
    def asked(self) -> int:
        return sum(line.asked for line in self.lines)

    async def run(self, index: int) -> None:
        while not self.is_over:
            await self._visit(index, uuid.uuid4().hex)
        self.lines[index].close()

    async def _visit(self, index: int, key: str) -> None:
        joined = await self._ask(index, "POST", CALLS + "ticket", APP, json.dumps({"key": key}))
        self.numbers.append(joined["number"])
        ticket = APP | {"Waitroom-Ticket": joined["ticket"]}
        await self._ask(index, "GET", CALLS + "status", ticket)
        while (claimed := await self._ask(index, "POST", CALLS + "admission", ticket))["state"] != "admitted":
            pass  # the gateway holds a claim at the door; what it answers 202 may be asked again at once
        admitted = {"Waitroom-Admission": claimed["admission"], "Waitroom-Transport": "header"}
        await self._ask(index, "GET", "/points/cashout/", admitted)
        await self._ask(index, "POST", f"/points/cashout/pay?{key}", admitted, "x" * 2000)
        self.paid.append(key)
        await self._ask(index, "GET", "/free")

    async def _ask(self, index: int, method: str, target: str, headers: dict[str, str] | None = None, body: str = ""):  # type: ignore[no-untyped-def]
        """Ask until it is answered; every failure on the way is counted, and seen."""
        while True:
            try:
                reply = await self.lines[index].ask(method, target, headers, body)
            except (OSError, EOFError) as fault:
                self.failed.append((index, f"{method} {target}: {fault!r}"))
                await asyncio.sleep(RETRY_S)
                continue
            if reply.status >= 400:
                self.failed.append((index, f"{method} {target}: {reply.status} {reply.body!r}"))
                await asyncio.sleep(RETRY_S)
                continue
            return json.loads(reply.body) if reply.body.startswith(b"{") else reply.body


MakeProcess = Callable[[], Process]


@pytest.fixture
def make_gateway(valkey: RedisServer, tmp_path: Path, bank: ManualBank) -> MakeProcess:
    room = ROOM | {"id": "cashout", "drain_rate": "400/s", "active_max": 100_000}
    return lambda: Process(tmp_path, valkey.url, bank.url, grace="700ms", rooms=[room])


@asynccontextmanager
async def loaded(balancer: Balancer) -> AsyncIterator[Load]:
    load, owner = Load(balancer), Owner()
    people = [owner.start(load.run(index), f"line {index}") for index in range(LINES)]
    try:
        await until(lambda: len(load.paid) > LINES)
        yield load
        seen = len(load.paid)
        await until(lambda: len(load.paid) > seen + LINES)  # it goes on with those who are left
        load.is_over = True
        await asyncio.wait_for(asyncio.gather(*people), 10)
    finally:
        await owner.close()
        for line in load.lines:
            line.close()


def payments(bank: ManualBank) -> Counter[str]:
    return Counter(target.partition("?")[2] for method, target, _ in bank.requests if method == "POST")


async def test_a_rolling_restart_under_load_fails_no_request(make_gateway: MakeProcess, bank: ManualBank) -> None:
    """Promise 11: each gateway is replaced by a new process while people join, claim and pay: 0 failed requests."""
    old, new = [make_gateway(), make_gateway()], [make_gateway(), make_gateway()]
    async with running(*old, *new), Balancer(*old) as balancer, loaded(balancer) as load:
        for gone, come in zip(old, new, strict=True):
            balancer.gateways.append(come)
            await until(lambda come=come: come in balancer.ready)  # type: ignore[misc]
            gone.signal(signal.SIGTERM)
            code, said = await gone.end()
            assert code == 0, said
            assert "Traceback" not in said
            balancer.gateways.remove(gone)
    assert load.failed == []
    assert load.asked > 500
    assert len(set(load.numbers)) == len(load.numbers)
    assert payments(bank) == Counter(load.paid), "promise 10: what is not idempotent is sent once"


async def test_a_killed_gateway_loses_at_most_what_was_in_flight(make_gateway: MakeProcess, bank: ManualBank) -> None:
    """Promise 11: after `kill -9` each connection of the dead one fails once at most, and nobody else's at all."""
    gateways = [make_gateway(), make_gateway()]
    async with running(*gateways), Balancer(*gateways) as balancer, loaded(balancer) as load:
        dead, alive = gateways
        for _ in range(3):
            hit = {i for i, line in enumerate(load.lines) if balancer.through.get(line.local_port) is dead}
            assert hit, "nobody was there to lose anything"
            before = len(load.failed)
            said = await dead.kill()
            assert "Traceback" not in said
            await until(lambda: dead not in balancer.ready)  # noqa: B023
            seen = load.asked
            await until(lambda: load.asked > seen + 5 * LINES)  # noqa: B023
            losers = [index for index, _ in load.failed[before:]]
            assert len(losers) == len(set(losers)), load.failed[before:]
            assert set(losers) <= hit
            await dead.start()
            await until(lambda: dead in balancer.ready)  # noqa: B023
            dead, alive = alive, dead
    assert len(set(load.numbers)) == len(load.numbers), "promise 4"
    counted = payments(bank)
    assert all(counted[key] >= 1 for key in load.paid)
    assert sum(counted.values()) - len(counted) <= len(load.failed), "no payment was repeated but by its sender"
