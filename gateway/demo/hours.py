"""Owns the cash-out's opening hours: from when it pays at all, and which payouts wait for the next business day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Final

SEOUL: Final = timezone(timedelta(hours=9), "KST")  # no summer time
SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class Hours:
    """Times of the bank's own clock in Seoul; None is no limit."""

    opens_at: datetime | None = None  # once, to the public; before it everything is refused
    same_day_until: time | None = None  # every day; later payouts are accepted and paid on the next business day

    def is_open(self, now: datetime) -> bool:
        return self.opens_at is None or now >= self.opens_at

    def opens_in_s(self, now: datetime) -> float:
        """How long until it opens; 0 when it is open."""
        return 0.0 if self.opens_at is None else max(0.0, (self.opens_at - now).total_seconds())

    def due(self, now: datetime) -> date | None:
        """The day on which a payout accepted now is paid; None is at once."""
        here = now.astimezone(SEOUL)
        if self.same_day_until is None or here.time() < self.same_day_until:
            return None
        return next_business_day(here.date())


def next_business_day(day: date) -> date:
    """Monday to Friday; the bank of the demo knows no public holidays."""
    day += timedelta(days=1)
    while day.weekday() >= SATURDAY:
        day += timedelta(days=1)
    return day
