"""The server and Sentinel configuration of deploy/redis, on real servers: accepted, enough for a gateway, and no more."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from gateway.queue.connect import open_redis, refusal
from gateway.queue.record import READ_STREAM
from gateway.queue.scripts import SCRIPTS
from tests.conftest import free_port, until_so, valkey_binary
from tests.deploy.prometheus import DEPLOY
from tests.web.gatewayfixture import opened, protecting, until, until_answer

FILES: Final = DEPLOY / "redis"
NOBODYS: Final = "0" * 64  # the SHA-256 of no password that anybody knows
PASSWORD: Final = "of a test"
BINARIES: Final[dict[str, Callable[[], str]]] = {"valkey": valkey_binary, "redis": lambda: "redis-server"}
DEADLINE_S: Final = 40.0
# What the client itself says on a connection: who it is, in which database, and what its scripts are called.
OF_THE_CLIENT: Final = {"auth", "hello", "select", "client|setname", "eval", "evalsha"}


def users() -> dict[str, list[str]]:
    """The rules of each user."""
    lines = [line.split() for line in (FILES / "users.acl").read_text().splitlines()]
    assert {line[0] for line in lines} == {"user"}
    return {line[1]: line[2:] for line in lines}


class Server:
    """A server on the files as they are, but for ports, folders and passwords."""

    def __init__(self, kind: str, folder: Path, main: str = "valkey.conf", password: str = PASSWORD) -> None:
        self.port = free_port()
        folder.mkdir()
        hashed = hashlib.sha256(password.encode()).hexdigest()
        for name in ("valkey.conf", "replicated.conf", "users.acl"):
            text = (FILES / name).read_text().replace(NOBODYS, hashed)
            text = text.replace("/etc/valkey", str(folder)).replace("/var/lib/valkey", str(folder))
            (folder / name).write_text(text.replace("port 6379", f"port {self.port}"))
        (folder / "secrets.conf").write_text(f'masterauth "{password}"\n')
        self._command = [BINARIES[kind](), str(folder / main)]
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*self._command, *options], stdout=log, stderr=log)
        with self.admin() as client:
            until_so(lambda: bool(client.ping()))

    def admin(self) -> Any:
        return redis.Redis(port=self.port, username="admin", password=PASSWORD, decode_responses=True)

    def url(self, user: str = "waitroom") -> str:
        return f"redis://{user}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/0"

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(server: Server, *options: str) -> Iterator[Server]:
    try:
        server.start(*options)
        yield server
    finally:
        server.end()


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running(Server(request.param, tmp_path / "server")) as made:
        yield made


def test_a_gateway_may_do_what_its_scripts_do_and_nothing_else() -> None:
    """Derived from the scripts: a command that one of them learns has to be granted, one that none uses any more goes."""
    sources = [READ_STREAM, *(script.source for script in SCRIPTS.values())]
    called = [re.findall(r"\bp?call\(\s*'?([A-Za-z_]+)'?", source) for source in sources]
    commands = {command.lower() for found in called for command in found}
    assert "zadd" in commands
    commands = commands - {"memory"} | {"memory|usage"}
    rules = users()["waitroom"]
    assert {rule[1:] for rule in rules if rule.startswith("+")} == commands | OF_THE_CLIENT
    assert [rule for rule in rules if rule.startswith(("~", "&", "%"))] == ["~waitroom:*"]


def test_no_password_is_shipped() -> None:
    """Whoever starts it on the files as they are has let nobody in, and the one user without a name is off."""
    assert users().pop("default") == ["reset", "off"]
    assert {rule for name, rules in users().items() if name != "default" for rule in rules if rule[0] in "#>"} == {
        f"#{NOBODYS}"
    }
    assert not any("nopass" in rules for rules in users().values())
    for file in FILES.iterdir():
        assert not re.search(r"^(requirepass|masterauth|sentinel auth-pass) ", file.read_text(), re.MULTILINE)


def test_the_server_takes_every_line(server: Server) -> None:
    """Each as it stands in the file; the memory policy is the one a gateway asks for."""
    lines = [line.split(maxsplit=1) for line in (FILES / "valkey.conf").read_text().splitlines() if line[:1] not in "#"]
    told = {
        key: value.strip('"') for key, value in lines if key not in {"client-output-buffer-limit", "aclfile", "dir"}
    }
    told |= {"port": str(server.port), "maxmemory": str(1024**3), "auto-aof-rewrite-min-size": str(128 * 1024**2)}
    with server.admin() as client:
        assert {key: client.config_get(key)[key] for key in told} == told
        (limits,) = client.config_get("client-output-buffer-limit").values()
        assert f"normal {32 * 1024**2} {8 * 1024**2} 30" in limits
    assert len(told) > 15


@pytest.mark.parametrize(
    "command",
    [("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("MONITOR",), ("SET", "other:key", "1"), ("ACL", "LIST")],
)
def test_a_gateway_that_was_taken_over_reaches_its_own_keys_alone(server: Server, command: tuple[str, ...]) -> None:
    with redis.Redis.from_url(server.url()) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)
        with pytest.raises(
            redis.exceptions.ResponseError, match=r"(?i)permission|acl|from script|executing the script can't"
        ):  # nor by a script
            client.eval(f"return redis.call({', '.join(map(repr, command))})", 0)


async def test_an_unset_password_lets_nobody_in(tmp_path: Path) -> None:
    """And the gateway says so, instead of waiting for what does not come."""
    with running(Server("valkey", tmp_path / "server")) as server:
        connection = await open_redis(server.url().replace(PASSWORD.replace(" ", "%20"), "another"), str(tmp_path))
        told = await refusal(connection)
        await connection.close()
    assert told is not None
    assert "it does not let us in" in told


async def test_a_gateway_runs_on_it_through_a_whole_life_and_is_denied_nothing(server: Server, tmp_path: Path) -> None:
    """Promise 5: enter, join, leave, lose everything, claim, release, report, reset; the log of denials stays empty."""
    room = protecting("acl")
    async with opened(server.url(), tmp_path, [room], gateways=2) as house:
        await house.idle(room)
        inside, waiting = house.visitor(), house.visitor(house.gateways[1])
        assert (await inside.open(f"/{room.id}/")).status == 200  # an instant entry
        await house.patch(room, paused=True)
        assert (await waiting.join(room, "w" * 22)).status == 201
        assert (await waiting.see(room))["number"] > 0
        leaver = house.visitor()
        await leaver.join(room, "l" * 22)
        assert (await leaver.ask("DELETE", f"/_waitroom/{room.id}/ticket")).status == 204
        with server.admin() as client:
            client.flushall()
        await house.state("recovering", room)
        await until_answer(lambda: waiting.get(f"/_waitroom/{room.id}/status"), lambda answer: answer.status == 200)
        await house.patch(room, paused=False, drain_rate="500/s", stock=100)
        await until_answer(lambda: waiting.claim(room), lambda answer: answer.status == 200, DEADLINE_S)
        assert (await waiting.get(f"/{room.id}/")).status == 200
        house.bank.headers = {"Waitroom-Release": "1", "Waitroom-Remaining": "50"}
        await waiting.get(f"/{room.id}/pay")
        await house.post(room, "reports", {"remaining": 40, "released": []})
        with server.admin() as client:
            await until(lambda: client.zcard(f"waitroom:{{{room.id}}}:revoked") == 1)
        await house.post(room, "reset", {"admissions": True})
        await until(lambda: all(house.queue(room, one).board.census.epoch == 2 for one in house.gateways))
    with server.admin() as client:
        assert client.acl_log() == []


# --- a set behind Sentinel -------------------------------------------------------------------------------------------


class Watch:
    """A sentinel on the shipped file, but for addresses and the password of its user."""

    def __init__(self, folder: Path, master: Server) -> None:
        self.port = free_port()
        folder.mkdir()
        text = (FILES / "sentinel.conf").read_text().replace("/var/lib/valkey", str(folder))
        text = text.replace("port 26379", f"port {self.port}").replace("10.0.0.11 6379", f"127.0.0.1 {master.port}")
        (folder / "sentinel.conf").write_text(f'{text}sentinel auth-pass waitroom "{PASSWORD}"\n')
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["redis-server", str(folder / "sentinel.conf"), "--sentinel"], stdout=log, stderr=log
            )

    def master(self) -> dict[str, Any]:
        with redis.Redis(port=self.port) as client:
            found: dict[str, Any] = client.sentinel_master("waitroom")
        return found


def is_refused(server: Server) -> bool:
    with server.admin() as client:
        try:
            client.set("probe", 1)
        except redis.exceptions.ResponseError as fault:
            return "NOREPLICAS" in str(fault)
    return False


@pytest.mark.timeout(180)
async def test_a_set_changes_masters_and_a_master_that_is_cut_off_stops(tmp_path: Path) -> None:
    """Promises 1 and 5: no two doors at a time, and the line goes on with the new master."""
    room = protecting("set")
    with ExitStack() as stack:
        master, *replicas = servers = [Server("redis", tmp_path / f"server-{i}", "replicated.conf") for i in range(3)]
        for one in servers:
            options = [] if one is master else ["--replicaof", "127.0.0.1", str(master.port)]
            stack.enter_context(running(one, *options))
        with master.admin() as client:
            until_so(lambda: client.info("replication")["connected_slaves"] == 2)
        for one in replicas:  # nobody who could be promoted, nobody who hears it: as a master that was cut off
            assert one.process is not None
            one.process.send_signal(signal.SIGSTOP)
        until_so(lambda: is_refused(master))
        for one in replicas:
            assert one.process is not None
            one.process.send_signal(signal.SIGCONT)
        until_so(lambda: not is_refused(master))
        watches = [Watch(tmp_path / f"sentinel-{i}", master) for i in range(3)]
        for watch in watches:
            stack.callback(watch.process.wait)
            stack.callback(watch.process.kill)
        until_so(lambda: all(one.master()["num-other-sentinels"] == 2 for one in watches))
        until_so(lambda: all(one.master()["num-slaves"] == 2 for one in watches))
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in watches)
        url = f"redis+sentinel://waitroom:{PASSWORD.replace(' ', '%20')}@{hosts}/waitroom"
        async with opened(url, tmp_path, [room], gateways=2) as house:
            await house.idle(room)
            await house.patch(room, paused=True)
            line = [house.visitor(house.gateways[i % 2]) for i in range(6)]
            numbers = [(await one.join(room, f"{i:022}")).json["number"] for i, one in enumerate(line)]
            master.end()
            await asyncio.to_thread(until_so, lambda: all(one.master()["port"] != master.port for one in watches))
            await until_answer(lambda: house.visitor().join(room), lambda answer: answer.status == 201, DEADLINE_S)
            await house.state("paused", room)
            assert [(await one.see(room))["number"] for one in line] == numbers
        for one in replicas:
            with one.admin() as client:
                assert client.acl_log() == []
