"""Owns what a pair of runs proves: promises that the gateway broke, each a sentence, and whether the bank fell without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.replay.story import Figures, Run

LAG_JUDGED_S: Final = 1.0  # a crowd that comes later to its turn met its own machine, and not the gateway
OTHERS_JUDGED: Final = (
    0.2  # of the machine; a gateway that gets no processor for half a second is passed by, as a dead one is
)
LAG_NOTED_S: Final = 0.1  # above that, entries may bunch up on their way to the bank
FELL_S: Final = 5  # seconds in which more failed than was answered


@dataclass(frozen=True, slots=True)
class Verdict:
    """`faults` are promises broken; `doubts` look it and may be the machine's doing, which then was too busy to tell."""

    faults: tuple[str, ...]
    doubts: tuple[str, ...]


def judge(run: Run, rate_per_s: float) -> Verdict:
    """What a run with the gateway showed that it must never show."""
    figures = run.figures
    is_quiet = figures.lag_s <= LAG_JUDGED_S and figures.others_share <= OTHERS_JUDGED
    always, in_time = tuple(_broken_anywhere(figures)), tuple(_broken_in_time(figures, rate_per_s))
    return Verdict((*always, *in_time), ()) if is_quiet else Verdict(always, in_time)


def _broken_anywhere(figures: Figures) -> Iterator[str]:
    """On whatever machine."""
    found = {
        f"{figures.oversold} sold that were not there": figures.oversold > 0,
        f"{figures.lost_places} places were lost": figures.lost_places > 0,
        f"{figures.unsigned} requests reached the bank's protected pages unsigned": figures.unsigned > 0,
        f"{figures.paid_twice} were paid twice": figures.paid_twice > 0,
    }
    return (sentence for sentence, is_broken in found.items() if is_broken)


def _broken_in_time(figures: Figures, rate_per_s: float) -> Iterator[str]:
    """Where the machine gave every process its turn."""
    late = figures.lag_s * rate_per_s if figures.lag_s > LAG_NOTED_S else 0.0
    excess = (figures.excess or 0.0) - late
    failed = figures.failed - figures.failed_in_stop
    beside = figures.beside_failed - figures.beside_failed_in_stop
    overtaken = (figures.overtaken_at_door or 0) - figures.overtaken_in_stop
    found = {
        f"{overtaken} stood at the door while a higher number went in": overtaken > 0,
        f"{figures.wrongly_refused} who were admitted were refused": figures.wrongly_refused > 0,
        f"{excess:.0f} entries above rate x window + burst": excess > 0,
        f"{failed} requests of the crowd failed while the bank was up": failed > 0,
        f"{beside} requests of ordinary customers failed while the bank was up": beside > 0,
    }
    return (sentence for sentence, is_broken in found.items() if is_broken)


def fell(run: Run) -> bool:
    """The bank was there, and most of what people asked of it failed."""
    stopped_s = 0.0 if run.stopped_s is None else run.stopped_s[1] - run.stopped_s[0]
    return run.figures.down_s - stopped_s >= FELL_S
