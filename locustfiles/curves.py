"""Owns the arrival curve of each incident: how many have come by when, at any size of the crowd.

What the press told of the outages is a total and an hour, not a curve. The totals are those figures, or an assumption
that is named; the shapes are assumptions: a flash at an announced second, a rumour that spreads and dies down, an
opening hour with hours of work behind it. `--crowd` makes the crowd smaller, not faster; a run that is cut short (`-t`)
has seen the beginning. `--pace` lets the curve's hours pass faster: with as much less of the crowd, as many come in a
second as on the day. What people do, from a look at the page to giving up, takes the time it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Curve:
    """Arrivals per second drawn as straight lines between `shape`'s corners (second, height), `visitors` in all."""

    visitors: int
    shape: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        times_s = [at_s for at_s, _ in self.shape]
        assert len(times_s) > 1
        assert times_s[0] == 0
        assert all(earlier_s < later_s for earlier_s, later_s in pairwise(times_s)), "corners come in order of time"
        assert min(height for _, height in self.shape) >= 0
        assert max(height for _, height in self.shape) > 0

    @property
    def ends_s(self) -> float:
        """Nobody comes any more."""
        return self.shape[-1][0]

    def arrived_by(self, at_s: float, crowd: float = 1.0) -> int:
        """How many of a crowd of this share have come by then; never fewer later."""
        return round(crowd * self.visitors * self._area_by(at_s) / self._area_by(self.ends_s))

    def _area_by(self, at_s: float) -> float:
        return sum(self._areas(at_s))

    def _areas(self, at_s: float) -> Iterator[float]:
        for (from_s, from_height), (to_s, to_height) in pairwise(self.shape):
            length_s = min(at_s, to_s) - from_s
            if length_s > 0:
                slope = (to_height - from_height) / (to_s - from_s)
                yield length_s * (from_height + slope * length_s / 2)


# 10 million customers had been told the second. That all of them come within a minute is the worst that can be:
# 703,000 in the first second, 30 % of all within five.
SPECIAL_DEPOSIT = Curve(10_000_000, ((0, 6), (5, 4), (20, 1), (60, 0)))

# "Hundreds of thousands": 300,000 within an hour. It spread by word of mouth: 131 a second from the fifth minute to the
# twentieth, then those who hear that nothing works stay away.
CARD_CASHBACK = Curve(300_000, ((0, 0.2), (300, 1), (1_200, 1), (3_600, 0)))

# 180,000 were served in three hours, and the crowd still grew: twice as many came, as an assumption. 188 a second in
# the first minute after 11:00, then never fewer than the 17 a second that could be served.
POINT_CASHOUT = Curve(360_000, ((0, 10), (60, 10), (600, 2), (10_800, 1)))
