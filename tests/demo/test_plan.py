"""The crowd as data: the same seed is the same crowd, with the shares that were asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from gateway.demo.plan import CrowdSettings, Kind, plan_crowd

CROWD = CrowdSettings(visitors=1_000, seed=7, leavers=0.3, no_shows=0.2, sleepers=0.1, apps=0.1, reloaders=0.05)


def test_same_seed_is_the_same_crowd_to_the_bit() -> None:
    """With and without the gateway the very same people come at the very same times."""
    assert plan_crowd(CROWD) == plan_crowd(replace(CROWD))
    assert plan_crowd(CROWD) != plan_crowd(replace(CROWD, seed=8))


def test_shares_are_exact() -> None:
    """A crowd has the leavers, no-shows and sleepers it was asked to have, and the rest is patient."""
    kinds = Counter(plan.kind for plan in plan_crowd(CROWD))
    wanted = {Kind.LEAVER: 300, Kind.NO_SHOW: 200, Kind.SLEEPER: 100, Kind.APP: 100, Kind.RELOADER: 50}
    assert kinds == {**wanted, Kind.BROWSER: 250}


def test_arrivals_are_a_flash_crowd_within_the_time() -> None:
    """Everybody comes in time, in order, and the first tenth of the time brings far more than the last."""
    arrivals_s = [plan.arrives_s for plan in plan_crowd(CROWD)]
    assert arrivals_s == sorted(arrivals_s)
    assert arrivals_s[0] >= 0
    assert arrivals_s[-1] <= CROWD.arrive_within_s
    assert sum(at_s < 1 for at_s in arrivals_s) > 5 * sum(at_s > 9 for at_s in arrivals_s)


def test_every_visitor_has_keys_of_its_own() -> None:
    """Promise 4 can only be seen to hold if no two visitors share a key."""
    plans = plan_crowd(CROWD)
    assert len({plan.key for plan in plans} | {plan.payout_key for plan in plans}) == 2 * len(plans)


def test_shares_above_the_whole_are_refused() -> None:
    """A crowd of 120 % is a mistake to be told of, not one to be cut silently."""
    with pytest.raises(ValueError, match="at most 1"):
        CrowdSettings(leavers=0.6, no_shows=0.6)
