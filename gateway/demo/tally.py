"""Owns what a run is remembered by: how each visitor ended, the live counts, and what ordinary customers met."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.demo.plan import CrowdSettings, Plan


class Outcome(StrEnum):
    SERVED = "served"  # was told that the payout is done
    LEFT = "left"  # as planned, without a word
    NO_SHOW = "no-show"  # as planned, never went in or never paid
    GAVE_UP = "gave-up"  # was ready to wait, and only met failures
    TURNED_AWAY = "turned-away"  # the room said that it is over
    UNFINISHED = "unfinished"  # the run ended first


@dataclass(slots=True)
class Tally:
    """What the whole crowd has seen so far; the live line and the report are made of it."""

    arrived: int = 0
    waiting: int = 0
    inside: int = 0
    requests: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)  # "what how" -> requests
    places_changed: int = 0  # a visitor that joined again got another number (promise 4)
    positions_grown: int = 0  # a position grew and the status named no cause
    lag_max_s: float = 0.0  # how late this process itself came to its turn: above that, times are the machine's


@dataclass(slots=True)
class Journey:
    """What happened to one visitor, on the monotonic clock."""

    plan: Plan
    arrived_s: float = 0.0
    number: int | None = None
    claimed_s: float | None = None
    granted_s: float | None = None
    ended_s: float | None = None
    outcome: Outcome = Outcome.UNFINISHED


@dataclass(slots=True)
class BalanceTimes:
    """What the ordinary customers met; a failed question counts with the time it took to fail."""

    asked_ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class CrowdRun:
    """A run while it happens and after it: the tally is live, the journeys are filled in as visitors end."""

    settings: CrowdSettings
    tally: Tally = field(default_factory=Tally)
    balance: BalanceTimes = field(default_factory=BalanceTimes)
    journeys: list[Journey] = field(default_factory=list)
    began_s: float = 0.0
    ended_s: float = 0.0
    seconds_max: float = 0.0  # the crowd is sent home then at the latest
    is_cut_short: bool = False  # the time was up while some were still on their way
