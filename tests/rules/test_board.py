"""What follows from a board without asking Redis."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import fields, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import RoomState
from gateway.rules.board import FIELDS, Board, Census, Ranks, fixed_ranks
from tests.conftest import make_room

SETTINGS = make_room().settings


def census(**values: int | str) -> Census:
    """A census of an open room in which nothing happens, but for what a test says."""
    plain: dict[str, int | str] = {field.name: 0 for field in fields(Census)}
    plain |= {"reason": "rate", "rate": 36_000, "stock": -1, "epoch": 1, "kappa": 1000, "show_up": 700, "permits": 5}
    return Census(**(plain | values))  # type: ignore[arg-type]  # a test names real fields


def ranks_of(places: list[int], passed: int = 0, version: int = 1) -> Ranks:
    """What `census.lua` would write of these places."""
    above = places[bisect_right(places, passed) :]
    numbers = " ".join(str(above[rank - 1]) for rank in fixed_ranks(len(above)))
    return Ranks.parse(f"{len(above)} {version} {(places or [0])[-1] + 1} {passed} {numbers}")


def board(places: list[int], *, passed: int = 0, **values: int | str) -> Board:
    ranks = ranks_of(places, passed)
    return Board(census(passed=passed, **values), ranks, Ranks.parse(""), SETTINGS, 0.0)


def board_of(values: dict[str, int | str]) -> Board:
    """An empty line, and a census with these values."""
    return Board(census(**values), Ranks.parse(""), Ranks.parse(""), SETTINGS, 0.0)


def test_the_fields_read_are_those_of_the_census_in_order() -> None:
    """Section 6: the reply of `read.lua` is taken by position."""
    assert tuple(field.name for field in fields(Census)) == FIELDS
    parsed = Census.parse([b"cap", *(str(i).encode() for i in range(1, len(FIELDS)))])
    assert (parsed.reason, parsed.permits, parsed.ranks) == ("cap", 1, len(FIELDS) - 1)
    assert Census.parse([None] * len(FIELDS)).reason == "rate"


@pytest.mark.parametrize("waiting", [0, 1, 99, 100, 101, 102, 1_000, 1_000_000])
def test_ranks_are_exact_up_to_100_and_one_percent_apart_beyond(waiting: int) -> None:
    """Section 6: an error of at most max(1, 1 %) needs points that are no further apart; promise 15: and few of them."""
    ranks = fixed_ranks(waiting)
    assert ranks[:100] == tuple(range(1, min(waiting, 100) + 1))
    assert (ranks[-1] if ranks else 0) == waiting
    assert all(high - low <= max(1, low * 0.01 + 1) for low, high in pairwise(ranks))
    assert len(ranks) <= 1_100


def test_a_board_knows_what_lies_between_the_cursor_and_its_last_number() -> None:
    """Section 6: everything else is looked up."""
    known = board(list(range(11, 21)), passed=10)
    assert [known.knows(number, 1) for number in (10, 11, 20, 21)] == [False, True, True, False]
    assert not known.knows(15, 2)
    holding = replace(known, census=replace(known.census, left_us=1))
    assert not holding.knows(15, 1)


def test_positions_follow_the_cursor_between_two_readings_of_the_ranks() -> None:
    """Section 6: 1 is next, also when the ranks are older than the census."""
    places = list(range(1, 50))
    ranks = ranks_of(places)
    moved = Board(census(passed=10), ranks, Ranks.parse(""), SETTINGS, 0.0)
    assert [moved.position(number) for number in (11, 12, 30)] == [1, 2, 20]


gaps = st.lists(st.integers(1, 400), min_size=1, max_size=120)


@given(gaps, st.lists(st.lists(st.integers(0, 10**6), max_size=3), min_size=1, max_size=6), st.data())
def test_positions_never_grow_while_places_only_leave(
    gaps: list[int], rounds: list[list[int]], data: st.DataObject
) -> None:
    """Section 6: whoever leaves ahead, one by one or in clumps, makes nobody's position larger."""
    places = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    places = [number + extra for number in places for extra in range(0, 3000, 1000)]
    places = sorted(set(places))
    before: Ranks | None = None
    shown = dict.fromkeys(places, len(places))
    for clumps in rounds:
        ranks = ranks_of(places).under(before)
        current = Board(census(), ranks, Ranks.parse(""), SETTINGS, 0.0)
        for rank, number in enumerate(places, 1):
            position = current.position(number)
            assert position <= shown[number]
            assert abs(position - rank) <= max(1, 0.01 * rank + 0.5)
            shown[number] = position
        before = ranks
        length = data.draw(st.integers(1, 60))
        gone = {number for start in clumps for number in places[start % len(places) :][:length]}
        places = [number for number in places if number not in gone] or places[:1]


def test_the_expected_time_counts_those_at_the_door_and_who_shows_up() -> None:
    """Section 6: (held claims + claims expected of young calls + position x kappa) / rate in force."""
    known = board(list(range(1, 1001)), held=20, young=100, show_up=500, kappa=400)
    assert known.expected_s(1000) == pytest.approx((20 + 50 + 400) / 10)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, RoomState.IDLE),
        ({"permits": 0}, RoomState.QUEUEING),
        ({"waiting": 1}, RoomState.QUEUEING),
        ({"held": 1}, RoomState.QUEUEING),
        ({"young": 1}, RoomState.QUEUEING),
        ({"reason": "cap", "permits": 0}, RoomState.QUEUEING),
        ({"present": 5_000_000}, RoomState.FULL),
        ({"reason": "paused", "present": 5_000_000}, RoomState.PAUSED),
        ({"reason": "scheduled"}, RoomState.SCHEDULED),
        ({"reason": "closed", "stock": 0}, RoomState.CLOSED),
        ({"stock": 0, "reason": "paused"}, RoomState.SOLD_OUT),
        ({"reason": "recovering", "stock": 0}, RoomState.RECOVERING),
    ],
)
def test_the_state_of_the_room_is_what_the_door_would_say(values: dict[str, int | str], state: RoomState) -> None:
    """Section 8: one word for what a newcomer meets."""
    assert board_of(values).room_state(5_000_000) is state


def test_parked_places_are_below_the_cursor_and_not_called() -> None:
    """Section 11: the gauges add up."""
    assert census(below=7, called=3).parked == 4
    assert census(below=1, called=3).parked == 0
    assert census().rate_per_s == pytest.approx(10)
