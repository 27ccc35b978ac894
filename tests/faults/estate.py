"""What the loss matrix runs on: a Redis of any shape, gateways, the demo bank, and who watches them throughout."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import redis

from gateway.demo.entrylog import Entry, read_entries
from tests.faults.connections import Connections
from tests.faults.scene import SESSION_S, open_bank, raise_file_limit
from tests.serving import ROOM, Balancer, Process, running

MAIN: Final = "cashout"
SHUT: Final = "shut"  # a room that operators have paused: it must stay so
BASE: Final = {"drain_rate": "600/s", "burst": 600, "active_max": 100_000}  # what the file says
WATCH_S: Final = 0.05
BACK_S: Final = 5.0  # a room's clock may have gone back by what a loss took
GRACE_S: Final = 3  # how long one that ends still answers: a balancer has to look more often than that
BOARD_MAX_S: Final = 60.0  # a busy machine takes its time
READ_S: Final = 0.3
SLOW_S: Final = 0.3
Admin = Callable[[], Any]  # a client of redis-py to whoever is master; Sentinel's and Cluster's are of other classes


@dataclass(slots=True)
class LeaseWatch:
    """When each admission was granted, on the room's clock: noted as it appears, so that no loss takes it along."""

    admin: Admin
    granted_s: dict[bytes, float] = field(default_factory=dict)
    active_max: int = 0

    async def run(self) -> None:
        while True:
            with suppress(redis.RedisError, OSError):
                await asyncio.to_thread(self.look)
            await asyncio.sleep(WATCH_S)

    def look(self) -> None:
        since_s = max(self.granted_s.values(), default=0.0) - BACK_S
        client = self.admin()
        try:
            leases = client.zrangebyscore(key(MAIN, "active"), since_us(since_s), "+inf", withscores=True)
            active = client.hget(key(MAIN, "board"), "active")
        finally:
            client.close()
        for one, end_us in leases:
            self.granted_s.setdefault(one, end_us / 1e6 - SESSION_S)
        self.active_max = max(self.active_max, int(active or 0))


def since_us(granted_s: float) -> str:
    return f"{max(0.0, (granted_s + SESSION_S) * 1e6):.0f}"


def key(room: str, name: str) -> str:
    return f"waitroom:{{{room}}}:{name}"


@dataclass(slots=True)
class Reader:
    """Asks for one page again and again: an insider with an admission, or a newcomer who looks at the waiting page."""

    connections: Connections
    target: str
    fields: dict[str, str]
    wanted: int
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slow: list[tuple[float, float]] = field(default_factory=list)  # from and until, on the loop's clock

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began_s = clock()
            try:
                reply = await self.connections.ask("GET", self.target, self.fields)
            except (OSError, EOFError) as fault:
                self.wrong.append(type(fault).__name__)
            else:
                self.statuses[reply.status] += 1
                if clock() - began_s > SLOW_S:
                    self.slow.append((began_s, clock()))
                if reply.status != self.wanted:
                    self.wrong.append(f"{reply.status} {reply.body[:80]!r}")
            await asyncio.sleep(READ_S)

    @property
    def asked(self) -> int:
        return self.statuses.total() + len([text for text in self.wrong if not text[0].isdigit()])


@dataclass(slots=True)
class Estate:
    gateways: list[Process]
    balancer: Balancer
    connections: Connections  # of the crowd
    own_connections: Connections  # of who is watched: nobody else's requests are before theirs
    bank_folder: Path
    admin: Admin
    http: aiohttp.ClientSession

    def entries(self) -> list[Entry]:
        return read_entries(self.bank_folder / "entries.jsonl")

    async def patch(self, room: str, **changes: Any) -> None:
        url = f"http://127.0.0.1:{self.gateways[0].operator}/api/rooms/{room}"
        async with self.http.patch(url, json=changes) as answer:
            assert answer.status == 200, await answer.text()

    async def room(self, gateway: Process, room: str) -> dict[str, Any]:
        async with self.http.get(f"http://127.0.0.1:{gateway.operator}/api/rooms/{room}") as answer:
            document: dict[str, Any] = await answer.json()
            return document

    async def board(self, room: str) -> dict[str, Any]:
        """As the first gateway tells everybody, also while Redis is away."""
        async with self.http.get(f"{self.gateways[0].url}/_waitroom/{room}/board") as answer:
            document: dict[str, Any] = await answer.json()
            return document

    async def until_board(self, is_so: Callable[[dict[str, Any]], bool]) -> None:
        end = time.monotonic() + BOARD_MAX_S
        while not is_so(board := await self.board(MAIN)):
            assert time.monotonic() < end, f"the last board was {board}"
            await asyncio.sleep(0.05)

    async def restart(self, gateway: Process) -> None:
        await gateway.start()
        await gateway.wait_ready(self.http)


def tables() -> list[dict[str, Any]]:
    """Both rooms as the file has them."""
    common = ROOM | {"session": f"{SESSION_S}s"} | BASE
    return [
        common | {"id": room, "match": [{"path": f"/points/{room}/*"}], "entry": f"/points/{room}/"}
        for room in (MAIN, SHUT)
    ]


@asynccontextmanager
async def open_estate(
    folder: Path,
    redis_url: str,
    admin: Admin,
    *,
    gateways: int = 2,
    workers: int = 1,
    prepare: Callable[[list[Process]], None] = lambda _made: None,
) -> AsyncIterator[Estate]:
    raise_file_limit()
    bank_key = folder / "bank.hmac"
    bank_key.write_text(secrets.token_hex(32))
    bank_key.chmod(0o600)
    upstream = {"signing_key_file": str(bank_key), "max_in_flight": 500}
    async with open_bank(folder, bank_key) as bank_url:
        options: dict[str, Any] = {"workers": workers, "grace": f"{GRACE_S}s", "is_recorded": True}
        made = [
            Process(folder, redis_url, bank_url, rooms=tables(), upstream=upstream, **options) for _ in range(gateways)
        ]
        prepare(made)
        async with running(*made) as http, Balancer(*made) as balancer:

            def ports() -> Sequence[int]:
                return [gateway.public for gateway in balancer.ready or made]

            both = Connections(ports), Connections(ports)
            try:
                yield Estate(made, balancer, *both, folder / "bank", admin, http)
            finally:
                for connections in both:
                    connections.end()
