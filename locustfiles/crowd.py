"""Owns what the runs of all incidents share: their options, their arrivals, and their figures over all workers.

Theory of operation. Locust holds a *number of users*; a crowd is *arrivals*. Here the shape's number is how many have
come so far, and a visitor whose visit is over stands still until the end instead of ending: workers fill up what is
missing of those alive, and would send a new visitor for each that ended. So what Locust calls users is who has come.
Once a second the shape names those of the next second, and each waits its own part of it before its first request.

Every figure is a row of Locust's own statistics (kinds VISIT and WAIT), which workers report, the master adds up, and
the web page, `--csv` and `--json` show. Only what the door looked like needs each claim by itself: workers hand those
on with their reports. All processes of one machine share the monotonic clock; claims are compared within a machine.
"""

from __future__ import annotations

import argparse
import csv
import socket
import time
from collections import defaultdict, deque
from dataclasses import astuple, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import gevent
from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from gateway.demo.figures import DoorPass
from gateway.demo.options import SEED_MAX, file_to_write, number, web_address, whole
from locustfiles.curves import Curve
from locustfiles.figures import Count, Figures, Lost, Wait, last_words
from locustfiles.record import HELD, Asked, Record, Visit
from locustfiles.waiting import Outcome
from locustfiles.wire import Route

PASSES_MAX: Final = 100_000  # of each machine, the newest; 100 bytes each
LAG_EVERY_S: Final = 0.05
FLUSH_EVERY_S: Final = 1.0
SPAWN_RATE_MIN: Final = 1.0  # Locust takes no less
ARRIVE_WITHIN_S: Final = 1.0  # a tick of the shape: those of the next second are started now, and wait their part of it
LAST_ROWS_S: Final = 2 * CSV_STATS_INTERVAL_SEC  # a runner that quits writes nothing any more, and hardly waits for
LAST_REPORTS_S: Final = WORKER_REPORT_INTERVAL + LAST_ROWS_S  # its workers: what was seen last has to come before
THROUGH_AFTER_S: Final = 5.0  # workers report every 3 s


@dataclass(frozen=True, slots=True)
class Incident:
    """One crowd: when it comes, how much of it by default, and what it came for on the demo bank."""

    curve: Curve
    crowd: float
    route: Route
    beside: str = "/balance"  # a route that the crowd has nothing to do with, asked by ordinary customers
    beside_form: str = ""  # what they send there


@dataclass(slots=True)
class Door:
    """What this machine's visitors saw of the door, and how late its processes came to their turn."""

    passes: deque[DoorPass] = field(default_factory=lambda: deque(maxlen=PASSES_MAX))
    lag_s: float = 0.0


class Book:
    """The figures as this process writes them, and on the master those of all processes."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._own = Door()
        self.doors: defaultdict[str, Door] = defaultdict(Door)  # by machine
        self._record: Record | None = None
        self._visitors = 0

    def count(self, name: str) -> None:
        self._environment.stats.get(name, "VISIT").log(0, 0)

    def waited(self, name: str, seconds: float) -> None:
        self._environment.stats.get(name, "WAIT").log(round(seconds * 1e3), 0)

    def passed(self, seen: DoorPass) -> None:
        self._own.passes.append(seen)

    def keep_record(self, path: Path) -> None:
        self._record = Record(path)

    def began(self, at_s: float) -> None:
        if self._record is not None:
            self._record.began(at_s)

    def asked(self, request: Asked) -> None:
        if self._record is not None:
            self._record.asked(request)

    def visited(self, visit: Visit) -> None:
        if self._record is not None:
            self._record.visited(visit)

    def next_random(self) -> Random:
        """The next visitor's own. With `--seed`, the same for the same visitor of the same process."""
        self._visitors += 1
        seed = _options(self._environment).seed
        # Without: from the system, as processes that are forked begin with the same state of the shared one.
        process = getattr(self._environment.runner, "worker_index", 0)
        return Random() if seed is None else Random(f"{seed} {process} {self._visitors}")

    def fault(self, name: Count, sentence: str) -> None:
        """Counted, and told among Locust's failures, so that the run ends with exit code 1."""
        self.count(name)
        self._environment.stats.log_error("VISIT", name, sentence)

    def lost(self, how: Lost) -> None:
        self.fault(Count.LOST_PLACES, how)

    def open(self) -> None:
        """Every row is there from the start: none must say 0."""
        for name in (*Count, *Outcome):
            self._environment.stats.get(name, "VISIT")
        for wait in Wait:
            self._environment.stats.get(wait, "WAIT")

    def hand_over(self) -> dict[str, Any]:
        """What the master cannot read from Locust's rows."""
        own, self._own = self._own, Door()
        return {"machine": socket.gethostname(), "passes": [astuple(seen) for seen in own.passes], "lag_s": own.lag_s}

    def take_over(self, handed: dict[str, Any]) -> None:
        door = self.doors[handed["machine"]]
        door.passes.extend(DoorPass(*seen) for seen in handed["passes"])
        door.lag_s = max(door.lag_s, handed["lag_s"])

    def under_way(self) -> int:
        """Who has come and whose visit is not over, as far as workers have reported."""
        stats = self._environment.stats
        ended = sum(stats.get(outcome, "VISIT").num_requests for outcome in Outcome)
        return stats.get(Count.ARRIVED, "VISIT").num_requests - ended

    def figures(self) -> Figures:
        self.take_over(self.hand_over())  # what this process saw itself
        rows = self._environment.stats.entries.items()
        return Figures(
            counts={name: entry.num_requests for (name, kind), entry in rows if kind == "VISIT"},
            waits={
                name: (entry.get_response_time_percentile(0.5) / 1e3, entry.get_response_time_percentile(0.9) / 1e3)
                for (name, kind), entry in rows
                if kind == "WAIT" and entry.num_requests
            },
            passes=[door.passes for door in self.doors.values()],
            lag_s=max((door.lag_s for door in self.doors.values()), default=0.0),
        )

    def close_record(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            record.close()

    def keep_flushing(self) -> None:
        while self._record is not None:
            self._record.flush()
            gevent.sleep(FLUSH_EVERY_S)

    def watch_lag(self) -> None:
        while True:
            due_s = time.monotonic() + LAG_EVERY_S
            gevent.sleep(LAG_EVERY_S)
            self._own.lag_s = max(self._own.lag_s, time.monotonic() - due_s)


_BOOKS: Final[WeakKeyDictionary[Environment, Book]] = WeakKeyDictionary()


def book_of(environment: Environment) -> Book:
    """The one book of this process."""
    return _BOOKS.setdefault(environment, Book(environment))


class Arrivals(LoadTestShape):
    """How many have come, by the incident's curve; the run ends with `-t`, or when all have come and all are through."""

    abstract = True
    use_common_options = True
    incident: ClassVar[Incident]

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        curve, options = self.incident.curve, _options(self.runner.environment)
        now_s: float = self.get_run_time()
        day_s = max(0.0, now_s + ARRIVE_WITHIN_S - options.quiet) * options.pace
        is_through = (
            now_s - options.quiet > curve.ends_s / options.pace + THROUGH_AFTER_S
            and book_of(self.runner.environment).under_way() <= 0
        )
        if is_through or (options.run_time and now_s >= options.run_time):
            self.runner.stop()
            gevent.sleep(LAST_REPORTS_S if isinstance(self.runner, MasterRunner) else LAST_ROWS_S)
            return None
        # Customers beside the crowd are there before it.
        customers = sum(kind.fixed_count for kind in self.runner.user_classes)
        come = customers + curve.arrived_by(day_s, options.crowd)
        return come, max(SPAWN_RATE_MIN, come - self.runner.target_user_count)


def stage(incident: Incident) -> None:
    """Hook options and figures into Locust, for the file that calls this."""

    @events.init_command_line_parser.add_listener
    def add_options(parser: LocustArgumentParser) -> None:
        _add_options(parser, incident)

    @events.init.add_listener
    def watch(environment: Environment, **_: Any) -> None:
        book = book_of(environment)
        gevent.spawn(book.watch_lag)
        _keep_record(environment, book, _options(environment).record)

    @events.test_start.add_listener
    def open_book(environment: Environment) -> None:
        book_of(environment).open()

    @events.quitting.add_listener
    def close_book(environment: Environment) -> None:
        book_of(environment).close_record()
        if not isinstance(environment.runner, WorkerRunner):
            _tell(book_of(environment).figures(), _options(environment).csv_prefix)

    @events.report_to_master.add_listener
    def hand_over(data: dict[str, Any], **_: Any) -> None:
        for book in _BOOKS.values():
            data["door"] = book.hand_over()

    @events.worker_report.add_listener
    def take_over(data: dict[str, Any], **_: Any) -> None:
        for book in _BOOKS.values():
            book.take_over(data["door"])


def _keep_record(environment: Environment, book: Book, path: Path | None) -> None:
    if path is None:
        return
    book.keep_record(path)
    gevent.spawn(book.keep_flushing)

    @environment.events.test_start.add_listener
    def began(environment: Environment) -> None:
        if not isinstance(environment.runner, WorkerRunner):
            book.began(time.monotonic() + _options(environment).quiet)

    @environment.events.request.add_listener
    def note(name: str, response_time: float, response: Any, exception: Exception | None, **_: Any) -> None:
        is_held = (response.headers or {}).get("waitroom-state") == "waiting"
        result = HELD if is_held or response.status_code == 403 else ""
        if exception is not None:
            result = f"{response.status_code}" if response.status_code else type(exception).__name__
        book.asked(Asked(round(time.monotonic(), 3), name, result, round(response_time, 1)))


def route_of(environment: Environment) -> Route:
    options = _options(environment)
    return Route(options.room, options.entry, options.pay_path, options.pay_form)


def beside_of(environment: Environment) -> tuple[str, str]:
    """The route that ordinary customers ask, '' for none, and the form they send there, '' for a GET."""
    options = _options(environment)
    return options.beside, options.beside_form


def hosts_of(environment: Environment, first: str) -> tuple[str, ...]:
    return (first, *_options(environment).also)


def _options(environment: Environment) -> argparse.Namespace:
    options: argparse.Namespace | None = environment.parsed_options
    assert options is not None, "run by the locust command"
    return options


def _add_options(parser: LocustArgumentParser, incident: Incident) -> None:
    route = incident.route
    parser.add_argument(
        "--crowd",
        type=number(0, 10),
        default=incident.crowd,
        help=f"what share of the {incident.curve.visitors:,} who came is sent (%(default)s)",
    )
    parser.add_argument(
        "--pace", type=number(1, 10_000), default=1.0, help="how often faster than the day the curve runs (%(default)g)"
    )
    parser.add_argument(
        "--quiet",
        type=number(0, 3_600),
        default=0.0,
        help="seconds of ordinary customers alone before it (%(default)g)",
    )
    parser.add_argument("--room", default=route.room, help="the room's id (%(default)s)")
    parser.add_argument("--entry", default=route.entry, help="the protected page they come for (%(default)s)")
    parser.add_argument("--pay-path", default=route.pay_path, help="where its form goes; '' for none (%(default)s)")
    parser.add_argument(
        "--pay-form", default=route.pay_form, help="the form's fields, {key} for a key that pays once (%(default)s)"
    )
    parser.add_argument(
        "--beside", default=incident.beside, help="the route that ordinary customers ask; '' for none (%(default)s)"
    )
    parser.add_argument(
        "--beside-form", default=incident.beside_form, help="the form they send there; '' for a GET (%(default)s)"
    )
    parser.add_argument(
        "--also",
        type=web_address,
        action="append",
        default=[],
        metavar="URL",
        help="one more gateway: requests go to it and to --host in turn; may be repeated",
    )
    parser.add_argument("--record", type=file_to_write, metavar="FILE", help="every request and visit, a line each")
    parser.add_argument("--seed", type=whole(0, SEED_MAX), help="the same tempers again (none: new ones)")


def _tell(figures: Figures, csv_prefix: str | None) -> None:
    print(last_words(figures), flush=True)
    if csv_prefix:
        with Path(f"{csv_prefix}_visits.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("Name", "Value"), *figures.rows()])
