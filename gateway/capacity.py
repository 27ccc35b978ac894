"""What a crowd of a given size needs: gateways, edge, Redis, bandwidth and money, from what one core was measured to do.

Theory of operation
    A crowd arrives evenly, is let in at the drain rate, and everybody else waits. Each arrival costs a page and a join, each
    second of waiting its part of a poll (the server says when, so the length of the line alone settles how many there are), each
    entry a claim, and each visit so many requests through the proxy. `Costs` says what each takes of a core: figures of `make
    bench` (docs/capacity.md), not of your machines. What comes out is a plan to be tested, not a promise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.model import SEEN_MODULUS, Rate
from gateway.rules.policy import POLL_JITTER, POLL_S, POLL_SHARE

# Of a core that is planned with. `bench.million` used 1.7 times (Redis 2.4) what the costs of full batches come to: with time
# between them, batches are small. The rest is for bursts and a lost machine.
LOAD: Final = 0.4


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of one core, and bytes, for one of each."""

    page_us: float = 32
    join_us: float = 78
    poll_us: float = 43
    claim_us: float = 186
    request_us: float = 145
    tls_us: float = 300  # a handshake, P-256: where TLS ends, which is not here
    edge_page_us: float = 10
    edge_request_us: float = 27
    edge_pass_us: float = 20  # what an edge needs to pass a join, poll or claim on to a gateway
    join_redis_us: float = 6.4
    mark_redis_us: float = 0.2
    claim_redis_us: float = 20
    beat_redis_us: float = 38_000  # a room a second: ten ticks, four boards
    place_bytes: float = 85
    page_bytes: float = 11_000  # compressed, as browsers ask for it
    call_bytes: float = 1_700  # a join, poll or claim, both ways, heads included


@dataclass(frozen=True, slots=True)
class Event:
    """A crowd and what waits for it."""

    arrivals: int
    within_s: float
    rate: Rate
    requests: int = 10  # of a visit, through the proxy
    has_edge: bool = False
    core_price: float = 0.04  # of a core for an hour, in whatever you pay with


@dataclass(frozen=True, slots=True)
class Need:
    """One line of the plan."""

    what: str
    figure: str
    why: str


def polls_per_s(waiting: float, rate_s: float) -> float:
    """How often a line of so many asks, all together, when each comes as the server says (design.md, section 6)."""
    low_s, high_s = POLL_S
    jitter = 1 + POLL_JITTER / 2
    near, far = rate_s * low_s * POLL_SHARE, rate_s * high_s * POLL_SHARE  # the places where the two limits end
    total = min(waiting, near) / (low_s * jitter)
    if waiting > near:
        total += rate_s * POLL_SHARE / jitter * math.log(min(waiting, far) / near)
    return total + max(0.0, waiting - far) / (high_s * jitter)


@dataclass(frozen=True, slots=True)
class Load:
    """The busiest second, and how long it all takes."""

    arrivals_s: float
    entries_s: float
    waiting: float
    polls_s: float
    clear_s: float  # from the first arrival to the last entry

    @classmethod
    def of(cls, event: Event) -> Load:
        arrivals_s = event.arrivals / event.within_s
        entries_s = min(arrivals_s, event.rate.per_second)
        waiting = max(0.0, event.arrivals - entries_s * event.within_s)
        return cls(
            arrivals_s,
            entries_s,
            waiting,
            polls_per_s(waiting, entries_s),
            max(event.within_s, event.arrivals / entries_s),
        )


def gateway_cores(load: Load, costs: Costs, requests: int, *, has_edge: bool) -> float:
    """At the busiest second; an edge serves first pages and whoever was admitted."""
    busy_us = load.arrivals_s * costs.join_us + load.polls_s * costs.poll_us + load.entries_s * costs.claim_us
    if not has_edge:
        busy_us += load.arrivals_s * costs.page_us + load.entries_s * requests * costs.request_us
    return busy_us / 1e6


def redis_cores(load: Load, costs: Costs) -> float:
    busy_us = load.arrivals_s * costs.join_redis_us + load.polls_s * costs.mark_redis_us
    return (busy_us + load.entries_s * costs.claim_redis_us + costs.beat_redis_us) / 1e6


def edge_cores(load: Load, costs: Costs, requests: int) -> float:
    passed = load.arrivals_s + load.polls_s + load.entries_s
    busy_us = load.arrivals_s * (costs.tls_us + costs.edge_page_us) + passed * costs.edge_pass_us
    return (busy_us + load.entries_s * requests * costs.edge_request_us) / 1e6


def plan(event: Event, costs: Costs | None = None) -> list[Need]:
    """What the event needs, line by line."""
    return list(_needs(event, Load.of(event), costs or Costs()))


def _needs(event: Event, load: Load, costs: Costs) -> Iterator[Need]:
    yield Need("arrivals", f"{load.arrivals_s:,.0f}/s", f"{event.arrivals:,} within {_span(event.within_s)}")
    yield Need("waiting, at most", f"{load.waiting:,.0f}", f"the door lets {load.entries_s:,.0f}/s in ({event.rate})")
    yield Need("over after", _span(load.clear_s), "the last one enters; a line nobody can wait out wants a higher rate")
    yield Need("polls", f"{load.polls_s:,.0f}/s", "each as often as it is told, at the longest line")
    gateways = gateway_cores(load, costs, event.requests, has_edge=event.has_edge)
    yield Need(
        "gateways",
        _cores_text(max(2, _cores(gateways))),
        f"{gateways:.2f} cores of work, planned at {LOAD:.0%}; a worker a core, on 2 machines at least",
    )
    edges = edge_cores(load, costs, event.requests) if event.has_edge else load.arrivals_s * costs.tls_us / 1e6
    where = "HAProxy, with TLS" if event.has_edge else "whatever ends TLS before the gateways"
    yield Need("edge", _cores_text(_cores(edges)), f"{edges:.2f} cores of work: {where}")
    redis = redis_cores(load, costs)
    yield Need(
        "Redis", f"{redis:.0%} of one core", "one room is one slot, hence one server; rooms spread over a Cluster"
    )
    memory = load.waiting * costs.place_bytes / 2**20
    yield Need(
        "Redis memory", f"{max(64.0, 2 * memory):,.0f} MiB", f"{memory:,.0f} MiB of places, twice for a copy on write"
    )
    calls_s = load.polls_s + load.arrivals_s + load.entries_s
    bits = 8 * (load.arrivals_s * costs.page_bytes + calls_s * costs.call_bytes) / 1e6
    yield Need("bandwidth", f"{bits:,.0f} Mbit/s", "pages, joins, polls and claims; not what the upstream sends")
    hours = load.clear_s / 3600
    cores = max(2, _cores(gateways)) + _cores(edges) + _cores(redis)
    yield Need(
        "money", f"{cores * hours * event.core_price:,.2f}", f"{cores} cores for {hours:.1f} h at {event.core_price:g}"
    )
    yield _wall(load, gateways, redis, bits)


def _wall(load: Load, gateways: float, redis: float, bits: float) -> Need:
    """What gives first when twice as many come, and what moves it."""
    walls = (
        (
            load.waiting / SEEN_MODULUS,
            f"places of one room ({SEEN_MODULUS:,})",
            "who comes later is told that the line is full: a room for each of several groups",
        ),
        (
            redis / LOAD,
            "Redis, one core a room",
            "`joins_per_s` spreads the joins over seconds, nobody loses a place; or several rooms",
        ),
        (bits / 10_000, "10 Gbit/s", "a CDN or the edge's cache before the first page"),
        (gateways / LOAD / 64, "64 gateway cores", "an edge before them; it takes first pages and the admitted"),
    )
    share, what, cure = max(walls)
    state = "BEYOND IT" if share > 1 else f"{share:.0%} used"
    return Need("first wall", f"{what}: {state}", cure)


def _cores(work: float) -> int:
    """Whole ones for so many cores of work, none of them busier than planned."""
    return max(1, math.ceil(work / LOAD))


def _cores_text(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"


def _span(seconds: float) -> str:
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def text_of(event: Event) -> str:
    """The plan as a table."""
    needs = plan(event)
    wide, wider = (
        max(len(part) for part in column) for column in zip(*((n.what, n.figure) for n in needs), strict=True)
    )
    return "\n".join(f"{need.what.ljust(wide)}  {need.figure.ljust(wider)}  {need.why}".rstrip() for need in needs)
