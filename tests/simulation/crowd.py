"""A seeded crowd over several gateways and a virtual clock, on the real scripts: what promises 1, 3 and 6 are measured with.

A gateway here is what matters of one to the room: its own store, the board it last read, marks that travel once a second, and
the claims it holds (newcomers, the lowest, and those due for renewal at every pass). Time moves in steps of 50 ms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import redis

from gateway.model import ClaimTry, Code, Contact, Memory, Room, SettingsRecord
from gateway.queue.connect import Connection
from gateway.queue.store import RoomStore
from gateway.rules.board import Board, Ranks
from gateway.rules.pacing import as_document, in_force

STEP_US: Final = 50_000
START_US: Final = 1_800_000_000_000_000
HOLD_US: Final = (6_000_000, 10_000_000)  # spread by id: a cohort that came in one second does not leave in one
RENEW_US: Final = 700_000
LOWEST_MAX: Final = 150
# Shares of the crowd: who leaves silently, polls but never claims, sleeps for minutes, sits in a hidden tab; the rest attends.
SHARES: Final = {"leaver": 0.3, "no_show": 0.3, "sleeper": 0.1, "hidden": 0.2}


class DirectConnection(Connection):
    """The same scripts without an event loop between: a simulation makes hundreds of thousands of calls."""

    def __init__(self, url: str) -> None:
        self._direct = redis.Redis.from_url(url)
        super().__init__(client=None, url=url)  # type: ignore[arg-type]  # `run` below is all that a store needs

    async def run(self, sha: str, source: str, keys: Any, args: Any) -> Any:
        call: Callable[..., Any] = self._direct.execute_command
        try:
            return call("EVALSHA", sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return call("EVAL", source, len(keys), *keys, *args)

    def delete(self, pattern: str) -> None:
        keys = list(self._direct.scan_iter(match=pattern, count=10_000))
        if keys:
            self._direct.delete(*keys)

    def shut(self) -> None:
        self._direct.close()


@dataclass(slots=True)
class Visitor:
    id: bytes
    kind: str
    gateway: int
    leaves_us: int
    sleeps_us: tuple[int, int]
    number: int = 0


@dataclass(slots=True)
class Held:
    visitor: Visitor
    first_us: int  # when the door first heard of it
    until_us: int
    sent_us: int = 0


@dataclass(slots=True)
class Entry:
    at_us: int
    number: int
    waited_from_us: int  # when its claim came to the door


@dataclass(slots=True)
class Gateway:
    store: RoomStore
    board: Board | None = None
    marks: list[int] = field(default_factory=list)
    contacts: list[Visitor] = field(default_factory=list)
    held: dict[bytes, Held] = field(default_factory=dict)


class Crowd:
    """`size` visitors who come in a flash (four in five within 5 s, the rest over `seconds`) to one room."""

    def __init__(
        self, connection: Connection, room: Room, *, size: int, seconds: int, seed: int, gateways: int = 3
    ) -> None:
        self.random = Random(seed)
        self.room = room
        self.seconds = seconds
        self.gateways = [Gateway(RoomStore(connection, room)) for _ in range(gateways)]
        self.entries: list[Entry] = []
        self.now_us = START_US
        self._due: dict[int, list[Visitor]] = defaultdict(list)
        for i in range(size):
            self._add(i)

    def _add(self, i: int) -> None:
        arrives_us = int((self.random.uniform(0, 5) if i % 5 else self.random.uniform(0, self.seconds)) * 1e6)
        stays_us, sleep_us = (int(self.random.uniform(*span) * 1e6) for span in ((5, 300), (0, 120)))
        kind = self.random.choices([*SHARES, "attends"], [*SHARES.values(), 1 - sum(SHARES.values())])[0]
        until_us = sleep_us + int(self.random.uniform(120, 300) * 1e6)
        asleep = (arrives_us + sleep_us, arrives_us + until_us) if kind == "sleeper" else (0, 0)
        leaves_us = arrives_us + stays_us if kind == "leaver" else 10**15
        visitor = Visitor(i.to_bytes(16, "big"), kind, i % len(self.gateways), leaves_us, asleep)
        self._due[arrives_us // STEP_US].append(visitor)

    async def run(self) -> None:
        first = self.gateways[0].store
        first.now_us = START_US
        await first.heal(Memory(), SettingsRecord(0, as_document(self.room.settings), {}))
        for step in range(self.seconds * 1_000_000 // STEP_US):
            await self._step(step)

    async def _step(self, step: int) -> None:
        elapsed_us = step * STEP_US
        order = [(step + i) % len(self.gateways) for i in range(len(self.gateways))]
        for turn, i in enumerate(order):
            gateway = self.gateways[i]
            # One after the other within the step, as they are on one Redis.
            self.now_us = gateway.store.now_us = START_US + elapsed_us + turn * STEP_US // len(order)
            await self._drain(gateway)
            if (step + i) % 5 == 0:
                await self._read(gateway)
            if turn == 0:
                for visitor in self._due.pop(step, ()):
                    self._contact(visitor, elapsed_us, step)
            await self._check_in(gateway, step)
            await self._claims(gateway, step)
            if (step + i) % 20 == 0:
                for start in range(0, len(gateway.marks), 500):
                    await gateway.store.mark(gateway.marks[start : start + 500])
                gateway.marks.clear()

    @staticmethod
    async def _drain(gateway: Gateway) -> None:
        while True:
            ticked = await gateway.store.tick()
            if ticked.is_early:
                return
            while (await gateway.store.upkeep()).is_more:
                pass
            if ticked.due_us > 0:
                return

    async def _read(self, gateway: Gateway) -> None:
        await gateway.store.census()
        have = gateway.board
        reading = await gateway.store.read(have.ranks.version if have else 0, 1 if have else 0, 0)
        ranks = Ranks.parse(reading.ranks) if reading.ranks or not have else have.ranks
        settings = have.settings if have else self.room.settings
        if reading.settings is not None:
            settings = in_force(reading.settings.base, reading.settings.overrides)
        gateway.board = Board(reading.census, ranks, have.ranks if have else ranks, settings, 0.0)

    def _contact(self, visitor: Visitor, elapsed_us: int, step: int) -> None:
        if elapsed_us >= visitor.leaves_us:
            return
        if visitor.sleeps_us[0] <= elapsed_us < visitor.sleeps_us[1]:
            self._due[visitor.sleeps_us[1] // STEP_US + 1].append(visitor)
            return
        gateway = self.gateways[visitor.gateway]
        board = gateway.board
        if visitor.number and board is not None and board.knows(visitor.number, 1):
            gateway.marks.append(visitor.number)
            self._later(visitor, step, board.expected_s(board.position(visitor.number)) / 5)
        else:
            gateway.contacts.append(visitor)

    def _later(self, visitor: Visitor, step: int, seconds: float) -> None:
        wait_s = min(30.0, max(1.0, seconds)) * (1 + 0.3 * self.random.random())
        if visitor.kind == "hidden":
            wait_s = 60.0  # browsers run the timers of hidden tabs once a minute
        self._due[step + max(1, int(wait_s * 1e6) // STEP_US)].append(visitor)

    async def _check_in(self, gateway: Gateway, step: int) -> None:
        contacts, gateway.contacts = gateway.contacts, []
        for start in range(0, len(contacts), 250):
            batch = contacts[start : start + 250]
            asked = [Contact(visitor.id, visitor.number, 1 if visitor.number else 0) for visitor in batch]
            for visitor, standing in zip(batch, await gateway.store.check_in(asked), strict=True):
                visitor.number = standing.number or visitor.number
                if standing.code in (Code.NEW, Code.KNOWN):
                    board = gateway.board
                    self._later(visitor, step, board.expected_s(standing.detail + 1) / 5 if board else 1.0)
                elif standing.code is Code.CALLED and visitor.kind == "no_show":
                    self._later(visitor, step, 5.0)
                elif standing.code is Code.CALLED:
                    until_us = self.now_us + self.random.randint(*HOLD_US)
                    gateway.held.setdefault(visitor.id, Held(visitor, self.now_us, until_us))

    async def _claims(self, gateway: Gateway, step: int) -> None:
        gone = [one.visitor for one in gateway.held.values() if self.now_us >= one.until_us]
        for visitor in gone:
            del gateway.held[visitor.id]
            self._later(visitor, step, 1.0)
        if gone:
            await gateway.store.claim([ClaimTry(visitor.id, visitor.number, 1, is_withdrawn=True) for visitor in gone])
        by_number = sorted(gateway.held.values(), key=lambda one: one.visitor.number)
        chosen = [one for i, one in enumerate(by_number) if i < LOWEST_MAX or self.now_us - one.sent_us >= RENEW_US]
        for start in range(0, len(chosen), 250):
            batch = chosen[start : start + 250]
            tries = [ClaimTry(one.visitor.id, one.visitor.number, 1) for one in batch]
            for one, standing in zip(batch, await gateway.store.claim(tries), strict=True):
                one.sent_us = self.now_us
                if standing.code is not Code.HELD:
                    assert standing.code is Code.ADMITTED, standing
                    del gateway.held[one.visitor.id]
                    self.entries.append(Entry(self.now_us, one.visitor.number, one.first_us))

    # --- what came of it ------------------------------------------------------------------------------------------------

    def worst_excess(self, window_s: float, rate_per_s: float) -> float:
        """Most entries in any window above rate x window; promise 1 allows the burst."""
        times, first, worst = [entry.at_us for entry in self.entries], 0, 0
        for i, at_us in enumerate(times):
            while times[first] < at_us - window_s * 1e6:
                first += 1
            worst = max(worst, i - first + 1)
        return worst - rate_per_s * window_s

    def worst_share(self, window_s: float, rate_per_s: float, from_s: float = 10.0) -> float:
        """Fewest entries in any window from `from_s` on, one entry forgiven, as a share of rate x window."""
        times = sorted((entry.at_us - START_US) / 1e6 for entry in self.entries)
        starts = [from_s, *(at_s + 1e-6 for at_s in times if from_s <= at_s <= self.seconds - window_s)]
        fewest = min(bisect_left(times, start + window_s) - bisect_left(times, start) for start in starts)
        return (fewest + 1) / (rate_per_s * window_s)

    def overtaken(self) -> list[int]:
        """For each entry: how many with a higher number entered while its claim stood at the door."""
        times = [entry.at_us for entry in self.entries]
        counts = []
        for i, entry in enumerate(self.entries):
            since = bisect_left(times, entry.waited_from_us + 1)
            counts.append(sum(1 for other in self.entries[since:i] if other.number > entry.number))
        return sorted(counts)
