"""Real `waitroom serve` processes for tests, and the balancer before them that a rolling restart needs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from gateway.rules.keys import new_key_file
from gateway.tasks import Owner
from tests.conftest import free_port

DEADLINE_S: Final = 15.0
PROBE_S: Final = 0.05
PROBE_MAX_S: Final = 2.0
LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
RETRY: Final = re.compile(rb"\r\nretry-after: (\d+)\r\n", re.IGNORECASE)
ROOM: Final[dict[str, Any]] = {
    "id": "cashout",
    "match": [{"path": "/points/cashout/*"}],
    "entry": "/points/cashout/",
    "upstream": "bank",
    "drain_rate": "1000/s",
    "active_max": 1000,
}


class Process:
    """`python -m gateway serve --dev` on a configuration of its own; rooms and the upstream as tables of the file."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        bank_url: str,
        *,
        public: int = 0,
        grace: str = "300ms",
        rooms: Iterable[dict[str, Any]] = (ROOM,),
        upstream: dict[str, Any] | None = None,
        workers: int = 1,
        is_recorded: bool = False,
        connections_max: int = 20_000,
    ) -> None:
        self.public, self.operator = public or free_port(), free_port()
        key = folder / "key.pem"
        if not key.exists():
            new_key_file(key, "ES256")
        self.file = folder / f"waitroom-{self.public}.toml"
        tables = [table("upstreams.bank", {"urls": [bank_url]} | (upstream or {}))]
        tables += [table("[rooms]", room) for room in rooms]
        self.record = folder / f"audit-{self.public}.jsonl"  # its own, beside the stream that all write to
        if is_recorded:
            tables.append(table("audit", {"file": str(self.record)}))
        self.file.write_text(f"""
[server]
public = "127.0.0.1:{self.public}"
operator = "127.0.0.1:{self.operator}"
hosts = ["127.0.0.1", "bank.example"]
state_dir = "{folder / f"state-{self.public}"}"
stop_grace = "{grace}"
workers = {workers}
connections_max = {connections_max}
[redis]
url = "{redis_url}"
[tokens]
signing_key_file = "{key}"
[default]
upstream = "bank"
{"".join(tables)}""")
        self.log = self.file.with_suffix(".log")
        self.process: asyncio.subprocess.Process | None = None
        self.environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.public}"

    async def start(self) -> None:
        with self.log.open("wb") as log:  # a pipe that nobody reads would fill up and stop the gateway
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway",
                "serve",
                str(self.file),
                "--dev",
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )

    async def is_ready(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"http://127.0.0.1:{self.operator}/readyz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def wait_ready(self, http: aiohttp.ClientSession) -> None:
        end = time.monotonic() + DEADLINE_S
        while not await self.is_ready(http):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)

    async def end(self, deadline_s: float = DEADLINE_S) -> tuple[int, str]:
        """The exit code and what it wrote."""
        assert self.process is not None
        code = await asyncio.wait_for(self.process.wait(), deadline_s)
        return code, self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> str:
        """`kill -9`; answers what it had written until then."""
        self.signal(signal.SIGKILL)
        return (await self.end())[1]


def table(name: str, keys: dict[str, Any]) -> str:
    """A table of the configuration; what JSON and TOML write alike is all that tests need."""
    return f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in keys.items())


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    return json.dumps(value)


@asynccontextmanager
async def running(*processes: Process) -> AsyncIterator[aiohttp.ClientSession]:
    """Start them, wait until each is ready, and end what is left of them; a session to ask their operator ports with."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        for process in processes:
            await process.start()
            stack.push_async_callback(_end, process)
        for process in processes:
            await process.wait_ready(http)
        yield http


async def _end(process: Process) -> None:
    assert process.process is not None
    if process.process.returncode is None:
        process.process.kill()
        await process.process.wait()


class Balancer:
    """One port before several gateways, as a TCP balancer is: new connections go in turn to those whose /readyz says 200.

    A gateway that refuses a connection is passed over: nothing has been sent yet. Connections that are open stay where
    they are.
    """

    def __init__(self, *gateways: Process) -> None:
        self.gateways = list(gateways)
        self.ready: list[Process] = []
        self.through: dict[int, Process] = {}  # a client's port -> where its connection went
        self._owner = Owner()
        self._server: asyncio.Server | None = None
        self._turn = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0, backlog=4096)
        patience = aiohttp.ClientTimeout(total=PROBE_MAX_S)  # a gateway that stands still is not ready, either
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=patience)
        await self.look()
        self._owner.start(self._watch(), "watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._owner.close()
        await self._http.close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def look(self) -> None:
        gateways = list(self.gateways)
        answers = await asyncio.gather(*(gateway.is_ready(self._http) for gateway in gateways))
        self.ready = [gateway for gateway, is_ready in zip(gateways, answers, strict=True) if is_ready]

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            await self.look()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._owner.start(self._splice(reader, writer), "session")

    async def _splice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client_port = writer.get_extra_info("peername")[1]
        there = await self._connect(client_port)
        if there is None:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        finally:
            for one in (writer, there[1]):
                one.close()

    async def _connect(self, client_port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._turn += 1
        turn = self._turn % max(1, len(self.ready))
        for gateway in [*self.ready[turn:], *self.ready[:turn]]:
            with suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", gateway.public)
                self.through[client_port] = gateway
                return there
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes one way until their end; an end is handed on as an end, a reset as a reset."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


class Line:
    """A client on one kept-alive connection, which it opens anew when it is told to, and that repeats nothing."""

    def __init__(self, port: int, deadline_s: float = DEADLINE_S) -> None:
        self._port = port
        self._deadline_s = deadline_s  # longer than a claim is held
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.asked = 0

    @property
    def local_port(self) -> int:
        """Of the open connection; 0 between two."""
        return 0 if self._streams is None else int(self._streams[1].get_extra_info("sockname")[1])

    @property
    def is_open(self) -> bool:
        """There is a connection, and the other side has not ended it."""
        return self._streams is not None and not self._streams[0].at_eof()

    async def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: str = "") -> Reply:
        """One answer. Raises OSError or EOFError when the connection ended before it."""
        self.asked += 1
        fields = {"Host": "127.0.0.1", "Content-Length": str(len(body))} | (headers or {})
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        try:
            async with asyncio.timeout(self._deadline_s):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port)
                reader, writer = self._streams
                writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                content = await reader.readexactly(int(length[1])) if length else b""
        except (OSError, EOFError):
            self.close()
            raise
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return Reply(int(head[9:12]), head, content)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    head: bytes
    body: bytes

    @property
    def retry_after_s(self) -> float:
        found = RETRY.search(self.head)
        return float(found[1]) if found else 1.0

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document
