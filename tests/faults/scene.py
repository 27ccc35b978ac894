"""What the long tests run on, each a process of its own: Valkey, the demo bank, gateways behind a balancer; and their seeds."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import secrets
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import redis

from gateway.demo.entrylog import Entry, read_entries
from gateway.demo.figures import overtaken_at_door, promise_one_excess
from gateway.rules.audit import Verdict
from tests.conftest import RedisServer, free_port, redis_server
from tests.faults.people import Crowd
from tests.faults.records import record_of
from tests.serving import DEADLINE_S, ROOM, Balancer, Process, running

FILES_WANTED: Final = 20_000
SESSION_S: Final = 1800  # nobody's lease slides or ends within a run, so each tells when its admission was granted
# A replay sets it: WAITROOM_SEED=17 make faults ARGS="-k walks"
SEED: Final = int(os.environ.get("WAITROOM_SEED") or random.randrange(2**31))


@contextmanager
def replayed(seed: int) -> Iterator[int]:
    """Whatever fails inside says how to see it again."""
    print(f"seed {seed}")  # noqa: T201  shown with a failure, and with -s
    try:
        yield seed
    except BaseException as fault:
        fault.add_note(f"replay it with WAITROOM_SEED={seed}")
        raise


@dataclass(frozen=True, slots=True)
class Scene:
    """Three gateways on one Redis before one bank. Times of entries are the bank's own."""

    redis: RedisServer
    bank_folder: Path
    gateways: list[Process]
    balancer: Balancer
    rate_s: float
    burst: int

    def entries(self) -> list[Entry]:
        return read_entries(self.bank_folder / "entries.jsonl")

    def granted_s(self) -> dict[str, float]:
        """Subject -> when its admission was granted, on the room's own clock: by the leases that are in Redis."""
        with redis.Redis(unix_socket_path=str(self.redis.socket)) as client:
            leases = client.zrange("waitroom:{cashout}:active", 0, -1, withscores=True)
        return {str(UUID(bytes=one)): float(end_us) / 1e6 - SESSION_S for one, end_us in leases}

    def assert_rate(self) -> None:
        """Promise 1 over every window of four lengths: exact by the door's leases, and by the bank's log.

        The bank's is as far from the door's as people's way between them: a machine that is busy, an answer that was lost and
        asked for again. That is what entries can have bunched up by.
        """
        granted, entries = self.granted_s(), self.entries()
        door = promise_one_excess(granted.values(), self.rate_s, self.burst)
        assert all(value <= 0 for value in door.values()), door
        allowed = self.rate_s * self.bunching_s()
        bank = promise_one_excess([entry.monotonic_s for entry in entries], self.rate_s, self.burst)
        assert all(value <= allowed for value in bank.values()), (bank, allowed)

    def bunching_s(self) -> float:
        """How much longer the longest way from the door to the bank was than the shortest."""
        granted = self.granted_s()
        ways_s = [one.monotonic_s - granted[one.subject] for one in self.entries() if one.subject in granted]
        return max(ways_s) - min(ways_s)

    def assert_record(self, *, is_whole: bool) -> None:
        """Promises 1 to 4 by what was written down; `is_whole`: this Redis lost nothing, so nothing is missing."""
        with redis.Redis(unix_socket_path=str(self.redis.socket)) as client:
            record = record_of(client, "cashout", [gateway.record for gateway in self.gateways])
        print(f"the record: {record.said()}")  # noqa: T201  shown with a failure
        assert [str(one) for one in record.judged.violations] == []
        assert record.judged.conflicts == []
        assert record.unknown(entry.subject for entry in self.entries()) == []
        assert record.judged.verdict is Verdict.KEPT or not is_whole

    def assert_one_entry_each(self, crowd: Crowd) -> None:
        """Promise 4: nobody has two places or two entries, whatever was lost and asked again; promise 9: all were vouched for."""
        entries = self.entries()
        assert all(entry.subject for entry in entries), "somebody reached the bank without an admission"
        per_person = Counter(entry.account for entry in entries)
        assert [name for name, count in per_person.items() if count > 1] == []
        given = [number for journey in crowd.journeys for number in set(journey.numbers)]
        assert len(given) == len(set(given)), "two people were given one number"

    @staticmethod
    def assert_order(crowd: Crowd) -> None:
        """Promise 3: of the claims at the door the lowest number enters first.

        A gateway that dies, or stalls for half a second on a machine that is busy, stands aside: one in twenty may be overtaken
        for that. Gateways that sorted their own claims only would let half of them be.
        """
        passes = [journey.passed_door for journey in crowd.journeys if journey.passed_door is not None]
        overtaken = overtaken_at_door(passes, 0.25 + crowd.lag_max_s)
        assert overtaken <= len(passes) / 20, f"{overtaken} of {len(passes)} were overtaken at the door"


@asynccontextmanager
async def open_scene(folder: Path, *, rate_s: int, burst: int, gateways: int = 3, **room: Any) -> AsyncIterator[Scene]:
    raise_file_limit()
    server = redis_server("valkey")
    server.start()
    key = folder / "bank.hmac"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    upstream = {"signing_key_file": str(key), "max_in_flight": 500}
    table = (
        ROOM | {"session": f"{SESSION_S}s", "drain_rate": f"{rate_s}/s", "burst": burst, "active_max": 100_000} | room
    )
    try:
        async with open_bank(folder, key) as bank_url:
            made = [
                Process(folder, server.url, bank_url, rooms=[table], upstream=upstream, is_recorded=True)
                for _ in range(gateways)
            ]
            async with running(*made), Balancer(*made) as balancer:
                yield Scene(server, folder / "bank", made, balancer, rate_s, burst)
    finally:
        server.remove()


@asynccontextmanager
async def open_bank(folder: Path, key: Path) -> AsyncIterator[str]:
    """The demo bank: it keeps the log of who came in, with its own clock."""
    port, books = free_port(), folder / "bank"
    books.mkdir()
    command = ["-m", "gateway.demo.bank", "--port", str(port), "--folder", str(books), "--signing-key-file", str(key)]
    with (folder / "bank.log").open("wb") as log:
        bank = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as http:
            end = time.monotonic() + DEADLINE_S
            while not await _answers(http, f"http://127.0.0.1:{port}/stats"):
                assert time.monotonic() < end, (folder / "bank.log").read_text()
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        bank.kill()
        await bank.wait()


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def worst_share(
    times_s: Iterable[float], rate_s: float, began_s: float, ended_s: float, window_s: float = 60.0
) -> float:
    """Promise 6: fewest entries in any window of that length, one entry forgiven, as a share of rate x window."""
    times = sorted(times_s)
    starts = [began_s, *(at_s + 1e-6 for at_s in times if began_s <= at_s <= ended_s - window_s)]
    fewest = min(bisect_left(times, start + window_s) - bisect_left(times, start) for start in starts)
    return (fewest + 1) / (rate_s * window_s)


def raise_file_limit() -> None:
    """Thousands of people are thousands of connections, twice at the balancer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_WANTED:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_WANTED, hard), hard))
