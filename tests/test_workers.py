"""Several processes before one pair of ports: who dies is replaced, a reload rolls, one scrape tells of all."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import RedisServer, free_port
from tests.serving import Process
from tests.web.gatewayfixture import ManualBank, manual_bank

bank = pytest.fixture(manual_bank)

DEADLINE_S = 20.0
WORKERS = 2


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def gateway(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank, http: aiohttp.ClientSession
) -> AsyncIterator[Process]:
    made = Process(tmp_path, valkey.url, bank.url, workers=WORKERS)
    await made.start()
    await until(lambda: is_serving(made, http))
    yield made
    if made.process is not None and made.process.returncode is None:
        made.signal(signal.SIGTERM)
        await made.end()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not await is_so():
        assert time.monotonic() < end, "the state did not come"
        await asyncio.sleep(0.05)


async def is_serving(gateway: Process, http: aiohttp.ClientSession) -> bool:
    return "workers_serving" in gateway.log.read_text() and await gateway.is_ready(http)


def children(gateway: Process) -> set[int]:
    assert gateway.process is not None
    pid = gateway.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def scraped(gateway: Process, http: aiohttp.ClientSession) -> dict[str, float]:
    async with http.get(f"http://127.0.0.1:{gateway.operator}/metrics") as answer:
        text = await answer.text()
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)}


async def served(file: Path) -> tuple[int, str]:
    """The exit code and the words of a gateway that ends by itself."""
    command = (sys.executable, "-m", "gateway", "serve", str(file), "--dev")
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
    said, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def ask(gateway: Process) -> bytes:
    """One unprotected request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.public)
    writer.write(b"GET /open HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()


class Load:
    """Requests one after the other on new connections, and what became of them."""

    def __init__(self, gateway: Process) -> None:
        self._gateway = gateway
        self.served = 0
        self.failed: list[str] = []
        self._is_over = False

    async def run(self) -> None:
        while not self._is_over:
            try:
                answer = await ask(self._gateway)
            except OSError as fault:
                self.failed.append(repr(fault))
            else:
                if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"the bank"):
                    self.served += 1
                else:
                    self.failed.append(repr(answer[:100]))
            await asyncio.sleep(0.002)

    async def end(self) -> None:
        self._is_over = True
        await asyncio.sleep(0)


async def test_a_worker_that_dies_is_replaced_and_no_count_falls(gateway: Process, http: aiohttp.ClientSession) -> None:
    """Promise 11: `kill -9` of a worker loses nothing but its own requests in flight, and no figure of the gateway."""
    before = children(gateway)
    assert len(before) == WORKERS
    for _ in range(40):
        assert (await ask(gateway)).endswith(b"the bank")
    name = 'waitroom_request_seconds_count{kind="unprotected"}'
    counted = 40

    async def is_counted() -> bool:
        """By both, which write their figures once a second."""
        return (await scraped(gateway, http))[name] == counted

    await until(is_counted)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)

    async def is_replaced() -> bool:
        return len(children(gateway)) == WORKERS and victim not in children(gateway)

    await until(is_replaced)
    for _ in range(10):
        assert (await ask(gateway)).endswith(b"the bank")
    counted += 10
    await until(is_counted)
    assert "worker_died" in gateway.log.read_text()

    async def is_told() -> bool:
        return (await scraped(gateway, http))['waitroom_workers_lost_total{reason="died"}'] == 1

    await until(is_told)


async def test_a_reload_rolls_the_workers_and_loses_no_request(gateway: Process, http: aiohttp.ClientSession) -> None:
    """Promise 11: 0 failed requests; the new configuration is in force on all workers."""
    old = children(gateway)
    load = Load(gateway)
    running = [asyncio.get_running_loop().create_task(load.run()) for _ in range(4)]
    gateway.file.write_text(gateway.file.read_text().replace("1000/s", "700/s"))
    gateway.signal(signal.SIGHUP)

    async def is_reloaded() -> bool:
        return " reloaded " in gateway.log.read_text()

    await until(is_reloaded)
    await load.end()
    await asyncio.gather(*running)
    assert load.failed == []
    assert load.served > 50
    assert len(children(gateway)) == WORKERS
    assert not children(gateway) & old

    async def is_in_force() -> bool:
        return (await scraped(gateway, http))['waitroom_setting{room="cashout",setting="drain_rate"}'] == 700

    await until(is_in_force)


async def test_a_faulty_configuration_is_refused_and_the_old_one_stays(
    gateway: Process, http: aiohttp.ClientSession
) -> None:
    """Promise 14: all faults are in the log, the metric says so, and the same workers serve on."""
    old, good = children(gateway), gateway.file.read_text()
    for bad, said in (
        (good.replace("1000/s", "50/fortnight"), "50/fortnight"),
        (good.replace(f":{gateway.public}", f":{gateway.public - 1}"), "server.public cannot change"),
        ("nonsense", "reload_refused"),
    ):
        gateway.file.write_text(bad)
        gateway.signal(signal.SIGHUP)

        async def is_refused(said: str = said) -> bool:
            return said in gateway.log.read_text()

        await until(is_refused)
    assert children(gateway) == old
    assert (await ask(gateway)).endswith(b"the bank")
    for victim in old:
        os.kill(victim, signal.SIGKILL)  # their successors must not take up what was refused, and still say that it was

    async def is_replaced() -> bool:
        return len(children(gateway)) == WORKERS and not children(gateway) & old

    await until(is_replaced)
    assert (await ask(gateway)).endswith(b"the bank")

    async def is_told() -> bool:
        return (await scraped(gateway, http))["waitroom_config_reload_success"] == 0

    await until(is_told)
    old = children(gateway)
    gateway.file.write_text(good)
    gateway.signal(signal.SIGHUP)

    async def is_well() -> bool:
        return (await scraped(gateway, http))["waitroom_config_reload_success"] == 1 and not children(gateway) & old

    await until(is_well)


async def test_a_storm_of_reloads_is_two_rolls(gateway: Process, http: aiohttp.ClientSession) -> None:
    """The one under way, and one more for what may have changed since it read the file."""
    for _ in range(20):
        gateway.signal(signal.SIGHUP)
        await asyncio.sleep(0.01)

    async def is_reloaded() -> bool:
        return gateway.log.read_text().count(" reloaded ") == 2

    await until(is_reloaded)
    gateway.signal(signal.SIGTERM)
    _, log = await gateway.end()
    assert log.count(" reloaded ") == 2


async def test_a_worker_that_dies_in_a_roll_is_replaced_before_the_roll_is_over(
    gateway: Process, bank: ManualBank, http: aiohttp.ClientSession
) -> None:
    """Promise 11: a roll that waits for one worker's last request leaves no other slot empty."""
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(_request: web.BaseRequest) -> web.StreamResponse:
        is_asked.set()
        await may_answer.wait()
        return web.Response(body=b"the bank")

    bank.play = slowly
    asking = asyncio.get_running_loop().create_task(ask(gateway))
    await is_asked.wait()
    bank.play = None
    gateway.signal(signal.SIGHUP)

    async def waits_for_an_old_one() -> bool:
        log = gateway.log.read_text()
        return log.count(" stopping ") == log.count(" stopped") + 1 and len(children(gateway)) == WORKERS + 1

    await until(waits_for_an_old_one)
    victim = max(children(gateway))  # it serves already, else nobody would have been asked to stop
    os.kill(victim, signal.SIGKILL)

    async def is_replaced() -> bool:
        return len(children(gateway)) == WORKERS + 1 and victim not in children(gateway)

    await until(is_replaced)
    assert " worker_died " in gateway.log.read_text()
    assert " reloaded " not in gateway.log.read_text()
    may_answer.set()
    assert (await asking).endswith(b"the bank")


async def test_workers_end_with_their_parent(gateway: Process) -> None:
    """A killed parent leaves nobody behind who serves on without being watched."""
    workers = children(gateway)
    await gateway.kill()

    async def is_gone() -> bool:
        return not any(os.path.exists(f"/proc/{pid}") for pid in workers)  # noqa: ASYNC240  a look into memory

    await until(is_gone)


async def test_a_stop_lets_requests_end(gateway: Process, bank: ManualBank) -> None:
    """Promise 11: SIGTERM to the parent ends all workers, each with its grace."""
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(_request: web.BaseRequest) -> web.StreamResponse:
        is_asked.set()
        await may_answer.wait()
        return web.Response(body=b"the bank")

    bank.play = slowly
    asking = asyncio.get_running_loop().create_task(ask(gateway))
    await is_asked.wait()
    gateway.signal(signal.SIGTERM)
    await asyncio.sleep(0.1)
    bank.play = None
    late = await ask(gateway)  # within the grace: a balancer has not seen the 503 of /readyz yet
    assert late.startswith(b"HTTP/1.1 200 ")
    await asyncio.sleep(0.4)
    may_answer.set()
    assert (await asking).endswith(b"the bank")
    code, log = await gateway.end()
    assert code == 0
    assert "task_failed" not in log


async def test_a_gateway_whose_workers_cannot_start_does_not(tmp_path: Path, bank: ManualBank) -> None:
    """Promise 14: it ends with 1 and the worker's own sentence, and leaves no process behind."""
    evicting = RedisServer("redis-server", options=("--maxmemory-policy", "allkeys-lru"))
    await asyncio.to_thread(evicting.start)
    try:
        gateway = Process(tmp_path, evicting.url, bank.url, workers=WORKERS)
        await gateway.start()
        code, log = await gateway.end()
    finally:
        await asyncio.to_thread(evicting.kill)
    assert code == 1
    assert "this Redis may not be used" in log


async def test_two_gateways_in_one_folder_are_refused(gateway: Process, http: aiohttp.ClientSession) -> None:
    """What both counted would stand in each one's figures."""
    text = gateway.file.read_text()
    for port in (gateway.public, gateway.operator):
        text = text.replace(f":{port}", f":{free_port()}")
    other = gateway.file.with_name("other.toml")
    other.write_text(text)
    code, log = await served(other)
    assert code == 1
    assert "another gateway works in" in log
    assert (await ask(gateway)).endswith(b"the bank")
    assert await scraped(gateway, http)


async def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path, valkey: RedisServer, bank: ManualBank) -> None:
    """Promise 14: one sentence, no traceback."""
    gateway = Process(tmp_path, valkey.url, bank.url, workers=WORKERS)
    state = tmp_path / f"state-{gateway.public}"
    state.mkdir()
    (state / "workers").write_text("a file where the folder should be")
    code, log = await served(gateway.file)
    assert code == 1
    assert "make server.state_dir a folder that this user may write" in log
    assert "Traceback" not in log


async def test_figures_that_cannot_be_added_up_are_no_figures(gateway: Process, http: aiohttp.ClientSession) -> None:
    """A scrape without some workers would look like counters that fell; the gateway serves on."""
    shutil.rmtree(gateway.file.with_name(f"state-{gateway.public}"))
    async with http.get(f"http://127.0.0.1:{gateway.operator}/metrics") as answer:
        assert answer.status == 503
        assert "cannot be added up in server.state_dir" in (await answer.json())["detail"]
    assert (await ask(gateway)).endswith(b"the bank")


async def test_the_embedded_server_is_for_one_process(tmp_path: Path, bank: ManualBank) -> None:
    """Promise 14: said at the start, with what is allowed."""
    gateway = Process(tmp_path, "embedded", bank.url, workers=WORKERS)
    await gateway.start()
    code, log = await gateway.end()
    assert code == 1
    assert 'server.workers = 2 with redis.url = "embedded": allowed: 1' in log
