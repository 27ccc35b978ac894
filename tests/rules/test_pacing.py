"""Settings as documents and as the units the door counts with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.model import PERMIT_UNITS, Rate
from gateway.rules.pacing import UNLIMITED, as_document, in_force, limits
from tests.conftest import make_room


@pytest.mark.parametrize("text", ["1/h", "10/h", "90/min", "50/s", "999999/s", "7000/s", "30000/s"])
def test_every_rate_is_a_whole_number_of_units(text: str) -> None:
    """Promise 1: no rate is rounded: in a period exactly its entries are earned."""
    rate = Rate.parse(text)
    period_us = {"s": 1, "min": 60, "h": 3600}[rate.period] * 1_000_000
    assert rate.units_per_us * period_us == rate.entries * PERMIT_UNITS
    assert str(rate) == text


@pytest.mark.parametrize("text", ["", "50", "50/fortnight", "0/s", "-1/s", "1.5/s", "1000000/s", "50 /s", "５/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    """Promise 14: with what is allowed."""
    with pytest.raises(ValueError, match="50/s"):
        Rate.parse(text)


def test_a_document_keeps_every_setting() -> None:
    """Promise 14 and section 8: what the operator API shows and Redis keeps is what the file said."""
    settings = make_room(stock=7, paused=True, drain_rate=Rate(90, "min")).settings
    settings = replace(settings, message={"ko": "잠시만요", "en": "One moment"})
    document = json.loads(json.dumps(as_document(settings)))
    assert in_force(document, {}) == settings


def test_an_override_wins_and_taking_it_back_brings_the_base() -> None:
    """Section 8: overrides win and survive; null takes one back (it is then missing here)."""
    base = as_document(make_room(active_max=10).settings)
    assert in_force(base, {"active_max": 3, "drain_rate": "5/min", "unknown": 1}).active_max == 3
    assert in_force(base, {"drain_rate": "5/min"}).drain_rate == Rate(5, "min")
    assert in_force(base, {}).active_max == 10


def test_limits_are_whole_units_and_microseconds() -> None:
    """Section 5: the scripts read numbers only; what is not limited has a value of its own."""
    room = make_room(opens_at_s=100, session_s=600)
    written = limits(room, room.settings)
    assert written["rate"] == 36_000
    assert written["session"] == 600_000_000
    assert (written["opens_at"], written["closes_at"]) == (100_000_000, 0)
    assert written["stock"] == UNLIMITED
    assert limits(room, replace(room.settings, stock=0))["stock"] == 0
    assert all(isinstance(value, int) for value in written.values())
