"""A crowd over real connections that does what the waiting page does, and remembers whatever a promise could break on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final, Protocol

from gateway.demo.figures import DoorPass
from gateway.tasks import Owner
from tests.serving import Line, Reply

CALLS: Final = "/_waitroom/cashout/"
PAGE: Final = "/points/cashout/"
KEPT_OPEN_S: Final = 2.0  # who asks again later than this closes the connection meanwhile
HIDDEN_S: Final = 60.0  # browsers run the timers of hidden tabs once a minute
RETRY_S: Final = 0.5
POLL_DEFAULT_S: Final = 2.0
OLD_S: Final = 0.6  # boards are read every 0.25 s


class Channel(Protocol):
    """What a visitor needs of a connection, be it its own or shared."""

    async def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: str = "") -> Reply: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What one visitor will do. `kind`: attends, leaver, no_show, sleeper, hidden."""

    name: str
    key: str
    arrives_s: float = 0.0
    kind: str = "attends"
    leaves_s: float = float("inf")  # after arriving
    sleeps_s: tuple[float, float] = (float("inf"), float("inf"))
    room: str = "cashout"


@dataclass(slots=True)
class Journey:
    plan: Plan
    numbers: list[int] = field(default_factory=list)
    passed_door: DoorPass | None = None
    ticket: str = ""
    admission: str = ""
    is_inside: bool = False
    is_provisional: bool = False  # was told so once: it came while Redis was away


class Crowd:
    """The visitors of a run. `failures` are answers of 5xx and cut connections, by call; `answers` are all that came.

    Each has a connection of its own to `port`, or what `open_channel` gives it.
    """

    def __init__(self, port: int, plans: Iterable[Plan], open_channel: Callable[[], Channel] | None = None) -> None:
        self.open_channel: Callable[[], Channel] = open_channel or (lambda: Line(port))
        self.answers: Counter[str] = Counter()
        self.journeys = [Journey(plan) for plan in plans]
        self.failures: Counter[str] = Counter()
        self.grown: list[str] = []  # positions that grew without a cause
        self.lag_max_s = 0.0
        self._owner = Owner()
        self._visits: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._owner.start(self._measure_lag(), "lag")
        for journey in self.journeys:
            visitor = Visitor(self, journey)
            self._visits.append(self._owner.start(visitor.visit(), "visitor"))

    @property
    def has_started(self) -> bool:
        return bool(self._visits)

    def inside(self) -> int:
        return sum(journey.is_inside for journey in self.journeys)

    def in_line(self) -> int:
        return sum(bool(journey.numbers) and not journey.is_inside for journey in self.journeys)

    async def until_all_have_ended(self, deadline_s: float) -> None:
        """Everybody who wants in is in. A visitor that failed in a way it should not raises here."""
        wanted = [visit for visit, one in zip(self._visits, self.journeys, strict=True) if one.plan.kind != "no_show"]
        async with asyncio.timeout(deadline_s):
            await asyncio.gather(*wanted)

    async def close(self) -> None:
        await self._owner.close()

    async def _measure_lag(self) -> None:
        """How late this process comes to its turn: what happened that late is no fault of the gateway."""
        clock = asyncio.get_running_loop().time
        while True:
            due_s = clock() + 0.05
            await asyncio.sleep(0.05)
            self.lag_max_s = max(self.lag_max_s, clock() - due_s)


class Visitor:
    """One of them, on one connection at a time."""

    def __init__(self, crowd: Crowd, journey: Journey) -> None:
        self._crowd = crowd
        self._journey = journey
        self._plan = journey.plan
        self._line = crowd.open_channel()
        self._calls = f"/_waitroom/{self._plan.room}/"
        self._page = f"/points/{self._plan.room}/"
        self._ticket = ""
        self._position: int | None = None
        self._told: dict[str, Any] = {}  # with it
        self._clock = asyncio.get_running_loop().time

    async def visit(self) -> None:
        await asyncio.sleep(self._plan.arrives_s)
        self._arrived_s = self._clock()
        try:
            async with asyncio.timeout(self._plan.leaves_s if self._plan.leaves_s < 1e9 else None):
                admission = await self._wait_in_line()
                if admission:
                    await self._enter(admission)
        except TimeoutError:
            if self._plan.kind != "leaver":
                raise
        finally:
            self._line.close()

    async def _wait_in_line(self) -> str:
        """The admission; '' when the room says that it is over."""
        join = json.dumps({"key": self._plan.key})
        reply = await self._ask("POST", "ticket", join)
        while True:
            if reply.status == 404:  # the ticket is not known any more; the key finds the place again
                reply = await self._ask("POST", "ticket", join)
            told = reply.json
            self._note(told)
            if told["state"] == "admitted" and "admission" in told:
                return str(told["admission"])
            if told["state"] in {"called", "admitted"} and self._plan.kind != "no_show":
                reply = await self._claim()
            elif told["state"] in {"waiting", "called", "parked"}:
                poll_ms = told.get("poll_after_ms")
                await self._pause(POLL_DEFAULT_S if poll_ms is None else poll_ms / 1e3)
                reply = await self._ask("GET", "status")
            else:
                return ""

    async def _claim(self) -> Reply:
        began_s = self._clock()
        reply = await self._ask("POST", "admission")
        if reply.status == 200 and self._journey.numbers:
            self._journey.passed_door = DoorPass(self._journey.numbers[-1], began_s, self._clock())
        elif reply.status == 202:
            await self._pause(reply.retry_after_s)
        return reply

    async def _enter(self, admission: str) -> None:
        """Ask for the page until the bank answers: one who is inside is inside."""
        fields = {"Waitroom-Admission": admission, "Cookie": f"bank_account={self._plan.name}"}
        while (await self._exchange("GET", self._page, fields, "")).status != 200:
            await self._pause(RETRY_S)
        self._journey.admission, self._journey.is_inside = admission, True

    async def _ask(self, method: str, call: str, body: str = "") -> Reply:
        fields = {"Content-Type": "application/json"}
        if self._ticket:
            fields["Waitroom-Ticket"] = self._ticket
        while (reply := await self._exchange(method, self._calls + call, fields, body)).status >= 500:
            await self._pause(RETRY_S)
        return reply

    async def _exchange(self, method: str, target: str, fields: dict[str, str], body: str) -> Reply:
        """Try until there is an answer; every failure counts."""
        what = f"{method} {target.rpartition('/')[2] or 'page'}"
        while True:
            try:
                reply = await self._line.ask(method, target, {"Waitroom-Transport": "header"} | fields, body)
            except (OSError, EOFError) as fault:
                self._crowd.failures[f"{what} {type(fault).__name__}"] += 1
                await asyncio.sleep(RETRY_S)
                continue
            self._crowd.answers[f"{what} {reply.status}"] += 1
            if reply.status >= 500:
                self._crowd.failures[f"{what} {reply.status}"] += 1
            return reply

    async def _pause(self, seconds: float) -> None:
        plan = self._plan
        wait_s = max(seconds, HIDDEN_S) if plan.kind == "hidden" else seconds
        if wait_s > KEPT_OPEN_S:
            self._line.close()
        await asyncio.sleep(wait_s)
        began_s, ends_s = plan.sleeps_s
        if began_s <= self._clock() - self._arrived_s < ends_s:
            self._line.close()
            await asyncio.sleep(self._arrived_s + ends_s - self._clock())

    def _note(self, told: dict[str, Any]) -> None:
        journey, number, position = self._journey, told.get("number"), told.get("position")
        self._ticket = journey.ticket = told.get("ticket") or self._ticket
        journey.is_provisional |= bool(told.get("provisional"))
        if number and (not journey.numbers or journey.numbers[-1] != number):
            journey.numbers.append(number)
        # While Redis is away each gateway tells of the moment it last read the board, and says how old that is.
        if position is not None and not is_old(told):
            if self._position is not None and position > self._position and not told.get("cause"):
                self._crowd.grown.append(
                    f"{self._plan.name}: {self._position} -> {position}; {self._told}, then {told}"
                )
            self._position, self._told = position, told


def is_old(told: dict[str, Any]) -> bool:
    age = datetime.fromisoformat(told["now"]) - datetime.fromisoformat(told["as_of"])
    return bool(told.get("stale")) or age.total_seconds() > OLD_S


SHARES: Final = {"leaver": 0.3, "no_show": 0.3, "sleeper": 0.1, "hidden": 0.2}


def mixed(size: int, seed: int, *, within_s: float, stays_s: tuple[float, float]) -> Sequence[Plan]:
    """Promise 6's crowd: 30 % leave silently, 30 % never claim, 10 % sleep for minutes, 20 % are hidden tabs."""
    random = Random(seed)
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(size * share))]
    kinds += ["attends"] * (size - len(kinds))
    random.shuffle(kinds)
    plans = []
    for index, kind in enumerate(kinds):
        leaves_s, sleep_s, nap_s = random.uniform(*stays_s), random.uniform(0, 60), random.uniform(120, 300)
        plans.append(
            Plan(
                name=f"v{index:06}",
                key=f"{random.getrandbits(128):032x}",
                arrives_s=random.uniform(0, within_s),
                kind=kind,
                leaves_s=leaves_s if kind == "leaver" else float("inf"),
                sleeps_s=(sleep_s, sleep_s + nap_s) if kind == "sleeper" else (float("inf"), float("inf")),
            )
        )
    return plans


def patient(size: int, seed: int, *, within_s: float, prefix: str = "v", room: str = "cashout") -> Sequence[Plan]:
    """People who come and stay until they are in."""
    random = Random(f"{seed} {prefix}")
    return [
        Plan(f"{prefix}{index:06}", f"{random.getrandbits(128):032x}", random.uniform(0, within_s), room=room)
        for index in range(size)
    ]
