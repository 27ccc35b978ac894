"""Owns the kinds of visitors, as Locust's users: what each makes of the waiting page's steps, and one visit of each.

The shares among them are Locust's weights, set by each incident with `shares`. Every attribute below can be changed
for a run: `--config-users '{"user_class_name": "Sleeper", "weight": 30, "sleep_s": [5, 10]}'`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle
from typing import ClassVar, Final

import gevent
from gevent.pool import Group
from gevent.queue import SimpleQueue
from locust import FastHttpUser, task
from locust.env import Environment

from gateway.demo.figures import DoorPass
from locustfiles.crowd import ARRIVE_WITHIN_S, beside_of, book_of, hosts_of, route_of
from locustfiles.figures import Admission, Count, Lost, Place, Seat, Told, Wait, told_by
from locustfiles.record import Visit
from locustfiles.waiting import (
    Answer,
    Claim,
    End,
    In,
    Join,
    Load,
    Outcome,
    Poll,
    Request,
    Step,
    backoff_s,
    is_expected,
    next_step,
)
from locustfiles.wire import FORM_BODY, Wire

TRIES: Final = 12  # failures in a row after which the most patient gives up: about four minutes
ROUNDS_MAX: Final = 5  # an admission may lapse before it is used; who loses it five times is not unlucky
STAND_STILL_S: Final = 3_600.0

Range = tuple[float, float]


class Visitor(FastHttpUser):
    """Comes, waits in line if there is one, goes in, looks around, pays, and is through."""

    abstract = True
    host = "http://127.0.0.1:8080"
    connection_timeout = 10.0
    network_timeout = 20.0  # a claim is held for up to 10 s

    is_app: ClassVar[bool] = False
    is_punctual: ClassVar[bool] = True  # its wait can be held against what it was told
    views: ClassVar[Range] = (0, 2)  # further looks at the page before paying
    think_s: ClassVar[Range] = (1.0, 5.0)
    patience_s: ClassVar[Range] = (5.0, 10.0)  # looks at a page that does not come, and reloads it
    again_s: ClassVar[Range] = (1.0, 4.0)  # looks at an error in place of the page, and reloads it

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.book = book_of(environment)
        self.random = self.book.next_random()
        self.wire = Wire(
            self.client,
            route_of(environment),
            is_app=self.is_app,
            hosts=hosts_of(environment, self.host),
            patience_s=self.random.uniform(*self.patience_s),
        )
        self.pays = bool(route_of(environment).pay_path)
        self.admission = Admission()
        self.seat = Seat()
        self.arrived_s = 0.0
        self.told: Told | None = None
        self.visit_seen = Visit(type(self).__name__, 0.0)

    @task
    def visit(self) -> None:
        gevent.sleep(self.random.uniform(0, ARRIVE_WITHIN_S))
        self.book.count(Count.ARRIVED)
        seen = self.visit_seen
        seen.arrived_s = time.monotonic()
        try:
            outcome = self.live()
            self.book.count(outcome)
            seen.outcome, seen.ended_s = outcome, time.monotonic()
        finally:  # also where the run ends first
            self.book.visited(seen)
        self.wire.hang_up()
        self.client.cookiejar.clear()
        while True:  # till the run ends: see crowd.py
            gevent.sleep(STAND_STILL_S)

    def live(self) -> Outcome:
        for _ in range(ROUNDS_MAX):
            self.arrived_s, self.told, self.seat = time.monotonic(), None, Seat()
            self.wire.begin(secrets.token_hex(16))
            ended = self.come_in()
            if isinstance(ended, End):
                return ended.outcome
            self.note_entry()
            if outcome := self.shop():
                return outcome
        return Outcome.GAVE_UP

    def come_in(self) -> In | End:
        return self.wait_in_line(Place(self.seat))

    def habit(self, step: Step) -> Step:
        """What this kind of visitor makes of a step that the page would take."""
        return step

    def wait_in_line(self, place: Place) -> In | End:
        """From the first look at the page until it, or an end, is reached."""
        step: Step = Load()
        misses = 0
        while not isinstance(step, In | End):
            gevent.sleep(step.after_s)
            asked_s = time.monotonic()
            answer = self.ask(step)
            misses = 0 if is_expected(step, answer) else misses + 1
            if misses >= TRIES:
                return End(Outcome.GAVE_UP)
            self.note_status(place, step, answer, asked_s)
            following = next_step(step, answer, self.pause_after(step, misses))
            if following == End(Outcome.LOST):
                self.book.lost(Lost.OVER)
            step = self.habit(following)
        return step

    def pause_after(self, failed: Request, misses: int) -> float:
        """A page that failed is reloaded by hand; what the waiting page asks for backs off as it does."""
        if isinstance(failed, Load):
            return self.random.uniform(*self.again_s)
        return backoff_s(misses, self.random.random())

    def ask(self, step: Request) -> Answer:
        asked_s = time.monotonic()
        answer = self.wire.ask(step)
        if isinstance(step, Load):
            self.note_refusal(answer, asked_s)
        self.admission.note(answer, time.monotonic())
        return answer

    def note_refusal(self, answer: Answer, asked_s: float) -> None:
        if self.admission.is_wrongly_refused(answer, asked_s):
            self.book.fault(Count.WRONGLY_REFUSED, "an admitted request was answered as if it were not")
            self.admission = Admission()  # told once; it has to wait again

    def note_status(self, place: Place, step: Request, answer: Answer, asked_s: float) -> None:
        if isinstance(step, Load) or not is_expected(step, answer):
            return
        now_s = time.monotonic()
        if lost := place.note(answer.body):
            self.book.lost(lost)
        self.told = self.told or told_by(answer.body, now_s)
        is_grant = isinstance(step, Claim) and answer.body.get("state") == "admitted"
        if is_grant and self.seat.number is not None and not self.seat.has_entered:
            self.seat.has_entered = True  # asked once more, by another tab or a script, it is told the same entry again
            self.book.passed(DoorPass(self.seat.number, asked_s, now_s))
            if self.visit_seen.entered_s is None:
                self.visit_seen.claimed_s, self.visit_seen.granted_s = asked_s, now_s

    def note_entry(self) -> None:
        now_s = time.monotonic()
        self.book.count(Count.ENTERED)
        self.note_seen(now_s)
        for name in (Wait.UNTIL_ENTRY, f"{Wait.UNTIL_ENTRY}, {type(self).__name__}"):
            self.book.waited(name, now_s - self.arrived_s)
        if self.seat.number is None:
            self.book.count(Count.AT_ONCE)
        if self.told is None or not self.is_punctual:
            return
        since_s = now_s - self.told.at_s
        self.book.count(Count.TOLD)
        self.book.waited(Wait.SINCE_TOLD, since_s)
        self.book.waited(Wait.TOLD_P50, self.told.p50_s)
        self.book.waited(Wait.TOLD_P90, self.told.p90_s)
        for name, told_s in ((Count.BY_P50, self.told.p50_s), (Count.BY_P90, self.told.p90_s)):
            if since_s <= told_s:
                self.book.count(name)

    def note_seen(self, now_s: float) -> None:
        seen = self.visit_seen
        if seen.entered_s is not None:
            return  # it came in again, after its admission had lapsed
        seen.entered_s, seen.number = now_s, self.seat.number
        if self.told is not None and self.is_punctual:
            seen.told_s, seen.told_p50_s, seen.told_p90_s = self.told.at_s, self.told.p50_s, self.told.p90_s

    def shop(self) -> Outcome | None:
        """Look around and pay; None if the admission has lapsed meanwhile, and it has to come again."""
        for _ in range(self.random.randint(*map(round, self.views))):
            gevent.sleep(self.random.uniform(*self.think_s))
            answer = self.ask(Load())
            if answer.is_held or answer.is_over:
                return None if answer.is_held else Outcome.TURNED_AWAY
        gevent.sleep(self.random.uniform(*self.think_s))
        return self.pay() if self.pays else Outcome.SERVED

    def pay(self) -> Outcome | None:
        payout_key = secrets.token_hex(16)  # the same in every try: it pays once
        for _ in range(TRIES):
            asked_s = time.monotonic()
            answer = self.wire.pay(payout_key)
            self.note_refusal(answer, asked_s)
            self.admission.note(answer, time.monotonic())
            if answer.is_held or answer.is_page:
                return None if answer.is_held else Outcome.SERVED
            if answer.is_over:
                return Outcome.TURNED_AWAY
            gevent.sleep(max(answer.retry_after_s, self.random.uniform(*self.again_s)))
        return Outcome.GAVE_UP


class Patient(Visitor):
    """Waits as the page does, and looks around inside."""


class PaysAndGoes(Visitor):
    """Knows what it came for: one look, one payment, gone."""

    views = (0, 0)
    think_s = (0.2, 0.5)


class App(Visitor):
    """Speaks JSON and carries its tokens in headers, without the gateway's cookies."""

    is_app = True


class Reloader(Visitor):
    """Does not trust the page: loads it anew instead of waiting, and joins with its key each time."""

    reload_s: ClassVar[Range] = (2.0, 4.0)

    def habit(self, step: Step) -> Step:
        if isinstance(step, Poll):
            return Load(min(step.after_s, self.random.uniform(*self.reload_s)))
        return step


class Leaver(Visitor):
    """Closes the page without a word."""

    leaves_after_s: ClassVar[Range] = (3.0, 60.0)

    def live(self) -> Outcome:
        # Not by a timeout inside: Locust's client would take it for the network's.
        visit = gevent.spawn(super().live)
        try:
            visit.join(self.random.uniform(*self.leaves_after_s))
            outcome: Outcome = visit.get() if visit.ready() else Outcome.LEFT
            return outcome
        finally:
            visit.kill()


class Sleeper(Visitor):
    """Its phone goes to sleep while it waits, and comes back for the same place."""

    is_punctual = False
    sleep_s: ClassVar[Range] = (30.0, 180.0)
    has_slept = False

    def habit(self, step: Step) -> Step:
        if not isinstance(step, Poll) or self.has_slept:
            return step
        self.has_slept = True
        self.wire.hang_up()
        return replace(step, after_s=step.after_s + self.random.uniform(*self.sleep_s))


class FiveTabs(Visitor):
    """Opens the page in five tabs with one set of cookies and one key: one place, one entry, whichever tab gets in."""

    tabs: ClassVar[int] = 5
    open_within_s: ClassVar[float] = 2.0

    def come_in(self) -> In | End:
        first, group = SimpleQueue(), Group()
        try:
            for _ in range(self.tabs):
                group.spawn(self.open_tab, first)
            reached: In | End = first.get()
            return reached
        finally:
            group.kill()

    def open_tab(self, first: SimpleQueue) -> None:
        gevent.sleep(self.random.uniform(0, self.open_within_s))
        first.put(self.wait_in_line(Place(self.seat)))


class Hammer(Visitor):
    """A script: asks for everything ten times a second, its turn before it is called included, whatever it is told."""

    views = (0, 0)
    think_s = (0.0, 0.1)
    every_s: ClassVar[float] = 0.1
    turn = 0

    def habit(self, step: Step) -> Step:
        if isinstance(step, In | End | Join):
            return step
        if self.seat.number is None:
            return Load(self.every_s)  # no line was seen yet: nothing else can be asked for
        self.turn += 1
        return (Load, Claim, Poll)[self.turn % 3](self.every_s)


class Customer(FastHttpUser):
    """An ordinary customer beside the crowd, who asks or pays for something else once a second."""

    fixed_count = 5
    host = Visitor.host
    connection_timeout = network_timeout = 10.0
    every_s: ClassVar[float] = 1.0

    @task
    def ask(self) -> None:
        path, form = beside_of(self.environment)
        hosts = cycle(hosts_of(self.environment, self.host))
        headers = {"Accept": "application/json"} | (FORM_BODY if form else {})
        due_s = time.monotonic() + book_of(self.environment).next_random().uniform(0, self.every_s)
        while path:
            gevent.sleep(max(0.0, due_s - time.monotonic()))
            method = "POST" if form else "GET"
            self.client.request(method, next(hosts) + path, name="beside", headers=headers, data=form or None)
            due_s = max(due_s + self.every_s, time.monotonic())
        gevent.sleep(STAND_STILL_S)


def shares(weights: Mapping[type[Visitor], int]) -> None:
    """Who the crowd is made of, in parts."""
    for kind, weight in weights.items():
        kind.weight = weight
