"""One room's transitions in Redis, as typed calls: one method, one script.

Theory of operation
    State: the keys of `design.md` section 5, all in one hash tag. Who may change what: only the scripts under `lua/`,
    each one transition, atomic in Redis. Every script reads the root (`pace`) first; where it is missing, or was
    stamped by another server, the script writes nothing and the call raises `Unknown`; then only `heal` may go on.
    Invariants: a number is given once (the counter only grows, `heal` jumps 10,000 ahead of all that is known); an id is in
    the queue or its number is spent, never both; credit is whole units and never grows faster than the rate in force.
    When it fails: every failure is `Unreachable`, and every call can be made again, because each effect is idempotent by id.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Any, Final

from gateway.errors import Unknown
from gateway.model import ClaimTry, Code, Contact, Memory, Room, SettingsRecord, Standing, Touch
from gateway.queue.connect import Connection, Value
from gateway.queue.scripts import SCRIPTS
from gateway.rules import pacing
from gateway.rules.board import FIELDS, Census
from gateway.rules.events import Event, parse

SCAN_MAX: Final = 500  # places a tick may look at, entries an upkeep may remove
REFUSED: Final = b"!"  # before an event that is not in the stream
UNCONFIRMED_US: Final = 30_000_000  # an instant entry's slot until its admission comes back


@dataclass(frozen=True, slots=True)
class Reading:
    """What changed since a gateway last read: the census, and ranks, settings and releases where they are newer."""

    now_us: int
    census: Census
    ranks: str
    settings: SettingsRecord | None
    releases: list[tuple[bytes, int]]  # id, stamp in microseconds, ascending; 500: there are more to read at once


class Healing(StrEnum):
    """What `heal` did: made a new room, let one go on that its server kept whole, or brought back what was lost."""

    MADE = "made"
    CONTINUED = "continued"
    HEALED = "healed"


@dataclass(frozen=True, slots=True)
class Ticked:
    due_us: int  # 0: there is more to do now
    called: int
    parked: int
    is_early: bool


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What time ended in one step; true while there is more to remove."""

    is_more: bool
    lapsed: int
    no_shows: int
    expired: int

    def __bool__(self) -> bool:
        return self.is_more


class RoomStore:
    """The calls of one room. `on_call` is told each script and the seconds of its round trip.

    `on_event`, where it is given, is told each event this process caused before the call that caused it answers; `on_refused`
    the room of each that Redis would not keep (no right to XADD, another key in its place).
    `now_us` is for tests that own the clock; None takes the server's.
    """

    def __init__(
        self,
        connection: Connection,
        room: Room,
        on_call: Callable[[str, float], None] = lambda _script, _s: None,
        on_event: Callable[[str, Event], None] | None = None,
        on_refused: Callable[[str], None] = lambda _room: None,
    ) -> None:
        self._connection = connection
        self._on_call = on_call
        self._on_event = on_event
        self._on_refused = on_refused
        self.newest_event = 0  # of those this process caused: what `heal` must not fall behind
        self.room = room
        self._keys = {
            script.name: [f"waitroom:{{{room.id}}}:{name}" for name in script.keys] for script in SCRIPTS.values()
        }
        self.now_us: int | None = None

    async def _run(self, name: str, *args: Value) -> Any:
        script = SCRIPTS[name]
        now = "" if self.now_us is None else self.now_us
        started = perf_counter()
        reply = await self._connection.run(script.sha, script.source, self._keys[name], (now, *args))
        self._on_call(name, perf_counter() - started)
        if script.tells:
            told, reply = reply
            if told:
                self._note(told)
        if reply and reply[0] == b"unknown":
            raise Unknown(f"room {self.room.id}: this Redis does not know the room, or was replaced")
        return reply

    def _note(self, told: bytes) -> None:
        if told.startswith(REFUSED):
            told = told[len(REFUSED) :]
            self._on_refused(self.room.id)
        self.newest_event = max(self.newest_event, int(told.split(b" ", 2)[1]))
        if self._on_event is not None:
            self._on_event(self.room.id, parse(told))

    async def check_in(self, contacts: Sequence[Contact]) -> list[Standing]:
        args: list[Value] = []
        for contact in contacts:
            arrival = "" if contact.arrived_us is None else contact.arrived_us
            args += (contact.id, f"{contact.number} {contact.epoch}" if contact.number else arrival)
        epoch, flat = await self._run("checkin", *args)
        return [_standing(flat[i], flat[i + 1], flat[i + 2], epoch) for i in range(0, len(flat), 3)]

    async def mark(self, numbers: Iterable[int]) -> None:
        """At most 500; packed, because they are what a polling crowd sends most of."""
        words = array("I", numbers)
        if sys.byteorder == "little":
            words.byteswap()
        await self._run("mark", words.tobytes())

    async def claim(self, tries: Sequence[ClaimTry]) -> list[Standing]:
        args: list[Value] = []
        for one in tries:
            args += (one.id, one.number, one.epoch, "0" if one.is_withdrawn else "1")
        flat = await self._run("claim", *args)
        answers = zip(tries, flat[::2], flat[1::2], strict=True)
        return [_standing(code, one.number, detail, one.epoch) for one, code, detail in answers]

    async def enter(self, contacts: Sequence[Contact]) -> list[Standing]:
        """Instant entries; a contact with a number enters under its ticket, which is spent."""
        args: list[Value] = [UNCONFIRMED_US]
        for contact in contacts:
            args += (contact.id, contact.number or "", contact.epoch if contact.number else "")
        flat = await self._run("enter", *args)
        answers = zip(contacts, flat[::2], flat[1::2], strict=True)
        return [_standing(code, one.number, detail, 0) for one, code, detail in answers]

    async def touch(self, touches: Sequence[Touch]) -> list[int]:
        """Microseconds of lease for each; 0 where the admission was ended."""
        args: list[Value] = []
        for touch in touches:
            args += (touch.id, touch.epoch, touch.entered_at_s * 1_000_000)
        reply: list[int] = await self._run("touch", *args)
        return reply

    async def leave(self, contacts: Sequence[Contact]) -> list[int]:
        """The number of each place that was given up just now, else 0."""
        args: list[Value] = []
        for contact in contacts:
            args += (contact.id, contact.number, contact.epoch)
        numbers: list[int] = await self._run("leave", *args)
        return numbers

    async def release(self, ids: Sequence[bytes], entered_at_s: Sequence[int] = ()) -> int:
        """End admissions; answers how many of them held a slot.

        With `entered_at_s` (of the admissions that end, in the same order) a retry ends nothing that was entered since.
        """
        args: list[Value] = []
        for i, one in enumerate(ids):
            args += (one, entered_at_s[i] * 1_000_000 if entered_at_s else "")
        freed: int = (await self._run("release", *args))[1]
        return freed

    async def tick(self, *, is_upstream_down: bool = False, limit: int = SCAN_MAX) -> Ticked:
        code, due_us, called, parked = await self._run("tick", limit, "1" if is_upstream_down else "0")
        return Ticked(due_us, called, parked, code == b"early")

    async def upkeep(self) -> Upkeep:
        _, is_more, lapsed, no_shows, expired = await self._run("upkeep", SCAN_MAX)
        return Upkeep(bool(is_more), lapsed, no_shows, expired)

    async def census(self) -> int:
        """Publish the board if that is due; microseconds until it is due again."""
        due_us: int = (await self._run("census"))[1]
        return due_us

    async def read(self, ranks_version: int, settings_version: int, released_us: int) -> Reading:
        _, now, ranks, settings, releases, values = await self._run(
            "read", ranks_version, settings_version, released_us, *FIELDS
        )
        record = None
        if settings:
            record = SettingsRecord(int(settings[2]), json.loads(settings[0]), json.loads(settings[1]))
        pairs = [(releases[i], int(float(releases[i + 1]))) for i in range(0, len(releases), 2)]
        return Reading(int(now), Census.parse(values), ranks.decode(), record, pairs)

    def _limits(self, record: SettingsRecord) -> list[Value]:
        """The settings in force, and the room's own limits as the newest published file has them, not this gateway's."""
        in_force = pacing.in_force(record.base, record.overrides)
        published = record.base.get("limits")
        kept = published if isinstance(published, dict) else {}
        limits = pacing.limits(self.room, in_force)
        limits |= {name: int(kept[name]) for name in limits if name in kept and name not in pacing.LIVE_LIMITS}
        return [part for pair in limits.items() for part in pair]

    async def write_settings(self, record: SettingsRecord, *, by: str = "", names_stock: bool = False) -> bool:
        """Write what was computed from `record.version`; False when somebody else wrote meanwhile. `by`: for the record.

        `names_stock`: the operator's word on the stock, be it the same figure, ends what the upstream reported before.
        """
        texts = (json.dumps(record.base), json.dumps(record.overrides), "1" if names_stock else "0", by)
        code, _ = await self._run("settings", record.version, *texts, *self._limits(record))
        return bool(code == b"ok")

    async def lower_stock(self, remaining: int) -> None:
        """What an upstream has left; only an operator raises it again."""
        await self._run("stock", remaining)

    async def reset(self, epoch: int | None = None, *, void_admissions: bool, by: str = "") -> tuple[int, int]:
        """Raise the epoch; answers the one in force, and how many places and leases that ended.

        With `epoch`, only from that one, so that a retry changes nothing.
        """
        args = ("1" if void_admissions else "0", "" if epoch is None else epoch, by)
        _, raised, ended = await self._run("reset", *args)
        return raised, ended

    async def heal(self, memory: Memory, record: SettingsRecord) -> Healing | None:
        """Make the root whole from what this gateway knows; None when there was nothing to do."""
        known: list[Value] = [memory.epoch, memory.highest_number, memory.passed, memory.clock_us]
        known += [memory.active, memory.places, memory.admission_epoch, memory.reported, memory.sealed_us]
        known.append(max(memory.events, self.newest_event))
        texts = (json.dumps(record.base), json.dumps(record.overrides))
        reply = await self._run("heal", *known, record.version, *texts, *self._limits(record))
        return None if reply[0] == b"whole" else Healing(reply[0].decode())

    async def last_write_us(self) -> int:
        """The stamp of the last script that wrote, whatever it was: data that end with it have lost nothing."""
        return int((await self._run("last"))[1])

    async def tell_bypassed(self, counts: Mapping[str, int]) -> None:
        """Requests let past the queue since the last time, by rule: for the record alone."""
        await self._run("bypass", json.dumps(counts))

    async def respend(self, epoch: int, numbers: Sequence[int]) -> None:
        await self._run("respend", epoch, *numbers)


def _standing(code: bytes, number: int, detail: int | bytes, epoch: int) -> Standing:
    """One answer of a script; an admitted one's detail is "us-of-lease entry-second [number total]", a held one's its reason."""
    if isinstance(detail, int):
        return Standing(Code(code.decode()), number, detail, epoch)
    if code == b"admitted":
        lease_us, entered_at_s, used, total = (*map(int, detail.split()), 0, 0)[:4]
        return Standing(Code.ADMITTED, used or number, lease_us, epoch, entered_at_s=entered_at_s, total=total)
    return Standing(Code(code.decode()), number, 0, epoch, detail.decode())
