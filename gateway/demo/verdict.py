"""Owns what a run proves: promises that the gateway broke, each a sentence, and what could not be judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.demo.report import LAG_NOTED_S, CrowdReport

# People wait, the door has credit for hundreds, and nobody gets in: that is no crowd that was sent home early.
UNMOVED_MAX_S: Final = 10.0


def broken_promises(report: CrowdReport) -> list[str]:
    """What a run behind the gateway must never show, as sentences; the demo is a test of what it tells."""
    is_above = report.worst_excess > max(0.0, report.excess_late)
    # Who stood at the door when is known by the crowd's own clock: a late process cannot tell.
    is_overtaken = report.overtaken_at_door > 0 and report.crowd_lag_max_s <= LAG_NOTED_S
    is_stuck = report.is_cut_short and report.still_waiting > 0 and report.unmoved_s >= UNMOVED_MAX_S
    found = {
        f"{report.worst_excess:.0f} entries above rate x W + burst in some window": is_above,
        f"{report.failed} requests of the crowd failed: {report.failures}": report.failed > 0,
        f"{report.balance_failed} balance requests of other customers failed": report.balance_failed > 0,
        f"{report.paid_twice} payouts were paid twice": report.paid_twice > 0,
        "the bank's ledger does not add up": not report.ledger_adds_up,
        f"{report.unsigned} requests reached the bank's protected pages unsigned": report.unsigned > 0,
        f"{report.gave_up} visitors gave up": report.gave_up > 0,
        f"{report.turned_away} visitors were turned away from a room that is open": report.turned_away > 0,
        f"{report.unfinished} visitors never came to an end": report.unfinished > 0 and not report.is_cut_short,
        f"nobody was let in for {report.unmoved_s:.0f} s while {report.still_waiting} waited": is_stuck,
        f"{report.overtaken_at_door} stood at the door while a higher number went in": is_overtaken,
        f"{report.places_changed} times a visitor's number changed": report.places_changed > 0,
        f"{report.positions_grown} times a position grew without a cause": report.positions_grown > 0,
    }
    return [sentence for sentence, is_broken in found.items() if is_broken]


def unjudged(report: CrowdReport) -> list[str]:
    """What looks broken and may be the machine's doing."""
    found = {
        f"{report.worst_excess:.0f} entries above rate x W + burst in some window, by the bank's log": (
            0 < report.worst_excess <= report.excess_late
        ),
        f"{report.overtaken_at_door} overtaken at the door, by the crowd's clock": (
            report.overtaken_at_door > 0 and report.crowd_lag_max_s > LAG_NOTED_S
        ),
    }
    return [sentence for sentence, is_so in found.items() if is_so]


def verdict(report: CrowdReport, *, has_gateway: bool) -> Iterator[str]:
    """The last lines of a run."""
    if report.is_cut_short:
        missing = report.crowd["visitors"] - report.arrived
        yield (
            f"Cut short after {report.took_s:.0f} s (--seconds): {report.unfinished:,} still waiting or on their way"
            + (f", {missing:,} not come yet." if missing else ".")
        )
    faults = broken_promises(report) if has_gateway else []
    doubts = unjudged(report) if has_gateway else []
    yield from (f"BROKEN: {fault}" for fault in faults)
    yield from (f"NOT JUDGED: {doubt}" for doubt in doubts)
    if has_gateway and not faults:
        kept = ["never above the rate"] if report.worst_excess <= 0 else []
        kept += ["nobody overtaken at the door"] if report.overtaken_at_door == 0 else []
        kept += ["no request failed", "nobody paid twice", "no number changed"]
        kept += [] if report.is_cut_short else ["all who waited were let in"]
        yield f"KEPT: {', '.join(kept)}{' till then' if report.is_cut_short else ''}."
    if report.crowd_lag_max_s > LAG_NOTED_S or doubts:
        yield (
            f"The crowd's own process came up to {report.crowd_lag_max_s:.1f} s late: this machine is short of CPU, "
            "and what is late bunches up on its way. A quieter one judges better."
        )
