"""Owns the demo's report: what one run measured, and two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.demo.entrylog import Entry
from gateway.demo.figures import (
    WINDOWS_S,
    DoorPass,
    busiest_windows,
    overtaken_at_door,
    percentile,
    places_overtaken,
    promise_one_excess,
)
from gateway.demo.plan import Kind
from gateway.demo.tally import CrowdRun, Journey, Outcome

# Later than that, and the machine, not the gateway, decides when an entry reaches the bank: the verdict says so.
LAG_NOTED_S: Final = 0.1
LABEL_WIDTH: Final = 44
COLUMN_WIDTH: Final = 18


@dataclass(frozen=True, slots=True)
class Door:
    """The drain rate and burst that stood in the gateway's configuration."""

    rate_per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class CrowdReport:
    """What one run measured. Times of entries are the bank's own; the rest is what visitors met."""

    name: str
    crowd: dict[str, Any]  # the settings: two reports compare only if these are equal
    seconds: float  # after that long the crowd was to be sent home
    took_s: float
    is_cut_short: bool  # and was, with some still on their way
    still_waiting: int  # of those: numbers that were not let in, by people who were awake
    unmoved_s: float  # for so long nobody had been let in at the end; of interest while people wait
    arrived: int
    served: int
    gave_up: int
    left: int
    no_shows: int
    turned_away: int
    unfinished: int
    requests: int
    failed: int
    failures: dict[str, int]
    paid_twice: int
    paid_untold: int  # payouts in the books that the visitor was never told of
    ledger_adds_up: bool
    unsigned: int
    abandoned: int  # transactions that the bank did for somebody who had gone
    wait_p50_s: float
    wait_p90_s: float
    balance_asked: int
    balance_failed: int
    balance_p50_ms: float
    balance_p99_ms: float
    entries: int
    busiest: dict[str, int]  # window in seconds -> most entries in any such window
    excess: dict[str, float]  # window -> largest excess over rate x W + burst; empty without a door
    excess_late: float  # so much the crowd's own lateness may have made of it: who is held up on the way bunches up
    overtaken: int  # entries that came after a higher number, late comers among them
    overtaken_p50: float  # by how many places; sleepers and the seconds between two polls are in it
    overtaken_p90: float
    overtaken_at_door: int  # stood at the door while a higher number went in: promise 3
    places_changed: int
    positions_grown: int
    crowd_lag_max_s: float  # how late the crowd's own process was at worst, on the machine it had to share

    @property
    def worst_excess(self) -> float:
        return max(self.excess.values(), default=0.0)


def summarise(run: CrowdRun, entries: Sequence[Entry], stats: Mapping[str, Any], door: Door | None) -> CrowdReport:
    """Make the report of a finished run; `stats` is the bank's /stats, {} if it cannot be asked."""
    outcomes, failures, lag_s = run.tally.outcomes, run.tally.failures, run.tally.lag_max_s
    waits_s = [each.ended_s - each.arrived_s for each in run.journeys if _is_served(each) and each.ended_s is not None]
    times_s = [entry.monotonic_s for entry in entries]
    excess = promise_one_excess(times_s, door.rate_per_s, door.burst) if door else {}
    numbers = {each.plan.name: each.number for each in run.journeys}
    overtaken = places_overtaken(number for entry in entries if (number := numbers.get(entry.account)) is not None)
    ledger = stats.get("ledger", {})
    return CrowdReport(
        name="with the gateway" if door else "without",
        crowd=asdict(run.settings),
        seconds=run.seconds_max,
        took_s=round(run.ended_s - run.began_s, 1),
        is_cut_short=run.is_cut_short,
        still_waiting=sum(_is_waiting(each) for each in run.journeys),
        unmoved_s=round(run.ended_s - max((each.granted_s or run.began_s for each in run.journeys), default=0.0), 1),
        arrived=run.tally.arrived,
        served=outcomes[Outcome.SERVED],
        gave_up=outcomes[Outcome.GAVE_UP],
        left=outcomes[Outcome.LEFT],
        no_shows=outcomes[Outcome.NO_SHOW],
        turned_away=outcomes[Outcome.TURNED_AWAY],
        unfinished=outcomes[Outcome.UNFINISHED],
        requests=run.tally.requests,
        failed=failures.total(),
        failures=dict(sorted(failures.items())),
        paid_twice=ledger.get("paid_twice", 0),
        paid_untold=max(0, stats.get("paid", 0) - outcomes[Outcome.SERVED]),
        ledger_adds_up=ledger.get("adds_up", False),
        unsigned=stats.get("unsigned", 0),
        abandoned=stats.get("abandoned", 0),
        wait_p50_s=round(percentile(waits_s, 0.5), 1),
        wait_p90_s=round(percentile(waits_s, 0.9), 1),
        balance_asked=len(run.balance.asked_ms),
        balance_failed=run.balance.failures.total(),
        balance_p50_ms=round(percentile(run.balance.asked_ms, 0.5), 1),
        balance_p99_ms=round(percentile(run.balance.asked_ms, 0.99), 1),
        entries=len(entries),
        busiest={f"{window_s:g}": count for window_s, count in busiest_windows(times_s).items()},
        excess={f"{window_s:g}": value for window_s, value in excess.items()},
        excess_late=round(lag_s * door.rate_per_s, 1) if door and lag_s > LAG_NOTED_S else 0.0,
        overtaken=sum(places > 0 for places in overtaken),
        overtaken_p50=percentile(overtaken, 0.5),
        overtaken_p90=percentile(overtaken, 0.9),
        overtaken_at_door=overtaken_at_door(_door_passes(run.journeys)),
        places_changed=run.tally.places_changed,
        positions_grown=run.tally.positions_grown,
        crowd_lag_max_s=round(lag_s, 3),
    )


def _is_served(journey: Journey) -> bool:
    return journey.outcome is Outcome.SERVED


def _is_waiting(journey: Journey) -> bool:
    is_in_line = journey.number is not None and journey.granted_s is None
    return is_in_line and journey.outcome is Outcome.UNFINISHED and journey.plan.kind is not Kind.SLEEPER


def _door_passes(journeys: Sequence[Journey]) -> list[DoorPass]:
    return [
        DoorPass(each.number, each.claimed_s, each.granted_s)
        for each in journeys
        if each.number is not None and each.claimed_s is not None and each.granted_s is not None
    ]


def as_json(report: CrowdReport) -> dict[str, Any]:
    return asdict(report)


def from_json(fields: Mapping[str, Any]) -> CrowdReport | None:
    """A report that was kept; None if it is of another version."""
    if set(fields) != set(CrowdReport.__dataclass_fields__):
        return None
    crowd = {name: tuple(value) if isinstance(value, list) else value for name, value in fields["crowd"].items()}
    return CrowdReport(**{**fields, "crowd": crowd})


def format_report(reports: Sequence[CrowdReport]) -> str:
    """The table for a person, one column a run."""
    rows = [_cells(report) for report in reports]
    lines = ["".ljust(LABEL_WIDTH) + "".join(report.name.rjust(COLUMN_WIDTH) for report in reports)]
    lines += [
        label.ljust(LABEL_WIDTH) + "".join(row[label].rjust(COLUMN_WIDTH) for row in rows)
        for label in rows[0]  # every run has the same rows
    ]
    return "\n".join(lines)


def _cells(report: CrowdReport) -> dict[str, str]:
    cells = {
        "visitors arrived": f"{report.arrived:,}",
        "  served": f"{report.served:,}",
        "  gave up, having met nothing but failures": f"{report.gave_up:,}",
        "  left silently, as planned": f"{report.left:,}",
        "  never went in or paid, as planned": f"{report.no_shows:,}",
        "  turned away / not finished": f"{report.turned_away:,} / {report.unfinished:,}",
        "requests of the crowd": f"{report.requests:,}",
        "  failed (5xx, timeout, reset)": f"{report.failed:,}",
        "bank: work done for people who had gone": f"{report.abandoned:,}",
        "bank: paid twice": f"{report.paid_twice:,}",
        "bank: paid to people who never heard of it": f"{report.paid_untold:,}",
        "bank: its ledger adds up": "yes" if report.ledger_adds_up else "NO",
        "bank: protected requests without signature": f"{report.unsigned:,}",
        "arrival to payout p50 / p90": f"{report.wait_p50_s:.0f} / {report.wait_p90_s:.0f} s",
        "other customers: balance asked": f"{report.balance_asked:,}",
        "  failed": f"{report.balance_failed:,}",
        "  p50 / p99": f"{report.balance_p50_ms:.0f} / {report.balance_p99_ms:.0f} ms",
        "the run took": f"{report.took_s:.0f} s",
        "  the crowd's own process late by at most": f"{report.crowd_lag_max_s:.2f} s",
        "entries by the bank's log": f"{report.entries:,}",
    }
    for window_s in WINDOWS_S:
        most = report.busiest.get(f"{window_s:g}", 0)
        allowed = f" of {most - report.excess[f'{window_s:g}']:,.0f}" if report.excess else ""
        cells[f"  most in any {window_s:g} s (of those allowed)"] = f"{most:,}{allowed}"
    has_line = bool(report.excess)
    cells["promise 1: never above rate x W + burst"] = _verdict(report) if has_line else "-"
    cells["overtaken while standing at the door"] = f"{report.overtaken_at_door:,}" if has_line else "-"
    late = f"{report.overtaken_p50:.0f} / {report.overtaken_p90:.0f}"
    cells["  higher numbers inside first, p50 / p90"] = late if has_line else "-"
    grown = f"{report.places_changed} / {report.positions_grown}"
    cells["numbers that changed / positions that grew"] = grown if has_line else "-"
    return cells


def _verdict(report: CrowdReport) -> str:
    if report.worst_excess <= 0:
        return "kept"
    return "BROKEN" if report.worst_excess > report.excess_late else "not judged"
