"""A crowd that waits in one room for minutes: polls, joins, claims, falls silent and comes back, and notes what it was told.

    python -m bench.holding --port PORT --redis URL --ids FILE --seconds S --polls N --joins N --out FILE

Whoever waits is a row of an array, not a task, so a million fit. Polls are drawn from all tickets, as many as one process can
send; for the rest of those who are present their marks alone are sent, in batches, as other gateways would. Claims come from
everybody whom the cursor has passed and who is there, after a poll's time. `bench/million.py` starts it and reads what it wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import redis
import uvloop

from bench.line import MARK_BATCH
from bench.stage import ROOM
from gateway import config as configuration
from gateway.model import Ticket
from gateway.queue.connect import open_redis
from gateway.queue.store import RoomStore
from gateway.rules.keys import load_key_file
from gateway.rules.tokens import Keyring

LEAVERS: Final = 0.3  # fall silent for good, some time
RETURNERS: Final = 0.1  # fall silent for a while
AWAY_S: Final = 180.0
SWEEP_S: Final = 45.0  # everybody who is there is heard from within a slice of 60 s
CONNECTIONS: Final = 3_500  # those who stand at the door hold one each: rate x 2 s and some
ASKERS: Final = 48
REACTION_S: Final = 1.3  # the slowest poll of one who is next
TOLD_EVERY: Final = 20  # of polls: how many are written down to be compared with what came
CHECK_EVERY_S: Final = 0.2  # positions compared with the sorted set
KEYS: Final = {name: f"waitroom:{{{ROOM}}}:{name}" for name in ("pace", "queue")}


class Line(asyncio.Protocol):
    """One kept connection: a request at a time, answered with its status and body."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the gateway closed the connection"))

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        body, self._buffer = self._buffer[end + 4 : end + 4 + length], b""
        assert self._answer is not None
        if not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))


class Crowd:
    """Everybody, by number: row `number` of each array."""

    def __init__(self, asked: argparse.Namespace, keyring: Keyring, store: RoomStore) -> None:
        self.asked = asked
        self._keyring = keyring
        self._store = store
        self._redis = redis.Redis.from_url(asked.redis)
        ids = asked.ids.read_bytes()
        rows = len(ids) // 16 + int(asked.joins * asked.seconds * 1.2) + 10_000
        self._ids = [ids[i : i + 16] for i in range(0, len(ids), 16)]
        self._last = len(self._ids)
        dice = np.random.default_rng(1)
        fate = dice.random(rows)
        self._leaves_at = np.where(fate < LEAVERS, dice.random(rows) * asked.seconds, np.inf)
        away = (fate >= LEAVERS) & (fate < LEAVERS + RETURNERS)
        self._away_from = np.where(away, dice.random(rows) * asked.seconds * 0.7, np.inf)
        self._dice = random.Random(2)
        self._began_s = time.monotonic()
        self._free: deque[Line] = deque()
        self._askers: list[Line] = []
        self._passed = 0
        self._joined: dict[int, bytes] = {}  # number -> ticket of those who joined here
        self._told: dict[int, tuple[float, float, float]] = {}  # number -> when, p50, p90
        self.counts: Counter[str] = Counter()
        self.poll_ms: list[float] = []
        self.ratios: list[tuple[float, float, float]] = []  # real wait, p50, p90
        self.positions: list[tuple[int, int]] = []  # the sorted set's rank, what was told
        self.board_age_s: list[float] = []

    def now_s(self) -> float:
        return time.monotonic() - self._began_s

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for count, lines in ((ASKERS, self._askers), (CONNECTIONS, self._free)):
            for _ in range(count):
                _, line = await loop.create_connection(Line, "127.0.0.1", self.asked.port)
                lines.append(line)
        self._began_s = time.monotonic()

    # --- who is there -------------------------------------------------------------------------------------------------

    def is_there(self, number: int, now_s: float) -> bool:
        away_s = now_s - self._away_from[number]
        return bool(now_s < self._leaves_at[number] and not 0 <= away_s < AWAY_S)

    def those_there(self, first: int, last: int, now_s: float) -> Any:
        away_s = now_s - self._away_from[first:last]
        there = (now_s < self._leaves_at[first:last]) & ~((away_s >= 0) & (away_s < AWAY_S))
        return np.nonzero(there)[0] + first

    def ticket(self, number: int) -> bytes:
        """Minted when it is asked with, as texts of a million would take half a gigabyte; joined ones are as they were given."""
        given = self._joined.get(number)
        if given is not None:
            return given
        now_s = int(time.time())
        ticket = Ticket(ROOM, self._ids[number - 1], number, 1, now_s - 60, now_s, now_s + 7200, 600)
        return self._keyring.mint_ticket(ticket).encode()

    # --- what they do -------------------------------------------------------------------------------------------------

    async def keep_present(self) -> None:
        """Marks of those whose polls are not sent: all who are there, spread evenly over each slice."""
        at = 0
        while True:
            began_s = time.monotonic()
            low = self._passed + 1
            span = max(1, self._last - low + 1)
            chunk = max(MARK_BATCH, int(span / SWEEP_S / 20))  # twenty times a second
            at = at if low <= at <= self._last else low
            there = self.those_there(at, min(at + chunk, self._last + 1), self.now_s())
            for start in range(0, len(there), MARK_BATCH):
                await self._store.mark(map(int, there[start : start + MARK_BATCH]))
                self.counts["marks"] += 1
            at += chunk
            await asyncio.sleep(max(0.0, 0.05 - (time.monotonic() - began_s)))

    async def poll(self, line: Line, each_s: float) -> None:
        due_s = time.monotonic() + self._dice.random() * each_s
        while True:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            due_s = max(due_s + each_s, time.monotonic() - 1.0)
            number, now_s = self._dice.randint(self._passed + 1, self._last), self.now_s()
            if not self.is_there(number, now_s):
                continue
            asked_s = time.monotonic()
            status, body = await line.ask(request("GET", "status", self.ticket(number)))
            self.poll_ms.append((time.monotonic() - asked_s) * 1e3)
            self.counts[f"poll {status}"] += 1
            if status == 200 and len(self.poll_ms) % TOLD_EVERY == 0:
                self._note(number, json.loads(body))

    def _note(self, number: int, told: dict[str, Any]) -> None:
        if told["state"] == "waiting" and told["eta"] and number not in self._told:
            self._told[number] = (self.now_s(), told["eta"]["p50_s"], told["eta"]["p90_s"])

    async def join(self) -> None:
        """So many a second, each as soon as it is due and a connection is free."""
        each_s = 1 / self.asked.joins
        due_s = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        while True:
            due_s += each_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if self._free:
                task = asyncio.create_task(self._join_one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            else:
                self.counts["joins without a connection"] += 1

    async def _join_one(self) -> None:
        body = b'{"key": "%032x"}' % self._dice.getrandbits(128)
        status, answer = await self._asked(request("POST", "ticket", b"", body))
        self.counts[f"join {status}"] += 1
        if status == 201:
            told = json.loads(answer)
            self._joined[told["number"]] = told["ticket"].encode()
            self._last = max(self._last, told["number"])

    async def _asked(self, what: bytes) -> tuple[int, bytes]:
        line = self._free.popleft()
        try:
            return await line.ask(what)
        finally:
            self._free.append(line)

    async def claim(self) -> None:
        """Everybody passed who is there claims, a poll's time later; who was away claims when back."""
        tasks: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(0.1)
            passed = int(cast(bytes, self._redis.hget(KEYS["pace"], "passed")) or 0)
            for number in range(self._passed + 1, passed + 1):
                now_s = self.now_s()
                back_s = self._away_from[number] + AWAY_S
                wait_s = self._dice.random() * REACTION_S
                if not self.is_there(number, now_s):
                    if not (self._away_from[number] <= now_s < back_s):
                        continue  # gone for good
                    wait_s += back_s - now_s
                    self.counts["came back"] += 1
                task = asyncio.create_task(self._claim_one(number, wait_s))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            self._passed = max(self._passed, passed)

    async def _claim_one(self, number: int, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        while True:
            if not self._free:
                self.counts["claims without a connection"] += 1
                await asyncio.sleep(0.5)
                continue
            status, _ = await self._asked(request("POST", "admission", self.ticket(number)))
            self.counts[f"claim {status}"] += 1
            if status != 202:
                break
            await asyncio.sleep(1)
        told = self._told.pop(number, None)
        if status == 200 and told is not None and self._away_from[number] == np.inf:
            self.ratios.append((self.now_s() - told[0], told[1], told[2]))

    async def check(self) -> None:
        """Positions against the sorted set's own rank, before and after; the board's age against Redis' clock."""
        line = self._askers.pop()
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            span = self._last - self._passed
            number = self._passed + 1 + int(span ** self._dice.random())  # as many near the front as far off
            if not self.is_there(number, self.now_s()):
                continue
            before = self._rank(number)
            status, body = await line.ask(request("GET", "status", self.ticket(number)))
            after = self._rank(number)
            told = json.loads(body)
            if status == 200 and told["state"] == "waiting" and after > 0:
                self.positions.append(((before + after) // 2, told["position"]))
            _, body = await line.ask(request("GET", "board", b""))
            whole, micro = cast(Any, self._redis.time())
            as_of = np.datetime64(json.loads(body)["as_of"].rstrip("Z")).astype("datetime64[us]").astype(int)
            self.board_age_s.append(whole + micro / 1e6 - as_of / 1e6)

    def _rank(self, number: int) -> int:
        passed = int(cast(bytes, self._redis.hget(KEYS["pace"], "passed")) or 0)
        return int(self._redis.zcount(KEYS["queue"], f"({passed}", number))


def request(method: str, what: str, ticket: bytes, body: bytes = b"") -> bytes:
    told = b"Waitroom-Ticket: %b\r\n" % ticket if ticket else b""
    kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body) if method == "POST" else b""
    head = f"{method} /_waitroom/{ROOM}/{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nWaitroom-Transport: header\r\n".encode()
    return head + told + kind + b"\r\n" + body


async def run(asked: argparse.Namespace) -> None:
    config = configuration.load(str(asked.config), {}, dev=True, read_key=load_key_file)
    connection = await open_redis(asked.redis, ".")
    store = RoomStore(connection, config.rooms[0])
    crowd = Crowd(
        asked, Keyring(load_key_file(Path(config.tokens.signing_key_file)), issuer=config.tokens.issuer), store
    )
    await crowd.open()
    doings: list[Callable[[], Awaitable[None]]] = [crowd.keep_present, crowd.join, crowd.claim, crowd.check]
    each_s = (ASKERS - 1) / asked.polls
    tasks = [asyncio.ensure_future(doing()) for doing in doings]
    await asyncio.sleep(0)  # `check` takes its line first
    tasks += [asyncio.ensure_future(crowd.poll(line, each_s)) for line in crowd._askers]
    done, _ = await asyncio.wait(tasks, timeout=asked.seconds, return_when=asyncio.FIRST_EXCEPTION)
    faults = [repr(task.exception()) for task in done if task.exception()]
    for task in tasks:
        task.cancel()
    told = {name: getattr(crowd, name) for name in ("counts", "poll_ms", "ratios", "positions", "board_age_s")}
    asked.out.write_text(json.dumps({**told, "faults": faults}))
    await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("port", int), ("seconds", float), ("polls", float), ("joins", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    for name in ("config", "ids", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--redis", required=True)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
