"""What the queue costs Redis, from the server's own accounting: time a script, time an element, bytes a waiting visitor.

    python -m bench.queue [--places 1000000] [--kind valkey] [--kind redis] [--without-record]

Times are the server's (INFO commandstats, per call of EVALSHA), so a busy machine between does not count; the figures to
hold are promise 15's: no script over 5 ms, <= 10 us a join, <= 130 B a visitor at 1 M on Redis 7.0, <= 85 B on Valkey 9.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Coroutine
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file, too

from gateway.model import ClaimTry, Contact, Memory, Rate, RoomSettings, SettingsRecord, Touch
from gateway.queue.connect import open_redis
from gateway.queue.scripts import SCRIPTS
from gateway.queue.store import RoomStore
from gateway.rules.pacing import as_document
from tests.conftest import make_room, redis_server

BATCH = 250
FEW = 13  # what one turn of the event loop gathers at 32 connections
START_US = 1_800_000_000_000_000


def ident(visitor: int) -> bytes:
    """16 bytes as a key's hash would give: evenly spread, in no order."""
    return sha256(visitor.to_bytes(8, "big")).digest()[:16]


def busy_us(pid: int) -> float:
    """What a process has used of the processors."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000


class Bench:
    """One server, one room at 10,000 entries a second, and the server's clocks around each call."""

    def __init__(self, store: RoomStore, admin: redis.Redis) -> None:
        self.store = store
        self.admin = admin
        self.rows: list[tuple[str, str, str]] = []

    def _spent(self) -> tuple[int, int]:
        stats: dict[str, Any] = self.admin.info("commandstats")
        row = stats.get("cmdstat_evalsha", {"usec": 0, "calls": 0})
        return int(row["usec"]), int(row["calls"])

    async def measure(self, call: Coroutine[Any, Any, Any]) -> tuple[float, Any]:
        """Microseconds the server spent on this one call."""
        before, calls = self._spent()
        result = await call
        after, more = self._spent()
        assert more == calls + 1, "one call, one script that was known"
        return after - before, result

    def report(self, name: str, figure: str, limit: str = "") -> None:
        self.rows.append((name, figure, limit))
        print(f"  {name:<52} {figure:>16}   {limit}", flush=True)

    def advance(self, by_us: int) -> None:
        assert self.store.now_us is not None
        self.store.now_us += by_us

    async def open(self) -> None:
        self.store.now_us = START_US
        room = self.store.room
        await self.store.heal(Memory(), SettingsRecord(0, as_document(room.settings), {}))
        for script in SCRIPTS.values():
            self.admin.script_load(script.source)

    async def join(self, places: int) -> None:
        """Fill the line in batches, as the gateways do."""
        before_bytes = int(self.admin.info("memory")["used_memory"])
        before, _ = self._spent()
        started = time.monotonic()
        for start in range(0, places, BATCH):
            self.advance(100)
            await self.store.check_in([Contact(ident(i)) for i in range(start, min(places, start + BATCH))])
        used_us = self._spent()[0] - before
        record_bytes: Any = self.admin.memory_usage(f"waitroom:{{{self.store.room.id}}}:audit", samples=0) or 0
        used_bytes = int(self.admin.info("memory")["used_memory"]) - before_bytes - record_bytes
        self.report(f"join, batches of {BATCH}: Redis time each", f"{used_us / places:.2f} us", "<= 10 us")
        self.report("join: wall time, one client", f"{places / (time.monotonic() - started):,.0f}/s")
        self.report(
            f"bytes a waiting visitor at {places:,}", f"{used_bytes / places:.1f} B", "130 Redis 7.0, 85 Valkey 9"
        )
        self.report("the record beside them (docs/audit.md)", f"{record_bytes / 2**20:.1f} MiB", "[audit] stream")

    async def join_few(self, places: int, pid: int) -> None:
        """Small batches, where most of the cost is fixed; the process's own time counts sockets and parsing, too."""
        before, began_us, calls = self._spent()[0], busy_us(pid), 500
        for start in range(places, places + calls * FEW, FEW):
            self.advance(100)
            await self.store.check_in([Contact(ident(i)) for i in range(start, start + FEW)])
        script_us, process_us = self._spent()[0] - before, busy_us(pid) - began_us
        self.report(f"join, batches of {FEW}: script each", f"{script_us / calls / FEW:.2f} us")
        self.report(f"join, batches of {FEW}: process each", f"{process_us / calls / FEW:.2f} us", "<= 10 us")

    async def drain(self) -> None:
        """A second of ticks at 10,000 entries a second, over a long line."""
        worst, total, scripts, called, walked = 0.0, 0.0, 0, 0, 0
        for _ in range(10):
            self.advance(100_000)
            while True:
                spent_us, ticked = await self.measure(self.store.tick())
                if ticked.is_early:
                    break
                worst, total, scripts = max(worst, spent_us), total + spent_us, scripts + 1
                called, walked = called + ticked.called, walked + ticked.called + ticked.parked
                if ticked.due_us > 0:
                    break
        self.report(f"tick, {called / scripts:,.0f} calls a script: longest", f"{worst / 1000:.2f} ms", "<= 5 ms")
        self.report("tick: each place", f"{total / max(1, walked):.2f} us")

    async def upkeep(self) -> None:
        spent_us, _ = await self.measure(self.store.upkeep())
        self.report("upkeep, nothing to remove", f"{spent_us / 1000:.2f} ms", "<= 5 ms")
        self.advance(60_000_000)
        await self.store.upkeep()
        for _ in range(60):
            self.advance(1_000_000)
            spent_us, _ = await self.measure(self.store.upkeep())
        for _ in range(61):
            self.advance(999_999)
            once_us, _ = await self.measure(self.store.upkeep())
            spent_us = max(spent_us, once_us)
        self.report("upkeep when a slice of presence ends: longest", f"{spent_us / 1000:.2f} ms", "<= 5 ms")

    async def board(self) -> None:
        worst, beats = 0.0, []
        for _ in range(9):
            self.advance(250_000)
            spent_us, _ = await self.measure(self.store.census())
            beats.append(f"{spent_us / 1000:.2f}")
            worst = max(worst, spent_us)
        self.report("census (board and ranks): longest", f"{worst / 1000:.2f} ms", "<= 5 ms")
        self.report("census: beats in ms", " ".join(beats))
        spent_us, _ = await self.measure(self.store.read(0, 1, 0))
        self.report("read of board and ranks", f"{spent_us / 1000:.2f} ms", "<= 5 ms")

    async def door(self) -> None:
        """Claims of a batch, renewals, marks, look-ups and touches."""
        passed = (await self.store.read(0, 1, 0)).census.passed
        self.advance(500_000)
        tries = [ClaimTry(ident(i), i + 1, 1) for i in range(BATCH)]
        granted_us, standings = await self.measure(self.store.claim(tries))
        self.report(
            f"claim, batch of {BATCH}, all granted", f"{granted_us / BATCH:.2f} us", f"{len(standings)} answers"
        )
        numbers = list(range(passed + 1, passed + 501))
        for name, call, count in (
            ("mark", self.store.mark(numbers), 500),
            (
                "look-up above the cursor",
                self.store.check_in([Contact(ident(n - 1), n, 1) for n in numbers[:BATCH]]),
                BATCH,
            ),
            ("touch", self.store.touch([Touch(ident(i), 1, 1_800_000_000) for i in range(BATCH)]), BATCH),
            ("leave", self.store.leave([Contact(ident(n - 1), n, 1) for n in numbers[:BATCH]]), BATCH),
        ):
            await asyncio.sleep(0)
            spent_us, _ = await self.measure(call)
            self.report(f"{name}, each in batches of {count}", f"{spent_us / count:.2f} us")


async def bench(kind: str, places: int, *, is_recorded: bool = True) -> None:
    server = redis_server(kind)
    server.start()
    connection = await open_redis(server.url, "state")
    try:
        with redis.Redis.from_url(server.url) as admin:
            facts = admin.info("server")
            version = facts.get("valkey_version", facts["redis_version"])
            print(f"{kind} {version}, {places:,} places", flush=True)
            settings = RoomSettings(Rate(10_000, "s"), 10_000, 1_000_000)
            room = replace(make_room("bench"), settings=settings, waiting_max=10**7)
            room = room if is_recorded else replace(room, audit_bytes=0)
            run = Bench(RoomStore(connection, room), admin)
            await run.open()
            await run.join(places)
            assert server.process is not None
            await run.join_few(places, server.process.pid)
            await run.drain()
            await run.board()
            await run.door()
            await run.upkeep()
    finally:
        await connection.close()
        server.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=1_000_000)
    parser.add_argument("--kind", action="append", choices=["valkey", "redis"])
    parser.add_argument("--without-record", action="store_true", help='as with [audit] stream = "0B"')
    options = parser.parse_args()
    for kind in options.kind or ["valkey", "redis"]:
        asyncio.run(bench(kind, options.places, is_recorded=not options.without_record))


if __name__ == "__main__":
    main()
