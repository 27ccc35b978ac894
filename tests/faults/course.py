"""One row of the loss matrix: 10,000 wait, hundreds are in, a room is paused; then something breaks; then all is counted.

The rate and the cap in force are overrides of operators, far below what the file says: a loss that forgot them would show. The
door is let run up to the cap, so that one entry too many would show, and nobody's lease ends meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import redis

from gateway.demo.figures import WINDOWS_S, overtaken_at_door, promise_one_excess
from gateway.drain import BOARD_S
from gateway.tasks import Owner
from tests.faults.estate import GRACE_S, MAIN, SHUT, Estate, LeaseWatch, Reader, key
from tests.faults.ledger import Ledger
from tests.faults.people import Crowd, Journey, patient
from tests.faults.records import Record, check_record, record_of
from tests.web.gatewayfixture import NAVIGATION, until

PEOPLE: Final = 10_000
SHUT_PEOPLE: Final = 60
LATE_PEOPLE: Final = 100
RATE_S, BURST = 100, 30
AFTER: Final = 600  # more are let in after it broke, if a course does not say more: then the cap is reached
MANY: Final = 50_000
BEFORE: Final = 300  # are in, at least, when it breaks
JOIN_S: Final = 6.0
INSIDERS: Final = 6
NOTICED_S: Final = 0.9  # a request that asked Redis in vain would take a second
ABOVE_CAP_S: Final = 2.0
BUSY_S: Final = 180.0  # how long a busy machine may take for what takes seconds
HOLD_S: Final = 125.0  # a presence window
REPLAYS: Final = 100
FIELDS: Final = {"Waitroom-Transport": "header"}
CUTS: Final = {"IncompleteReadError", "ConnectionResetError", "BrokenPipeError", "ConnectionRefusedError"}
DOOR_SHARE: Final = 0.05  # of claims that a gateway which stands aside for half a second may let be overtaken


def identity(journey: Journey) -> bytes:
    return hashlib.sha256(f"{journey.plan.room}\0{journey.plan.key}".encode()).digest()[:16]


def claims_of(token: str) -> dict[str, Any]:
    """What a token of ours says, unverified."""
    body = token.split(".")[1]
    document: dict[str, Any] = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return document


@dataclass(slots=True)
class Course:
    """A scenario under way."""

    estate: Estate
    ledger: Ledger
    crowd: Crowd
    late: Crowd
    watch: LeaseWatch
    owner: Owner
    cap: int = MANY
    aside: int = (
        0  # claims that stood at a gateway which nobody tried them from: overtaken by design, and told by the record
    )
    insiders: list[Reader] = field(default_factory=list)
    strangers: list[Reader] = field(default_factory=list)
    passers_by: list[Reader] = field(default_factory=list)
    not_counted: int = 0  # the last entries, which nobody is left to know of
    is_record_whole: bool = True  # False: a server dies, and with it what it has told nobody
    cuts_allowed: bool = False  # a gateway dies: its requests in flight may be cut

    @property
    def journeys(self) -> list[Journey]:
        return [*self.crowd.journeys, *self.late.journeys]

    def in_room(self, room: str) -> list[Journey]:
        return [journey for journey in self.journeys if journey.plan.room == room]

    def come_late(self) -> None:
        """A hundred newcomers, who must stand behind everybody."""
        self.late.start()

    async def until_capped(self) -> None:
        await until(lambda: len(self.estate.entries()) >= self.cap, HOLD_S + self.cap / RATE_S + BUSY_S)
        await until(lambda: all(one.numbers for one in self.late.journeys) or not self.late.has_started, BUSY_S)
        await asyncio.sleep(ABOVE_CAP_S)


@asynccontextmanager
async def half_drained(estate: Estate, ledger: Ledger, seed: int, after: int = AFTER) -> AsyncIterator[Course]:
    """The line as it is when it breaks; what the test does; then the count."""
    await estate.patch(MAIN, drain_rate=f"{RATE_S}/s", burst=BURST, active_max=MANY)
    await estate.patch(SHUT, paused=True, drain_rate="7/s")
    plans = [
        *patient(PEOPLE, seed, within_s=JOIN_S),
        *patient(SHUT_PEOPLE, seed, within_s=1, prefix="shut", room=SHUT),
    ]
    crowd = Crowd(0, plans, lambda: estate.connections)
    late = Crowd(0, patient(LATE_PEOPLE, seed, within_s=3, prefix="late"), lambda: estate.connections)
    course = Course(estate, ledger, crowd, late, LeaseWatch(estate.admin), Owner())
    try:
        course.owner.start(course.watch.run(), "leases")
        crowd.start()
        await until(lambda: all(journey.numbers for journey in crowd.journeys), BUSY_S)
        await until(lambda: crowd.inside() >= BEFORE, BUSY_S)
        await until_known(estate, max(one.numbers[0] for one in crowd.journeys))
        course.cap = await asyncio.to_thread(active_of, estate) + after  # the bank may not know of the last ones yet
        await estate.patch(MAIN, active_max=course.cap)
        watch_people(course)
        yield course
        await course.until_capped()
    finally:
        await crowd.close()
        await late.close()
        await course.owner.close()
    await reckon(course)


async def until_known(estate: Estate, number: int) -> None:
    """A hold lasts until as many are seated as the last board counted: it has to have counted everybody."""
    await estate.until_board(lambda board: bool(board["next_number"] > number))
    await asyncio.sleep(2 * BOARD_S)  # the other gateways, too


def watch_people(course: Course) -> None:
    """From now on some inside read on, some outside look at the page, and some ask the same bank for what no room protects."""
    inside = [journey for journey in course.crowd.journeys if journey.is_inside][:INSIDERS]
    connections, page = course.estate.own_connections, f"/points/{MAIN}/"
    for journey in inside:
        course.insiders.append(Reader(connections, page, FIELDS | {"Waitroom-Admission": journey.admission}, 200))
    course.passers_by = [Reader(connections, page, dict(NAVIGATION), 429) for _ in range(2)]
    course.strangers = [Reader(connections, "/balance", {}, 200) for _ in inside]
    for reader in (*course.insiders, *course.passers_by, *course.strangers):
        course.owner.start(reader.run(), "reader")


# --- the count -------------------------------------------------------------------------------------------------------


async def reckon(course: Course) -> None:
    ledger, board = course.ledger, await course.estate.board(MAIN)
    shown = {name: board[name] for name in ("passed", "waiting", "called", "active")}
    print(f"at the end {shown}, the crowd at most {course.crowd.lag_max_s:.2f} s late")  # noqa: T201  shown with a failure
    people = Counter(entry.subject for entry in course.estate.entries())
    entered = {identity(one) for one in course.journeys} & {UUID(subject).bytes for subject in people if subject}
    door_is_never_too_wide(course, ledger)
    active_is_never_above_the_cap(course, ledger, len(people))
    numbers_are_kept(course, ledger)
    await places_are_kept(course, ledger, entered)
    await order_is_kept(course, ledger, entered)
    await spent_stays_spent(course, ledger)
    await settings_are_kept(course, ledger)
    nobody_notices(course, ledger)
    ledger.check(9, "entries that nobody vouched for", len(people), ["unsigned"] * ("" in people))
    await record_is_kept(course, ledger, [subject for subject in people if subject])
    said = [gateway.log.read_text() for gateway in course.estate.gateways]
    ledger.check(11, "gateways without a fault of their own", len(said), [text for text in said if "Traceback" in text])
    ledger.settle()


async def record_is_kept(course: Course, ledger: Ledger, subjects: Sequence[str]) -> None:
    """What was written down meanwhile, by the checker that operators have."""
    files = [gateway.record for gateway in course.estate.gateways]

    def read() -> list[Record]:
        client = course.estate.admin()
        try:
            return [record_of(client, room, files) for room in (MAIN, SHUT)]
        finally:
            client.close()

    main, shut = await asyncio.to_thread(read)
    print(f"the record: {main.said()}; of the paused room: {shut.said()}")  # noqa: T201  shown with a failure
    check_record(ledger, main, subjects, is_whole=course.is_record_whole, others=[shut])


def door_is_never_too_wide(course: Course, ledger: Ledger) -> None:
    """By the leases, on the room's own clock, which never runs faster than any other."""
    granted = course.watch.granted_s.values()
    excess = promise_one_excess(granted, RATE_S, BURST)
    assert len(excess) == len(WINDOWS_S)
    ledger.check(1, "entries over the rate, in any window", len(granted), [e for e in excess.items() if e[1] > 0])


def active_is_never_above_the_cap(course: Course, ledger: Ledger, entered: int) -> None:
    """Nobody's lease ends in a course: all who ever entered are active."""
    ledger.check(2, "entries above the cap", entered, range(max(0, entered - course.cap - course.not_counted)))
    shut = [one.plan.name for one in course.in_room(SHUT) if one.is_inside]
    ledger.check(1, "entries into a paused room", len(course.in_room(SHUT)), shut)


def numbers_are_kept(course: Course, ledger: Ledger) -> None:
    for room in (MAIN, SHUT):
        told = [(number, one.plan.name) for one in course.in_room(room) for number in set(one.numbers)]
        twins = [number for number, count in Counter(number for number, _ in told).items() if count > 1]
        changed = [f"{one.plan.name} {one.numbers}" for one in course.in_room(room) if len(set(one.numbers)) > 1]
        ledger.check(4, f"numbers given twice, {room}", len(told), twins)
        ledger.check(4, f"numbers that changed, {room}", len(course.in_room(room)), changed)
    last = max(one.numbers[0] for one in course.crowd.journeys if one.plan.room == MAIN)
    late = [one for one in course.late.journeys if one.numbers]
    if course.late.has_started:
        ledger.check(3, "latecomers ahead", len(late), [one.plan.name for one in late if one.numbers[0] <= last])


async def places_are_kept(course: Course, ledger: Ledger, entered: set[bytes]) -> None:
    """Everybody who is not in asks once more and must be told the number they had; who was just let in joins `entered`."""
    waiting = [one for one in course.journeys if one.numbers and identity(one) not in entered]
    lost: list[str] = []
    gate = asyncio.Semaphore(64)

    async def ask(journey: Journey) -> None:
        async with gate:
            fields = FIELDS | {"Waitroom-Ticket": journey.ticket}
            reply = await course.estate.connections.ask("GET", f"/_waitroom/{journey.plan.room}/status", fields)
        told = reply.json
        is_kept = told.get("number") == journey.numbers[0] and told["state"] in {"waiting", "called", "parked"}
        if told.get("state") == "admitted":
            entered.add(identity(journey))
        elif reply.status != 200 or not is_kept:
            lost.append(f"{journey.plan.name} {journey.numbers} {reply.status} {reply.body[:120]!r}")

    await asyncio.gather(*(ask(journey) for journey in waiting))
    ledger.check(5, "places lost", len(waiting), lost)


async def order_is_kept(course: Course, ledger: Ledger, entered: set[bytes]) -> None:
    """The queue itself, and who overtook whom at the door."""
    for room in (MAIN, SHUT):
        expected = {identity(one): one.numbers[0] for one in course.in_room(room) if one.numbers}
        queue = await asyncio.to_thread(places_of, course.estate, room)
        by_place = [expected[one] for one in queue if one in expected]
        wrong = [number for number, place in zip(by_place, sorted(by_place), strict=True) if number != place]
        ledger.check(3, f"places out of order, {room}", len(by_place), wrong)
        present = set(queue)
        away = [number for one, number in expected.items() if one not in present and one not in entered]
        ledger.check(5, f"heard from and not in the queue, {room}", len(by_place), away)
    passes = [one.passed_door for one in course.journeys if one.passed_door is not None]
    overtaken = overtaken_at_door(passes, 0.25 + course.crowd.lag_max_s)
    allowed = int(len(passes) * DOOR_SHARE) + course.aside
    ledger.check(3, f"overtaken at the door, beyond {DOOR_SHARE:.0%}", len(passes), range(max(0, overtaken - allowed)))


def places_of(estate: Estate, room: str) -> list[bytes]:
    client = estate.admin()
    try:
        places: list[bytes] = client.zrange(key(room, "queue"), 0, -1)
        return places
    finally:
        client.close()


def active_of(estate: Estate) -> int:
    client = estate.admin()
    try:
        return int(client.zcard(key(MAIN, "active")))
    finally:
        client.close()


async def spent_stays_spent(course: Course, ledger: Ledger) -> None:
    """A used ticket at the door again: over, or the very admission that it was used for."""
    used = [one for one in course.crowd.journeys if one.is_inside and one.passed_door is not None]
    used.sort(key=lambda one: one.passed_door.granted_s if one.passed_door else 0.0)
    used = used[:REPLAYS] if course.not_counted else used[:: max(1, len(used) // REPLAYS)]
    again = await asyncio.gather(*(replay(course.estate, one) for one in used))
    ledger.check(4, "tickets good for another entry", len(used), [text for text in again if text])


async def replay(estate: Estate, journey: Journey) -> str:
    """'' where nothing came of it."""
    fields = FIELDS | {"Waitroom-Ticket": journey.ticket}
    target = f"/_waitroom/{journey.plan.room}/admission"
    reply = await estate.connections.ask("POST", target, fields)
    if reply.status == 410:
        return ""
    token = reply.json.get("admission", "")
    is_same = reply.status == 200 and claims_of(token)["ent"] == claims_of(journey.admission)["ent"]
    return "" if is_same else f"{journey.plan.name} {reply.status} {reply.body[:120]!r}"


async def settings_are_kept(course: Course, ledger: Ledger) -> None:
    estate, wrong = course.estate, []
    for gateway in estate.gateways:
        main, shut = await estate.room(gateway, MAIN), await estate.room(gateway, SHUT)
        wanted = {"drain_rate": f"{RATE_S}/s", "burst": BURST, "active_max": course.cap}
        wrong += [
            f"{name} {main['overrides'].get(name)}" for name in wanted if main["overrides"].get(name) != wanted[name]
        ]
        wrong += [f"paused {shut['overrides']}"] * (shut["overrides"].get("paused") is not True)
        wrong += [f"state {shut['board']['room_state']}"] * (shut["board"]["room_state"] != "paused")
    ledger.check(2, "operators' words forgotten", 5 * len(estate.gateways), wrong)


def nobody_notices(course: Course, ledger: Ledger) -> None:
    """No error, no added wait, no error page. The balancer lives in this process: where that was late, cuts say nothing."""
    is_late = course.crowd.lag_max_s > GRACE_S / 2
    cuts = course.cuts_allowed or is_late
    but = " (the machine was too busy to judge cut connections)" if is_late else ""
    asked = sum(reader.asked for reader in course.insiders)
    ledger.check(7, f"errors for those inside{but}", asked, wrong_of(course.insiders, cuts))
    ledger.check(7, "added wait for those inside", asked, added_waits(course))
    looked = sum(reader.asked for reader in course.passers_by)
    ledger.check(8, f"error pages for newcomers{but}", looked, wrong_of(course.passers_by, cuts))
    failures = course.crowd.failures + course.late.failures
    wrong = [what for what in failures.elements() if not (cuts and is_cut(what))]
    answers = course.crowd.answers + course.late.answers
    wrong += [what for what in answers.elements() if what.split()[-1] in {"404", "410", "429"}]
    ledger.check(8, f"error pages for those who wait{but}", answers.total(), wrong)
    grown = [*course.crowd.grown, *course.late.grown]
    ledger.check(5, "positions that grew without a cause", answers.total(), grown)


def added_waits(course: Course) -> list[str]:
    """Answers that took longer than asking Redis in vain does, while what no room protects was answered at once.

    The machine may be busy: how late this process came to its turn is no fault of a gateway.
    """
    limit_s = NOTICED_S + course.crowd.lag_max_s
    others = [span for reader in course.strangers for span in reader.slow]
    return [
        f"{ended_s - began_s:.2f} s"
        for reader in course.insiders
        for began_s, ended_s in reader.slow
        if ended_s - began_s > limit_s
        and not any(since_s < ended_s and began_s < until_s for since_s, until_s in others)
    ]


def wrong_of(readers: Iterable[Reader], cuts_allowed: bool) -> list[str]:
    return [text for reader in readers for text in reader.wrong if not (cuts_allowed and is_cut(text))]


def is_cut(what: str) -> bool:
    return what.rpartition(" ")[2] in CUTS


def counted_until(client: redis.Redis, room: str = MAIN) -> int:
    """The highest number given so far, by the server itself."""
    return int(client.hget(key(room, "pace"), "next") or 1) - 1
