"""Model and server side by side: every call is made to both, the answers are compared, and so is what is stored afterwards."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from itertools import count
from typing import Any, Final, TypeVar

from gateway.model import ClaimTry, Code, Contact, Memory, Rate, Room, RoomSettings, SettingsRecord, Touch
from gateway.queue.record import read_stream
from gateway.queue.store import RoomStore
from gateway.rules.audit import Judged, Verdict, check
from gateway.rules.events import Event
from gateway.rules.pacing import as_document
from tests.conftest import make_room
from tests.simulation.crowd import DirectConnection
from tests.simulation.model import NEVER, SECOND, History, Model

START_US: Final = 1_800_000_000_000_000
VISITORS: Final = 30
GATEWAYS: Final = 3
SESSION_S: Final = 20
ABSENCE_S: Final = 60
SETTINGS: Final = (
    {"drain_rate": Rate(5, "s"), "burst": 3},
    {"drain_rate": Rate(40, "s"), "burst": 12},
    {"drain_rate": Rate(90, "min"), "burst": 2},
    {"active_max": 4},
    {"active_max": 50},
    {"paused": True},
    {"paused": False},
    {"stock": 3},
    {"stock": None},
)

T = TypeVar("T")
_rooms = count(1)


def now(call: Coroutine[Any, Any, T]) -> T:
    """Run a store's call to its end; on a direct connection it never waits."""
    try:
        call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the call waited")


def ident(visitor: int) -> bytes:
    return (visitor + 1).to_bytes(16, "big")


class Twin:
    """One room, its gateways, the model beside it, and the tickets that visitors were given."""

    def __init__(self, connection: DirectConnection) -> None:
        self.connection = connection
        settings = RoomSettings(Rate(5, "s"), 3, 8)
        fields = {"session_s": SESSION_S, "absence_max_s": ABSENCE_S, "claim_window_s": 60}
        self.room: Room = replace(make_room(f"twin-{next(_rooms)}"), settings=settings, **fields)  # type: ignore[arg-type]
        self.told: list[Event] = []  # what the gateways' files would have, also through a loss of Redis
        self.stores = [RoomStore(connection, self.room, on_event=self._hear) for _ in range(GATEWAYS)]
        self.model = Model(settings, SESSION_S * 1_000_000, ABSENCE_S * 1_000_000, START_US, History())
        self.tickets: dict[int, list[tuple[int, int]]] = {visitor: [] for visitor in range(VISITORS)}
        self._set_clock(START_US)
        now(self.stores[0].heal(Memory(), self._record(0)))

    def _hear(self, _room: str, event: Event) -> None:
        self.told.append(event)

    def _record(self, version: int) -> SettingsRecord:
        return SettingsRecord(version, as_document(self.model.settings), {})

    def _set_clock(self, now_us: int) -> None:
        self.now_us = now_us
        for store in self.stores:
            store.now_us = now_us

    def _wake(self) -> None:
        self.model.wake(self.now_us)

    # --- what may happen --------------------------------------------------------------------------------------------------

    def join(self, visitors: list[int], *, gateway: int = 0, is_lost: bool = False) -> None:
        contacts = [Contact(ident(visitor)) for visitor in visitors]
        self._check_in(contacts, gateway, is_lost=is_lost)

    def show_ticket(self, visitor: int, which: int, *, gateway: int = 0, is_lost: bool = False) -> None:
        """Contact with a ticket: the newest of the visitor's, or an old one."""
        if self.tickets[visitor]:
            number, epoch = self.tickets[visitor][which % len(self.tickets[visitor])]
            self._check_in([Contact(ident(visitor), number, epoch)], gateway, is_lost=is_lost)

    def _check_in(self, contacts: list[Contact], gateway: int, *, is_lost: bool) -> None:
        for _ in range(2 if is_lost else 1):  # a lost answer: it ran, and is asked again
            self._wake()
            standings = now(self.stores[gateway].check_in(contacts))
            for contact, standing in zip(contacts, standings, strict=True):
                if contact.number:
                    expected = self.model.find(contact.id, contact.number, contact.epoch)
                else:
                    expected = self.model.join(contact.id)
                assert (standing.code, standing.number) == expected
                if standing.code in (Code.NEW, Code.KNOWN, Code.CALLED):
                    self._hand_out(contact.id, standing.number)
        self.compare()

    def _hand_out(self, one: bytes, number: int) -> None:
        mine = self.tickets[int.from_bytes(one, "big") - 1]
        if (number, self.model.epoch) not in mine:
            mine.append((number, self.model.epoch))

    def claim(
        self, visitors: list[int], *, gateway: int = 0, withdrawn: tuple[int, ...] = (), is_lost: bool = False
    ) -> None:
        tries = [(ident(one), *self.tickets[one][-1]) for one in visitors if self.tickets[one]]
        gone = [ident(one) for one in withdrawn]
        batch = [ClaimTry(*one) for one in tries] + [ClaimTry(one, 0, 0, is_withdrawn=True) for one in gone]
        if not batch:
            return
        for _ in range(2 if is_lost else 1):
            self._wake()
            expected = self.model.claim(tries, gone)
            standings = now(self.stores[gateway].claim(batch))
            assert [one.code for one in standings[: len(tries)]] == expected
        self.compare()

    def enter(self, visitor: int, *, with_ticket: bool = False, is_lost: bool = False) -> None:
        model, one = self.model, ident(visitor)
        number, epoch = self.tickets[visitor][-1] if with_ticket and self.tickets[visitor] else (0, 0)
        for _ in range(2 if is_lost else 1):
            self._wake()
            had_lease = model.lease(one)
            code = now(self.stores[0].enter([Contact(one, number, epoch)]))[0].code
            if code is Code.ADMITTED and not had_lease:
                assert not [n for n in model.places.values() if n > model.passed], "promise 3: overtook who waits"
                fresh = [held for held in model.door.values() if held[1] > model.clock - 2_000_000]
                assert not fresh, "promise 3: overtook who stands at the door"
                assert model.permits() > 0, "promises 1 and 2: neither credit nor a slot was free"
                assert not number or (epoch == model.epoch and number not in model.spent), (
                    "promise 4: a dead ticket entered"
                )
                model.enter(one, number, 30_000_000)
            elif had_lease:
                assert code is Code.ADMITTED, "promise 4: a retry finds its slot"
        self.compare()

    def leave(self, visitor: int, *, is_lost: bool = False) -> None:
        for number, epoch in self.tickets[visitor][-1:]:
            for _ in range(2 if is_lost else 1):
                self._wake()
                expected = self.model.leave(ident(visitor), number, epoch)
                (left,) = now(self.stores[1].leave([Contact(ident(visitor), number, epoch)]))
                assert (left > 0) == expected
        self.compare()

    def touch(self, visitor: int) -> None:
        """Only those whose lease the model knows: admissions in hand are the gateways' matter."""
        one = ident(visitor)
        self._wake()
        touches = [Touch(one, self.model.epoch, 2**31)] if self.model.lease(one) else []
        now(self.stores[2].touch(touches))  # with none, too: time that no script saw is no time of the room's
        for touched in touches:
            self.model.leases[touched.id] = self.model.clock + SESSION_S * 1_000_000
        self.compare()

    def release(self, visitor: int) -> None:
        self._wake()
        freed = now(self.stores[0].release([ident(visitor)]))
        had_lease = self.model.leases.pop(ident(visitor), None) is not None
        assert freed == int(had_lease)
        if not had_lease and self.model.ghost:
            self.model.ghost = self._root("ghost")
        self.compare()

    def _root(self, name: str) -> int:
        source = "return redis.call('HGET', KEYS[1], ARGV[1])"
        return int(now(self.connection.run("0" * 40, source, [self._key("pace")], [name])))

    def change(self, which: int, *, is_lost: bool = False) -> None:
        settings = replace(self.model.settings, **SETTINGS[which])
        overrides = as_document(settings)  # an operator's words, beside a file that says what held before
        record = SettingsRecord(self.model.version, as_document(self.model.settings), overrides)
        self._wake()
        assert now(self.stores[0].write_settings(record))
        if is_lost:
            assert now(self.stores[0].write_settings(record)), "promise 4: a retry is no conflict"
        self.model.change(settings)

    def reset(self, *, void_admissions: bool, is_lost: bool = False) -> None:
        self._wake()
        for _ in range(2 if is_lost else 1):
            raised, _ = now(self.stores[0].reset(self.model.epoch, void_admissions=void_admissions))
            assert raised == self.model.epoch + 1
        self.model.reset(void_admissions=void_admissions)
        self.compare()

    def flush(self) -> None:
        """Redis loses everything; a gateway heals it with what it knows and carries the spent numbers back."""
        model = self.model
        active = sum(end > model.clock for end in model.leases.values()) + self._known_ghosts()
        events = max(store.newest_event for store in self.stores)  # as the last board had told
        memory = Memory(model.epoch, model.next - 1, model.passed, model.clock, active, model.above(), events=events)
        self.connection.delete(f"waitroom:{{{self.room.id}}}:*")
        proves = model.next > 1 or model.epoch > 1
        assert now(self.stores[2].heal(memory, self._record(model.version)))
        model.lose_everything(active, self.now_us)
        if not proves:  # numbers may have been given since its last board: a gap, and time for others to report
            model.recovering, model.goal = model.clock + 2 * SECOND, NEVER
        now(self.stores[2].respend(model.epoch, sorted(model.spent)))
        self.compare()

    def _known_ghosts(self) -> int:
        return self.model.ghost if self.model.clock < self.model.ghost_until else 0

    def come_back(self) -> None:
        """Everybody who holds a ticket is heard from, as polls would do within a minute."""
        for visitor in range(VISITORS):
            self.show_ticket(visitor, -1, gateway=visitor % GATEWAYS)

    def run(self, steps: int, *, step_us: int = 100_000, is_down: bool = False) -> None:
        """Time with live gateways: any of them ticks, another one keeps up."""
        for step in range(steps):
            self._set_clock(self.now_us + step_us)
            self.model.history.now_us += step_us
            self._beat(step, is_down=is_down)
        assert self._root("present") == self.model.present(), "waiting_max counts who is present"
        self.compare()

    def stall(self, by_us: int) -> None:
        """The clock steps, forwards or back, while no time passes; a step below 1 s cannot be told from time."""
        self._set_clock(self.now_us + by_us)
        self.model.history.now_us += by_us if 0 < by_us <= 1_000_000 else 0

    def _beat(self, step: int, *, is_down: bool) -> None:
        keeper, ticker = self.stores[step % GATEWAYS], self.stores[(step + 1) % GATEWAYS]
        is_more = True
        while is_more:
            self._wake()
            is_more = now(keeper.upkeep()).is_more
            self.model.kept_up(self.places())
        for store in (ticker, keeper):  # the second is refused
            ticked = now(store.tick(is_upstream_down=is_down))
            if not ticked.is_early:
                self._wake()
                self.model.ticked(self._root("passed"), ticked.called, ticked.parked, is_down=is_down)
        assert ticked.is_early or ticked.due_us == 0, "two gateways did the same tick"

    # --- what is stored -----------------------------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"waitroom:{{{self.room.id}}}:{name}"

    def places(self) -> dict[bytes, int]:
        source = "return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')"
        rows = now(self.connection.run("0" * 40, source, [self._key("queue")], []))
        return {rows[i]: int(rows[i + 1]) for i in range(0, len(rows), 2)}

    def audit(self) -> Judged:
        """The record is whole, says that promises 1 to 4 were kept, and the stream still has the end of it."""
        judged, stream = check(self.told), now(read_stream(self.connection, self.room.id))
        assert not judged.violations, str(judged.violations[0])
        assert judged.verdict is Verdict.KEPT, f"events are missing: {judged.gaps}"
        assert stream == self.told[len(self.told) - len(stream) :], (
            "the stream tells another story than the gateways were told"
        )
        return judged

    def compare(self) -> None:
        """The places are the model's, one for each key, and none of them is spent."""
        places, model = self.places(), self.model
        assert places == model.places, "promises 4 and 5: other places than expected"
        assert len(set(places.values())) == len(places), "promise 4: twins"
        assert not model.spent & set(places.values()), "promise 4: a spent number is seated"
