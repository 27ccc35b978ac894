"""One room as this process sees it: the last board, what travels in batches, and what it remembers for `heal`.

Everything a request asks of the queue goes through here. What can be answered from the board is; the rest is gathered by
event-loop turn (joins, look-ups), by pass (claims) or by second (marks, touches). The loops are in `drain.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import islice, takewhile
from typing import Final, TypeVar

from gateway.errors import Crowded, Unknown, Unreachable
from gateway.model import Admission, Code, Contact, Memory, Room, RoomSettings, SettingsRecord, Standing, Ticket, Touch
from gateway.queue.batching import NEWCOMERS_MAX, PENDING_MAX, Batcher
from gateway.queue.claims import Claims
from gateway.queue.clock import RedisClock
from gateway.queue.record import Bypassed
from gateway.queue.spent import Spent
from gateway.queue.store import Healing, Reading, RoomStore
from gateway.rules import pacing
from gateway.rules.board import STALE_AFTER_S, Board, Census, Ranks
from gateway.tasks import Owner

MARKS_MAX: Final = 500  # numbers a call
TOUCHES_MAX: Final = 250
REVOKED_MAX: Final = 1_000_000  # 1,000 releases/s for a session of 10 minutes, and half as much again; 130 MB
RELEASE_LEEWAY_S: Final = 120
RELEASES_READ: Final = 500  # what `read.lua` tells at once
SPENT_MAX: Final = 200_000  # numbers this process saw spent, newest kept: what `heal` carries back
CHANGE_TRIES: Final = 5
TOUCH_WAITERS_MAX: Final = 15  # an admission has 16 requests in flight at most
BY_FILE: Final = "(the file)"  # who changed the settings, in the record: no operator's name has a space
CAUSE_S: Final = 300.0  # everybody has polled many times by then

T = TypeVar("T")
Change = Callable[[SettingsRecord], SettingsRecord]


class RoomQueue:
    """The queue of one room. Calls raise `Unreachable` when Redis cannot be asked; the board's answers never do."""

    def __init__(self, store: RoomStore, clock: RedisClock, owner: Owner) -> None:
        self.store = store
        self.room: Room = store.room
        self.clock = clock
        self.claims = Claims(store, clock.monotonic)
        self.board: Board | None = None
        self.is_reachable = False
        self.needs_heal = True
        self.base = pacing.as_document(self.room.settings) | {"limits": pacing.limits(self.room, self.room.settings)}
        self.record = SettingsRecord(0, self.base, {})
        self._is_published = False
        self.memory = Memory()
        self._check_ins = Batcher(store.check_in, owner, f"check-in {self.room.id}")
        self._entries = Batcher(store.enter, owner, f"enter {self.room.id}")
        self._leaves = Batcher(store.leave, owner, f"leave {self.room.id}")
        self.bypassed = Bypassed(store)
        self._marks: set[int] = set()
        self._touches: dict[bytes, tuple[Touch, tuple[Callable[[int], None], ...]]] = {}
        self._revoked: dict[bytes, float] = {}  # id -> until when issued admissions are refused, Redis seconds
        self._released_us = 0
        self.spent = Spent(SPENT_MAX)
        self._heals_seen: int | None = None
        self._remaining: int | None = None
        self._releases: dict[bytes, int] = {}  # id -> when the admission that ends was entered
        self._freed = 0
        self._healed_at_s: float | None = None
        self._total = 0  # entries ever, as the last one who was let in here was told

    # --- what needs no Redis --------------------------------------------------------------------------------------

    @property
    def settings(self) -> RoomSettings:
        return self.board.settings if self.board else pacing.in_force(self.record.base, self.record.overrides)

    @property
    def healed_at_s(self) -> float | None:
        """Redis seconds of the last loss that was made whole, while it explains positions that grew; else None."""
        if self._healed_at_s is not None and self.clock.now_s() - self._healed_at_s > CAUSE_S:
            self._healed_at_s = None
        return self._healed_at_s

    def is_stale(self) -> bool:
        """No board, or none read for two seconds: what it says is the last known."""
        return self.board is None or self.clock.monotonic() - self.board.read_at_s > STALE_AFTER_S

    def board_age_s(self) -> float:
        return float("inf") if self.board is None else self.clock.monotonic() - self.board.read_at_s

    def recall(self, memory: Memory, record: SettingsRecord | None, spent: Mapping[int, int]) -> None:
        """Start from what a state file kept."""
        self.memory = memory
        self.spent.recall(spent)
        if record is not None:
            self.record = record

    def is_admission_void(self, admission: Admission) -> bool:
        """Released since it was issued, or of an epoch whose admissions were voided."""
        if admission.epoch < self.memory.admission_epoch:
            return True
        released_s = self._revoked.get(admission.id)
        return released_s is not None and admission.entered_at_s <= released_s

    def was_spent_here(self, number: int) -> bool:
        """This process saw the number used or given up; the board may not know that yet."""
        return number in self.spent

    def mark(self, number: int) -> None:
        self._marks.add(number)

    def touch(self, admission: Admission, on_answer: Callable[[int], None]) -> None:
        """Extend the lease with the next batch; `on_answer` gets microseconds of lease, 0 where it was ended."""
        _, waiting = self._touches.get(admission.id, (None, ()))
        touch = Touch(admission.id, admission.epoch, admission.entered_at_s)
        self._touches[admission.id] = (touch, (*waiting[-TOUCH_WAITERS_MAX:], on_answer))

    def remember(self, ticket: Ticket) -> None:
        """A verified ticket proves that its number and its epoch exist."""
        memory = self.memory
        if ticket.epoch > memory.epoch:
            self.memory = replace(memory, epoch=ticket.epoch, highest_number=ticket.number, passed=0)
        elif ticket.epoch == memory.epoch and ticket.number > memory.highest_number:
            self.memory = replace(memory, highest_number=ticket.number)

    def note_remaining(self, remaining: int) -> None:
        """The upstream has so many left: the smallest of a second becomes the room's stock."""
        self._remaining = remaining if self._remaining is None else min(self._remaining, remaining)

    def release_soon(self, one: bytes, entered_at_s: int) -> None:
        """End an admission with the next batch; this gateway refuses it from now on.

        `entered_at_s`: of the entry that ends, so that a batch that is sent again ends nothing that was entered since.
        """
        self._revoke(one, max(self.clock.now_s(), entered_at_s))
        self._releases[one] = entered_at_s

    # --- what asks Redis ------------------------------------------------------------------------------------------

    async def check_in(self, contact: Contact) -> Standing:
        """Raises Crowded to a newcomer while there is room for those who have a place, and to all where there is none."""
        await self._may_ask_for(contact.id)
        ahead_max = PENDING_MAX if contact.number or contact.arrived_us else NEWCOMERS_MAX
        return self._judge(await self._asking(self._check_ins.submit(contact, ahead_max)))

    async def enter(self, contact: Contact) -> Standing:
        await self._may_ask_for(contact.id)
        standing = self._judge(await self._asking(self._entries.submit(contact)))
        if standing.code is Code.ADMITTED:
            self._note_entry(contact.number, standing)
        return standing

    async def claim(self, ticket: Ticket) -> Standing:
        await self._may_ask_for(ticket.id)
        standing = await self._asking(self.claims.claim(ticket))
        if standing.code is Code.LOST:  # this Redis has lost the place: seat it again, then claim
            await self.check_in(Contact(ticket.id, ticket.number, ticket.epoch))
            standing = await self._asking(self.claims.claim(ticket))
        if standing.code is Code.ADMITTED:
            self._note_entry(ticket.number, standing)
        return self._judge(standing)

    async def leave(self, contact: Contact) -> bool:
        left = await self._asking(self._leaves.submit(contact))
        self._note_spent(contact.number, left)
        return left > 0

    async def change_settings(
        self, change: Change, expected_version: int | None = None, *, by: str = "", names_stock: bool = False
    ) -> SettingsRecord | None:
        """Compute new settings from those stored and write them; None when `expected_version` is not in force. `by`: who asked.

        `names_stock`: the change says what the stock is, so what the upstream reported is over, also at the same figure.
        """
        for _ in range(CHANGE_TRIES):
            await self.read_board()
            if expected_version is not None and self.record.version != expected_version:
                return None
            changed = change(self.record)
            if not names_stock and (changed.base, changed.overrides) == (self.record.base, self.record.overrides):
                return self.record
            if await self._asking(self.store.write_settings(changed, by=by, names_stock=names_stock)):
                await self.census()
                await self.read_board()
                return self.record
        raise Unreachable(f"room {self.room.id}: others changed its settings {CHANGE_TRIES} times meanwhile")

    async def census(self) -> None:
        """Publish the board if that is due."""
        await self._asking(self.store.census())

    async def publish(self) -> None:
        """Once after a start: what this gateway's file says becomes the base; overrides stand."""
        if not self._is_published:
            await self.change_settings(lambda record: replace(record, base=self.base), by=BY_FILE)
            self._is_published = True

    async def reset(self, *, void_admissions: bool, by: str = "") -> tuple[int, int]:
        """The epoch in force now, and how many places and leases ended."""
        return await self._asking(self.store.reset(void_admissions=void_admissions, by=by))

    # --- the loops' part ------------------------------------------------------------------------------------------

    async def read_board(self) -> None:
        while True:
            ranks_version = self.board.ranks.version if self.board else 0
            reading = await self._asking(self.store.read(ranks_version, self.record.version, self._released_us))
            self._learn(reading)
            if len(reading.releases) < RELEASES_READ:
                return

    def _learn(self, reading: Reading) -> None:
        self.clock.learn(reading.now_us)
        if reading.settings is not None:
            self.record = reading.settings
        for one, released_us in reading.releases:
            self._revoke(one, released_us / 1e6)
            self._released_us = max(self._released_us, released_us)
        self._forget_old_releases()
        census, have = reading.census, self.board
        if census.version == 0:
            return  # nobody has counted the room yet
        if have is not None and have.census.is_newer_than(census):
            return  # an answer that a newer one has overtaken
        ranks, earlier = self._ranks(reading, census)
        settings = pacing.in_force(self.record.base, self.record.overrides)
        if census.stock >= 0:
            settings = replace(settings, stock=census.stock)  # with what the upstream told
        self._remember_census(census)
        self.board = Board(census, ranks, earlier, settings, self.clock.monotonic())
        if self._heals_seen is not None and census.heals != self._heals_seen:
            self.needs_heal = True  # somebody made the room whole: tell it what this gateway knows
        is_healed = have is not None and census.heals != have.census.heals  # whoever it was: places are seated again
        self._total = 0 if is_healed else self._total
        if is_healed or (census.left_us > 0 and self._healed_at_s is None):  # or before this gateway came
            self._healed_at_s = self.clock.now_s()
        self._heals_seen = census.heals

    def _ranks(self, reading: Reading, census: Census) -> tuple[Ranks, Ranks]:
        before = self.board
        if before is None or before.census.epoch != census.epoch:
            return Ranks.parse(reading.ranks), Ranks.parse("")
        if not reading.ranks:
            return before.ranks, before.earlier
        return Ranks.parse(reading.ranks).under(before.ranks), Ranks.parse("")

    def _remember_census(self, census: Census) -> None:
        memory = self._count_unseen()
        if census.epoch > memory.epoch:
            self.spent.clear()
        if census.epoch < memory.epoch:
            self.needs_heal = True  # it has lost a reset
            return
        is_same = census.epoch == memory.epoch
        # Healed by another gateway: what this one knows must outlive until it has told it, too.
        is_untold = is_same and self._heals_seen is not None and census.heals != self._heals_seen
        # How many were there belongs to the cursor of that board: behind a cursor that is further they can never all be.
        is_counted = (is_untold or (is_same and census.left_us > 0)) and census.passed <= memory.passed
        self.memory = Memory(
            epoch=census.epoch,
            # Nobody is numbered during a hold, and the gap that healing leaves is no knowledge: taken for such, two
            # gateways would raise it in turns, and the hold would never end.
            highest_number=max(0 if census.left_us > 0 else census.next - 1, memory.highest_number if is_same else 0),
            passed=max(census.passed, memory.passed if is_untold else 0),
            clock_us=census.clock,
            active=max(census.active, memory.active if is_untold else 0),
            # During a hold the census counts who is back; how many were there is what matters, should Redis be lost again.
            places=max(census.waiting, memory.places if is_counted else 0),
            admission_epoch=max(memory.admission_epoch, census.admission_epoch),
            events=max(census.events, memory.events, self.store.newest_event),
            reported=census.reported or (memory.reported if is_untold else 0),
        )

    async def heal(self) -> Healing | None:
        """Tell Redis what this gateway knows of the room; None when that changed nothing there."""
        self.needs_heal = False  # a proof that arrives meanwhile asks for another
        self.memory, self._total = self._count_unseen(), 0
        try:
            done = await self._asking(self.store.heal(self.memory, self.record))
            spent = list(self.spent)
            for start in range(0, len(spent), MARKS_MAX):
                await self._asking(self.store.respend(self.memory.epoch, spent[start : start + MARKS_MAX]))
        except BaseException:
            self.needs_heal = True
            raise
        self._heals_seen = None  # told: the next board is news, not a reason to tell again
        if done is Healing.HEALED and self.memory.highest_number > 0:
            self._healed_at_s = self.clock.now_s()
        return done

    async def seal(self) -> None:
        """Note the room's last write: this gateway is about to stop the server, and nobody else writes any more.

        The next one may go on without a gap where the data still end with it; a state file that is read loses it first.
        """
        self.memory = replace(self.memory, sealed_us=await self._asking(self.store.last_write_us()))

    def take_freed(self) -> int:
        """How many slots releases have freed since the last time."""
        freed, self._freed = self._freed, 0
        return freed

    async def flush_releases(self) -> None:
        """Send what upstreams told of, a release never before the stock that came with it; what fails is sent again."""
        while self._releases or self._remaining is not None:
            batch = dict(islice(self._releases.items(), MARKS_MAX))
            if (remaining := self._remaining) is not None:
                await self._asking(self.store.lower_stock(remaining))
                self._remaining = None if self._remaining == remaining else self._remaining
            freed = await self._asking(self.store.release(list(batch), list(batch.values()))) if batch else 0
            self._freed += freed  # added after the wait, in which what there is may be taken
            for one, entered_at_s in batch.items():  # not before: `_may_ask_for` looks here
                if self._releases.get(one) == entered_at_s:
                    del self._releases[one]

    async def flush_marks(self) -> None:
        """Send the marks and touches gathered since the last time; what fails is sent again."""
        marks, self._marks = list(self._marks), set()
        for start in range(0, len(marks), MARKS_MAX):
            try:
                await self._asking(self.store.mark(marks[start : start + MARKS_MAX]))
            except Unreachable:
                self._marks.update(marks[start:])
                raise
        while self._touches:
            ids = list(self._touches)[:TOUCHES_MAX]
            batch = [self._touches.pop(one) for one in ids]
            try:
                leases = await self._asking(self.store.touch([touch for touch, _ in batch]))
            except Unreachable:
                for one, entry in zip(ids, batch, strict=True):
                    self._touches.setdefault(one, entry)
                raise
            for (touch, waiting), lease_us in zip(batch, leases, strict=True):
                if lease_us == 0:
                    self._revoke(touch.id, touch.entered_at_s)
                for on_answer in waiting:
                    on_answer(lease_us)

    async def _may_ask_for(self, one: bytes) -> None:
        """Raises Unreachable without asking while Redis is: the loops find out when it is back, a request would only wait.

        Whoever comes back at once after a release must not be told of the session that it ends.
        """
        if not self.is_reachable:
            raise Unreachable(f"room {self.room.id}: Redis cannot be reached")
        if one in self._releases:
            await self.flush_releases()

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _asking(self, call: Awaitable[T]) -> T:
        """Every answer of Redis passes here, so that its loss and its return are noticed at once."""
        try:
            answer = await call
        except Unreachable as fault:
            self.is_reachable &= isinstance(fault, Crowded)  # who was not asked says nothing of Redis
            self.needs_heal = self.needs_heal or isinstance(fault, Unknown)
            raise
        self.is_reachable = True
        return answer

    def _judge(self, standing: Standing) -> Standing:
        """A ticket of ours that is ahead of Redis proves a loss: nothing may be decided before it is healed."""
        if standing.code is Code.AHEAD:
            self.needs_heal = True
            raise Unknown(f"room {self.room.id}: Redis is behind a ticket that was signed")
        return standing

    def _note_entry(self, number: int, standing: Standing) -> None:
        self._note_spent(number, standing.number)
        self._total = max(self._total, standing.total)

    def _count_unseen(self) -> Memory:
        """What is known, with those who were let in after the board was counted: they are inside, too, should it be lost."""
        if self.board is None:
            return self.memory
        census = self.board.census
        unseen = max(0, self._total - census.entries - census.instants)
        return replace(self.memory, active=self.memory.active + unseen)

    def _note_spent(self, *numbers: int) -> None:
        """The ticket's and the place's, which differ where an older ticket of the same id has won; 0 is none."""
        for number in filter(None, numbers):
            self.spent.add(number)

    def _forget_old_releases(self) -> None:
        """Admissions that were issued before these releases have expired by now."""
        until_s = self.clock.now_s() - self.room.session_s - RELEASE_LEEWAY_S
        old = [one for one, _ in takewhile(lambda entry: entry[1] < until_s, self._revoked.items())]
        for one in old:
            del self._revoked[one]

    def _revoke(self, one: bytes, released_s: float) -> None:
        self._revoked[one] = max(released_s, self._revoked.pop(one, 0.0))  # to the end: the newest are kept
        if len(self._revoked) > REVOKED_MAX:
            # Many at once: the oldest key of a dict is found by a walk over all that were deleted before it.
            for oldest in list(islice(self._revoked, REVOKED_MAX // 20)):
                del self._revoked[oldest]
