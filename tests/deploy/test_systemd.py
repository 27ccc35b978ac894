"""What the gateway makes of systemd: the sockets it holds, and what it is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from gateway.errors import StartError
from gateway.systemd import Service
from tests.conftest import RedisServer
from tests.serving import DEADLINE_S, Process
from tests.web.gatewayfixture import ManualBank, manual_bank, opened, protecting, until

bank = pytest.fixture(manual_bank)
# What systemd does between fork and exec: the sockets become 3 and 4, and the variables name this very process.
ACTIVATION: Final = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1].split(",")]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": sys.argv[2]}
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


class Manager:
    """Stands where systemd would: hears what services tell it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)
        self.heard: list[dict[str, str]] = []

    async def until(self, word: str, times: int = 1) -> dict[str, str]:
        """The message that brings the word for the so-maniest time."""
        async with asyncio.timeout(DEADLINE_S):
            while len(found := [message for message in self.heard if word in message]) < times:
                text = (await asyncio.get_running_loop().sock_recv(self._sock, 4096)).decode()
                self.heard.append(dict(line.split("=", 1) for line in text.split("\n")))
        return found[times - 1]

    def close(self) -> None:
        self._sock.close()


class Activated(Process):
    """A gateway whose ports are held by someone else, told under these names."""

    names = "public:operator"
    notify = ""
    watchdog_us = 0
    held: tuple[socket.socket, ...] = ()  # empty: by systemd-socket-activate

    async def start(self) -> None:
        environ = {"NOTIFY_SOCKET": self.notify, "WATCHDOG_USEC": str(self.watchdog_us or "")}
        serve = ["-m", "gateway", "serve", str(self.file), "--dev"]
        with self.log.open("ab") as log:
            if self.held:
                fds = [sock.fileno() for sock in self.held]
                command = [sys.executable, "-c", ACTIVATION, ",".join(map(str, fds)), self.names, *serve]
                self.process = await asyncio.create_subprocess_exec(
                    *command, stdout=log, stderr=log, pass_fds=fds, env=os.environ | environ
                )
                return
            passed = environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
            command = ["systemd-socket-activate", f"--fdname={self.names}"]
            command += [f"--listen=127.0.0.1:{port}" for port in (self.public, self.operator)]
            command += [f"--setenv={name}={value}" for name, value in passed.items() if value]
            self.process = await asyncio.create_subprocess_exec(
                *command, sys.executable, *serve, stdout=log, stderr=log
            )

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@asynccontextmanager
async def ending(*gateways: Activated) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for gateway in gateways:
            if gateway.process is not None and gateway.process.returncode is None:
                gateway.process.kill()
                await gateway.process.wait()


def listening(port: int, host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(4096)
    return sock


async def ask(port: int) -> bytes:
    """One unprotected request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /open HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()


# --- sockets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_first_connection_starts_the_gateway_and_is_answered(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank, manager: Manager, workers: int
) -> None:
    """Promise 11: systemd-socket-activate holds both ports; who came before the gateway is served by it."""
    gateway = Activated(tmp_path, valkey.url, bank.url, workers=workers)
    gateway.notify = str(manager.path)
    await gateway.start()
    async with ending(gateway):
        await until(lambda: "Listening on" in gateway.said())
        async with asyncio.timeout(DEADLINE_S):
            while True:  # it says so before it does
                with suppress(ConnectionRefusedError):
                    answer = await ask(gateway.public)
                    break
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"the bank")
        assert "STATUS" in await manager.until("READY")
        async with aiohttp.ClientSession() as http:
            assert await gateway.is_ready(http)
        gateway.signal(signal.SIGTERM)
        assert (await gateway.end())[0] == 0
        stopping = await manager.until("STOPPING")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 10_000_000
        assert [sorted(message) for message in manager.heard] == [
            ["READY", "STATUS"],
            ["EXTEND_TIMEOUT_USEC", "STATUS", "STOPPING"],
        ]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_restart_refuses_no_connection(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank, manager: Manager, workers: int
) -> None:
    """Promise 11: while one gateway goes and the next comes, those who connect wait in systemd's socket: 0 fail."""
    gateway = Activated(tmp_path, valkey.url, bank.url, workers=workers, grace="200ms")
    gateway.notify = str(manager.path)
    gateway.held = (listening(gateway.public), listening(gateway.operator))
    answers: list[bytes] = []
    is_over = asyncio.Event()

    async def load() -> None:
        while not is_over.is_set():
            answers.append(await ask(gateway.public))

    await gateway.start()
    async with ending(gateway):
        await manager.until("READY")
        loads = [asyncio.get_running_loop().create_task(load()) for _ in range(3)]
        await until(lambda: len(answers) > 10)
        gateway.signal(signal.SIGTERM)
        assert (await gateway.end())[0] == 0
        served_before = len(answers)
        waited = asyncio.get_running_loop().create_task(ask(gateway.public))  # nobody is there but the socket
        await gateway.start()
        await manager.until("READY", 2)
        assert (await waited).endswith(b"the bank")
        is_over.set()
        await asyncio.gather(*loads)
        gateway.signal(signal.SIGTERM)
        await gateway.end()
    for sock in gateway.held:
        sock.close()
    assert len(answers) > served_before > 10
    assert [answer for answer in answers if not answer.endswith(b"the bank")] == []


async def test_who_was_accepted_a_moment_before_the_end_is_answered(valkey: RedisServer, tmp_path: Path) -> None:
    """Promise 11: its request is on the way, and there is no other gateway that the connection could go to."""
    async with opened(valkey.url, tmp_path, [protecting("fresh")]) as house:
        gateway = house.gateway
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports[0])
        await until(lambda: gateway._listeners[0].connections == 1)
        server = gateway._listeners[0]._server
        assert server is not None
        stopping = asyncio.get_running_loop().create_task(house.stop(gateway))
        await until(lambda: not server.is_serving())
        writer.write(b"GET /open HTTP/1.1\r\nHost: bank.example\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
        writer.close()
        await stopping
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"the bank")


async def test_an_operator_port_that_the_file_does_not_know_is_refused(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank
) -> None:
    """Promise 14: the file says loopback and asks for no token, the socket is everybody's: that must not start."""
    gateway = Activated(tmp_path, valkey.url, bank.url)
    gateway.held = (listening(gateway.public), listening(gateway.operator, "0.0.0.0"))
    await gateway.start()
    async with ending(gateway):
        code, log = await gateway.end()
    for sock in gateway.held:
        sock.close()
    assert code == 1
    told = f"systemd listens on 0.0.0.0:{gateway.operator} as operator, and operator of [server] is 127.0.0.1"
    assert told in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("names", "told"),
    [("waitroom.socket:operator", "'waitroom.socket'"), ("public", "'nothing'"), ("public:public", "'public', or two")],
)
async def test_a_socket_of_no_name_of_ours_is_refused(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank, names: str, told: str
) -> None:
    """Promise 14: a unit without FileDescriptorName= would leave a port open that nobody serves."""
    gateway = Activated(tmp_path, valkey.url, bank.url)
    gateway.held, gateway.names = (listening(gateway.public), listening(gateway.operator)), names
    await gateway.start()
    async with ending(gateway):
        code, log = await gateway.end()
    for sock in gateway.held:
        sock.close()
    assert code == 1
    assert f"a socket named {told}" in log
    assert "allowed: FileDescriptorName=public" in log


def test_what_was_meant_for_another_process_is_left_alone() -> None:
    """LISTEN_PID and WATCHDOG_PID name whom it is for; nothing of it reaches children."""
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "public:operator", "NOTIFY_SOCKET": "/run/x"}
    environ |= {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "7", "PATH": "/bin"}
    service = Service.taken(environ, pid=8)
    assert (service.sockets, service.watchdog_s, environ) == ({}, 0.0, {"PATH": "/bin"})
    assert Service.taken({"WATCHDOG_USEC": "500000", "NOTIFY_SOCKET": "/run/x"}, pid=8).watchdog_s == 0.5
    for fds in ("two", "400"):
        with pytest.raises(StartError, match="LISTEN_FDS"):
            Service.taken({"LISTEN_PID": "8", "LISTEN_FDS": fds}, pid=8)


def test_a_connection_is_no_port() -> None:
    """`Accept=yes` hands over connections: the gateway accepts for itself."""
    code = "from gateway.systemd import Service; import os; Service.taken(os.environ, os.getpid())"
    one, other = socket.socketpair()
    with one, other:
        command = [sys.executable, "-c", ACTIVATION, str(one.fileno()), "public", "-c", code]
        done = subprocess.run(command, pass_fds=[one.fileno()], capture_output=True, text=True, check=False)
    assert "StartError: the socket public that systemd hands over does not listen on TCP" in done.stderr


# --- what it is told -------------------------------------------------------------------------------------------------


async def test_a_reload_is_told_whatever_comes_of_it(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank, manager: Manager
) -> None:
    """Type=notify-reload waits for READY=1 after RELOADING=1, which has to be on the clock that systemd reads."""
    gateway = Activated(tmp_path, valkey.url, bank.url, workers=2)
    gateway.notify = str(manager.path)
    gateway.held = (listening(gateway.public), listening(gateway.operator))
    await gateway.start()
    async with ending(gateway):
        await manager.until("READY")
        before_us = time.monotonic_ns() // 1000
        gateway.signal(signal.SIGHUP)
        reloading = await manager.until("RELOADING")
        assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert "2 workers serve; config " in (await manager.until("READY", 2))["STATUS"]
        gateway.file.write_text(gateway.file.read_text().replace("1000/s", "50/fortnight"))
        gateway.signal(signal.SIGHUP)
        assert "the last reload was refused" in (await manager.until("READY", 3))["STATUS"]
        gateway.signal(signal.SIGTERM)
        await gateway.end()
    for sock in gateway.held:
        sock.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_watchdog_hears_from_a_gateway_that_lives(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank, manager: Manager, workers: int
) -> None:
    """Stopped in its tracks it falls silent, which is when systemd starts it anew."""
    gateway = Activated(tmp_path, valkey.url, bank.url, workers=workers)
    gateway.notify, gateway.watchdog_us = str(manager.path), 100_000
    gateway.held = (listening(gateway.public), listening(gateway.operator))
    await gateway.start()
    async with ending(gateway):
        await manager.until("WATCHDOG", 5)
        gateway.signal(signal.SIGSTOP)
        assert gateway.process is not None
        state = Path(f"/proc/{gateway.process.pid}/stat")
        await until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
        with suppress(BlockingIOError):
            while manager._sock.recv(4096):
                pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await manager.until("WATCHDOG", 1_000)
        gateway.signal(signal.SIGCONT)
        await manager.until("WATCHDOG", len([one for one in manager.heard if "WATCHDOG" in one]) + 1)
    for sock in gateway.held:
        sock.close()


async def test_a_manager_that_has_gone_is_no_reason_to_fail(
    tmp_path: Path, valkey: RedisServer, bank: ManualBank
) -> None:
    gateway = Activated(tmp_path, valkey.url, bank.url)
    gateway.notify = str(tmp_path / "nobody")
    gateway.held = (listening(gateway.public), listening(gateway.operator))
    await gateway.start()
    async with ending(gateway):
        assert (await ask(gateway.public)).endswith(b"the bank")
        gateway.signal(signal.SIGTERM)
        code, log = await gateway.end()
    for sock in gateway.held:
        sock.close()
    assert code == 0
    assert "systemd_not_told" in log
