"""Owns the arithmetic of the demo's figures: percentiles, the largest excess over promise 1, and who overtook whom."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

# Promise 1 is checked over these: below a tick, a second, and long enough for a slow leak to show.
WINDOWS_S: Final = (0.1, 1, 10, 60)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed (nearest rank); 0.0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0


def busiest_windows(times_s: Iterable[float], windows_s: Sequence[float] = WINDOWS_S) -> dict[float, int]:
    """For each window length the most entries that any window of it holds, both its ends counted."""
    ordered = sorted(times_s)
    return {window_s: _busiest(ordered, window_s) for window_s in windows_s}


def promise_one_excess(
    times_s: Iterable[float], rate_per_s: float, burst: float, windows_s: Sequence[float] = WINDOWS_S
) -> dict[float, float]:
    """For each window length the largest excess of entries over rate x W + burst; promise 1 holds where it is <= 0.

    Exact, not sampled: the fullest window of a length can always be moved until it begins at an entry.
    """
    busiest = busiest_windows(times_s, windows_s)
    return {window_s: count - (rate_per_s * window_s + burst) for window_s, count in busiest.items()}


def _busiest(ordered_s: Sequence[float], window_s: float) -> int:
    most = first = 0
    for last, at_s in enumerate(ordered_s):
        while at_s - ordered_s[first] > window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def places_overtaken(numbers: Iterable[int]) -> list[int]:
    """For each entry, in the order of entering, how many with a higher number had entered before it."""
    entered: list[int] = []
    overtaken = []
    for number in numbers:
        overtaken.append(len(entered) - bisect_right(entered, number))
        insort(entered, number)
    return overtaken


@dataclass(frozen=True, slots=True)
class DoorPass:
    """One claim as its visitor saw it: when it reached for the door, and when it was let in."""

    number: int
    claimed_s: float
    granted_s: float


def overtaken_at_door(passes: Iterable[DoorPass], slack_s: float = 0.25) -> int:
    """How many stood at the door while a higher number was let in (promise 3).

    `slack_s` is cut from both ends of a stay: the visitor's clock sees the claim leave early and the grant arrive late.
    """
    ordered = sorted(passes, key=lambda each: each.granted_s)
    granted_s = [each.granted_s for each in ordered]
    overtaken = 0
    for mine in ordered:
        since = bisect_right(granted_s, mine.claimed_s + slack_s)
        until = bisect_right(granted_s, mine.granted_s - slack_s)
        overtaken += any(other.number > mine.number for other in ordered[since:until])
    return overtaken
