"""Owns every metric: its name, labels and buckets. Labels come from configuration or from the enumerations below.

Gauges of a room are set from its board and so are equal on every gateway: take any (`max by (room)`). Counters and
histograms count what this process did: sum them. `door_held_seconds_total` is time, and passes alike for all: take any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import partial
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily

from gateway.model import Room, RoomSettings

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, that nobody asked for


class Via(StrEnum):
    CLAIM = "claim"
    INSTANT = "instant"


class Ending(StrEnum):
    """How a visitor's way ended: in the line (left, absent, reset), or inside (lapsed, released)."""

    LEFT = "left"
    ABSENT = "absent"
    LAPSED = "lapsed"
    RELEASED = "released"
    RESET = "reset"


class Join(StrEnum):
    NEW = "new"
    KNOWN = "known"
    PROVISIONAL = "provisional"
    FULL = "full"
    SOLD_OUT = "sold_out"
    CLOSED = "closed"
    SHED = "shed"


class Held(StrEnum):
    """What kept the door shut, or idle (`nobody` called was there to claim)."""

    RATE = "rate"
    CAP = "cap"
    STOCK = "stock"
    PAUSED = "paused"
    UPSTREAM = "upstream"
    RECOVERING = "recovering"
    REDIS = "redis"
    NOBODY = "nobody"


class Kind(StrEnum):
    """What a request on the public port turned out to be."""

    ADMITTED = "admitted"
    BYPASSED = "bypassed"
    UNPROTECTED = "unprotected"
    PAGE = "page"
    TURNED_AWAY = "turned_away"
    JOIN = "join"
    STATUS = "status"
    CLAIM = "claim"
    LEAVE = "leave"
    BOARD = "board"
    AUTH = "auth"
    OTHER = "other"
    REFUSED = "refused"


class Shed(StrEnum):
    """What was refused to keep a limit."""

    CONNECTION = "connection"
    JOIN = "join"
    POLL = "poll"  # answered from memory
    CLAIM = "claim"  # told at once to come again, not held
    ROOM_IN_FLIGHT = "room_in_flight"
    UPSTREAM_IN_FLIGHT = "upstream_in_flight"
    ADMISSION_IN_FLIGHT = "admission_in_flight"


class Loss(StrEnum):
    """Why a worker ended that was not asked to."""

    DIED = "died"
    HUNG = "hung"


# Buckets. A poll takes 0.1 ms of work and a claim may be held for 10 s.
REQUEST_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
# Banks answer in tens of milliseconds, and reads time out at 30 s unless configured otherwise.
UPSTREAM_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# 5 ms is what no script may exceed (promise 15); calls time out well under a second.
REDIS_BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1)
# From an instant entry to the three hours that a point cash-out may take.
WAIT_BUCKETS_S: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 14_400)
# Real wait by promised wait: 1 is exact, 0.8 to 1.25 is what a visitor calls right, 2 to 3 the naive formula's error.
ETA_BUCKETS: Final = (0.25, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5)


class RoomMetrics:
    """One room's metrics, each already bound to its labels: `room.joins[Join.NEW].inc()`."""

    def __init__(self, families: _Families, room: Room) -> None:
        name = room.id
        self.entries = {via: families.entries.labels(name, via) for via in Via}
        self.ended = {ending: families.ended.labels(name, ending) for ending in Ending}
        self.joins = {result: families.joins.labels(name, result) for result in Join}
        self.door_held_s = {reason: families.door_held.labels(name, reason) for reason in Held}
        self.audit_lost = families.audit_lost.labels(name)
        self.bypassed = {rule.name: families.bypassed.labels(name, rule.name) for rule in room.bypass}
        self.calls, self.no_shows = families.calls.labels(name), families.no_shows.labels(name)
        self.wait_s, self.eta_error = families.wait.labels(name), families.eta_error.labels(name)
        self._waiting, self._called = families.waiting.labels(name), families.called.labels(name)
        self._parked, self._active = families.parked.labels(name), families.active.labels(name)
        self._setting = partial(families.setting.labels, name)
        self._board_age = families.board_age.labels(name)
        self._board_age.set(float("inf"))  # no board yet
        self.show_settings(room.settings)

    def show_counts(self, *, waiting: int, called: int, parked: int, active: int) -> None:
        """The board's counts."""
        self._waiting.set(waiting)
        self._called.set(called)
        self._parked.set(parked)
        self._active.set(active)

    def show_settings(self, settings: RoomSettings, rate_in_force_per_s: float | None = None) -> None:
        """The settings in force. A raise of the rate takes effect in steps: what the door applies has its own row."""
        per_s = settings.drain_rate.per_second
        rows: dict[str, float] = {
            "drain_rate": per_s,
            "rate_in_force": per_s if rate_in_force_per_s is None else rate_in_force_per_s,
            "burst": settings.burst,
            "active_max": settings.active_max,
            "paused": settings.paused,
            "stock": float("inf") if settings.stock is None else settings.stock,
        }
        for setting, value in rows.items():
            self._setting(setting).set(value)

    def watch_board_age(self, age_s: Callable[[], float]) -> None:
        """Asked at each scrape: a gateway that lost Redis must show an age that grows."""
        self._board_age.set_function(age_s)

    def entered(self, via: Via, waited_s: float, expected_s: float | None) -> None:
        """An entry, how long it took since joining, and how that compares with what was promised then."""
        self.entries[via].inc()
        self.wait_s.observe(waited_s)
        if expected_s:
            self.eta_error.observe(waited_s / expected_s)


class UpstreamMetrics:
    """One upstream's metrics. `failures` takes the kinds of `upstream.FAILURES`, a fixed list."""

    def __init__(self, families: _Families, name: str) -> None:
        self._failures = partial(families.upstream_failures.labels, name)
        self._in_flight = families.upstream_in_flight.labels(name)

    def failed(self, kind: str) -> None:
        self._failures(kind).inc()

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        self._in_flight.set_function(count)


class Durations:
    """A histogram counted by hand: every request adds to two, and the library's own locks cost ten times as much."""

    def __init__(self, name: str, about: str, label: str, values: Iterable[str], buckets_s: Sequence[float]) -> None:
        self._name, self._about, self._label, self._buckets_s = f"waitroom_{name}", about, label, buckets_s
        # A count for each bucket, and the sum at the end: one look-up, as hashing an enumeration's member takes 0.2 us.
        self._rows: dict[str, list[float]] = {value: [0] * (len(buckets_s) + 1) + [0.0] for value in values}

    def add(self, value: str, seconds: float) -> None:
        """`value`: of the label."""
        row = self._rows[value]
        row[bisect_left(self._buckets_s, seconds)] += 1
        row[-1] += seconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The library asks for it at each scrape."""
        family = HistogramMetricFamily(self._name, self._about, labels=[self._label])
        bounds = [*(str(float(bound)) for bound in self._buckets_s), "+Inf"]
        for value, (*counts, total_s) in self._rows.items():
            family.add_metric([value], list(zip(bounds, accumulate(counts), strict=True)), total_s)
        yield family


class Metrics:
    """All metrics of one process, in a registry of their own; labels that are not configured are a `KeyError`."""

    def __init__(self, rooms: Iterable[Room], upstreams: Iterable[str]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        families = self._families = _Families(self._registry)
        self.rooms = {room.id: RoomMetrics(families, room) for room in rooms}
        self.upstreams = {name: UpstreamMetrics(families, name) for name in upstreams}
        self.request_seconds = Durations("request_seconds", "Requests answered.", "kind", Kind, REQUEST_BUCKETS_S)
        self.upstream_seconds = Durations(
            "upstream_seconds", "Until the upstream's answer began.", "upstream", self.upstreams, UPSTREAM_BUCKETS_S
        )
        self._registry.register(self.request_seconds)
        self._registry.register(self.upstream_seconds)
        self.shed = {kind: families.shed.labels(kind) for kind in Shed}
        for loss in Loss:
            families.workers_lost.labels(loss)
        self._redis_scripts: dict[str, Histogram] = {}

    def redis_answered(self, script: str, seconds: float) -> None:
        """A script's round trip; scripts are the files of `queue/lua`."""
        child = self._redis_scripts.get(script)
        if child is None:
            child = self._redis_scripts[script] = self._families.redis.labels(script)
        child.observe(seconds)

    def show_redis(self, *, is_up: bool) -> None:
        self._families.redis_up.set(is_up)

    def show_keys(self, signing: str, verifying: Iterable[str]) -> None:
        """The `kid`s in use, after a start or a reload."""
        self._families.key_info.clear()
        for kid in verifying:
            self._families.key_info.labels(kid, "verify").set(1)
        self._families.key_info.labels(signing, "sign").set(1)

    def show_config(self, digest: str) -> None:
        """The configuration in force, after a start or a reload that succeeded."""
        self._families.config_info.clear()
        self._families.config_info.labels(digest).set(1)
        self._families.config_reload_success.set(1)

    def show_failed_reload(self) -> None:
        self._families.config_reload_success.set(0)

    def collect(self) -> Iterable[Metric]:
        """All families as they stand now."""
        return self._registry.collect()


class ParentMetrics:
    """What the parent of several workers counts, which serves nothing itself."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        lost = _workers_lost(self._registry)
        self.lost = {loss: lost.labels(loss) for loss in Loss}

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


def _workers_lost(registry: CollectorRegistry) -> Counter:
    return Counter(
        "workers_lost_total",
        "Workers that ended unasked, and were replaced.",
        ["reason"],
        namespace="waitroom",
        registry=registry,
    )


class _Families:
    """The metrics before they are bound to labels: the one list of names."""

    def __init__(self, registry: CollectorRegistry) -> None:

        def gauge(name: str, about: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(name, about, labels, namespace="waitroom", registry=registry)

        def counter(name: str, about: str, labels: Sequence[str]) -> Counter:
            return Counter(name, about, labels, namespace="waitroom", registry=registry)

        def histogram(name: str, about: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
            return Histogram(name, about, labels, namespace="waitroom", registry=registry, buckets=buckets)

        self.waiting = gauge("waiting", "Present and absent places above the cursor.", ["room"])
        self.called = gauge("called", "Places whose claim window is open.", ["room"])
        self.parked = gauge("parked", "Places passed over because absent, and kept.", ["room"])
        self.active = gauge("active", "Slots held by admissions.", ["room"])
        self.setting = gauge("setting", "Settings in force; rates per second, +Inf is no limit.", ["room", "setting"])
        self.board_age = gauge("board_age_seconds", "Age of the board this gateway answers from.", ["room"])

        self.entries = counter("entries_total", "Entries granted.", ["room", "via"])
        self.ended = counter("ended_total", "Visits that ended.", ["room", "reason"])
        self.joins = counter("joins_total", "Joins answered.", ["room", "result"])
        self.calls = counter("calls_total", "Places called.", ["room"])
        self.no_shows = counter("no_shows_total", "Calls whose claim window ran out.", ["room"])
        self.bypassed = counter("bypassed_total", "Requests let past the queue by a rule.", ["room", "rule"])
        self.audit_lost = counter("audit_lost_total", "Events that Redis or [audit] file could not take.", ["room"])
        self.door_held = counter("door_held_seconds_total", "Time that nobody entered, and why.", ["room", "reason"])
        self.wait = histogram("wait_seconds", "From joining to entry.", ["room"], WAIT_BUCKETS_S)
        self.eta_error = histogram("eta_error_ratio", "Real by promised wait.", ["room"], ETA_BUCKETS)

        self.upstream_failures = counter("upstream_failures_total", "Failed exchanges.", ["upstream", "kind"])
        self.upstream_in_flight = gauge("upstream_in_flight", "Requests the upstream is working on.", ["upstream"])

        self.shed = counter("shed_total", "Requests refused to keep a limit.", ["kind"])
        self.redis_up = gauge("redis_up", "1 when the last call to Redis succeeded.")
        self.redis = histogram("redis_seconds", "Round trips of scripts.", ["script"], REDIS_BUCKETS_S)
        self.key_info = gauge("key_info", "Keys loaded, by what they are used for.", ["kid", "use"])
        self.config_info = gauge("config_info", "The configuration in force.", ["hash"])
        self.config_reload_success = gauge("config_reload_success", "0 when the last reload was refused.")
        self.workers_lost = _workers_lost(registry)  # counted by the parent of workers
