"""The capacity plan: a model that adds up, follows the promised poll times, and is what the document shows."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.capacity import Costs, Event, Load, gateway_cores, plan, polls_per_s, redis_cores
from gateway.cli import main
from gateway.model import Rate
from gateway.rules.policy import poll_after_ms

DOCUMENT = Path(__file__).parent.parent / "docs" / "capacity.md"
MILLION = Event(1_000_000, 60, Rate(1_000, "s"))


@pytest.mark.parametrize("waiting", [0, 1, 4_000, 30_000, 200_000, 900_000])
def test_polls_are_as_many_as_the_server_asks_for(waiting: int) -> None:
    """Section 6: the closed form agrees with every visitor asked one by one."""
    rate_s, dice = 1_000.0, random.Random(1)
    gaps_s = [poll_after_ms(position / rate_s, dice.random()) / 1e3 for position in range(1, waiting + 1)]
    expected = sum(1 / gap for gap in gaps_s)
    assert polls_per_s(waiting, rate_s) == pytest.approx(expected, rel=0.02, abs=0.1)


def test_twice_the_crowd_needs_no_less_of_anything() -> None:
    """A plan that shrinks with the crowd would be wrong somewhere."""
    less, more = Load.of(MILLION), Load.of(replace(MILLION, arrivals=2_000_000))
    assert more.waiting > less.waiting
    assert more.clear_s > less.clear_s
    for has_edge in (False, True):
        assert gateway_cores(more, Costs(), 10, has_edge=has_edge) > gateway_cores(less, Costs(), 10, has_edge=has_edge)
    assert redis_cores(more, Costs()) > redis_cores(less, Costs())


def test_an_edge_takes_work_off_the_gateways() -> None:
    """Section 10: first pages and whoever was admitted."""
    load = Load.of(MILLION)
    assert gateway_cores(load, Costs(), 10, has_edge=True) < gateway_cores(load, Costs(), 10, has_edge=False)


def test_who_arrives_slower_than_the_door_never_waits() -> None:
    """A crowd below the drain rate needs no line."""
    load = Load.of(Event(180_000, 3 * 3600, Rate(50, "s")))
    assert (load.waiting, load.polls_s, load.clear_s) == (0, 0, 3 * 3600)


def test_what_is_too_much_for_a_room_is_said() -> None:
    """A plan that cannot be carried out says so, and what moves the wall."""
    wall = plan(replace(MILLION, arrivals=20_000_000, has_edge=True))[-1]
    assert wall.what == "first wall"
    assert "BEYOND IT" in wall.figure
    assert wall.why


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arrivals", "many", "--within", "60s"], "a number of people"),
        (["--arrivals", "0", "--within", "60s"], "a number of people"),
        (["--arrivals", "", "--within", "60s"], "a number of people"),
        (["--arrivals", "nan", "--within", "60s"], "a number of people"),
        (["--arrivals", "1k", "--within", "1"], "a number and ms, s, m or h"),
        (["--arrivals", "1k", "--within", "5ms"], "from 1s to 720h"),
        (["--arrivals", "1k", "--within", "1m", "--drain-rate", "50"], "whole entries per s, min or h"),
        (["--arrivals", "1k", "--within", "1m", "--requests", "-1"], "--requests from 0"),
        (["--arrivals", "1k", "--within", "1m", "--price", "inf"], "--price from 0"),
        (["--within", "1m"], "--arrivals"),
    ],
)
def test_bad_figures_are_refused_with_what_is_allowed(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Section 8: one clear sentence, whatever was typed."""
    try:
        code = main(["capacity", *arguments])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code in {1, 2}
    assert said in capsys.readouterr().err


def test_the_document_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/capacity.md cannot lie about the model."""
    shown = re.findall(r"```\n\$ waitroom capacity (.*)\n((?:.*\n)*?)```", DOCUMENT.read_text())
    assert len(shown) >= 3
    for arguments, text in shown:
        assert main(["capacity", *arguments.split()]) == 0
        assert capsys.readouterr().out == text
