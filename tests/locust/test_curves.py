"""The arrival curves of the incidents: totals, peaks and shape, at any size of the crowd."""

from __future__ import annotations

import pytest

from locustfiles.curves import CARD_CASHBACK, POINT_CASHOUT, SPECIAL_DEPOSIT, Curve

INCIDENTS = {"special_deposit": SPECIAL_DEPOSIT, "card_cashback": CARD_CASHBACK, "point_cashout": POINT_CASHOUT}


@pytest.mark.parametrize(
    ("at_s", "arrived"), [(-1, 0), (0, 0), (10, 10), (20, 40), (25, 60), (30, 80), (40, 100), (41, 100), (1e9, 100)]
)
def test_arrivals_are_the_area_under_the_lines(at_s: float, arrived: int) -> None:
    """Rises to 4 a second within 20 s, stays there for 10, and falls to 0."""
    curve = Curve(100, ((0, 0), (20, 4), (30, 4), (40, 0)))
    assert curve.arrived_by(at_s) == arrived


@pytest.mark.parametrize("name", INCIDENTS)
@pytest.mark.parametrize("crowd", [1, 0.5, 0.01, 0.0001, 0])
def test_a_share_of_the_crowd_is_the_same_curve_lower(name: str, crowd: float) -> None:
    curve = INCIDENTS[name]
    assert curve.arrived_by(curve.ends_s, crowd) == round(crowd * curve.visitors)
    for share in (0.01, 0.1, 0.5, 0.9):
        at_s = share * curve.ends_s
        assert curve.arrived_by(at_s, crowd) == pytest.approx(crowd * curve.arrived_by(at_s), abs=1)


@pytest.mark.parametrize("name", INCIDENTS)
def test_nobody_who_has_come_goes_back(name: str) -> None:
    curve = INCIDENTS[name]
    seconds = [curve.arrived_by(at_s) for at_s in range(int(curve.ends_s) + 2)]
    assert seconds == sorted(seconds)
    assert seconds[-1] == seconds[-2] == curve.visitors


@pytest.mark.parametrize(
    ("name", "from_s", "to_s", "least", "most"),
    [
        ("special_deposit", 0, 1, 700_000, 710_000),  # everyone at the announced second
        ("special_deposit", 0, 60, 10_000_000, 10_000_000),
        ("card_cashback", 0, 1, 25, 30),  # a rumour begins
        ("card_cashback", 600, 601, 130, 133),
        ("point_cashout", 0, 60, 11_200, 11_400),  # the first minute is many times what can be served
        ("point_cashout", 10_799, 10_800, 17.5, 19.5),  # and to the end more come than are
    ],
)
def test_the_curves_say_what_their_comments_say(name: str, from_s: int, to_s: int, least: float, most: float) -> None:
    curve = INCIDENTS[name]
    assert least <= curve.arrived_by(to_s) - curve.arrived_by(from_s) <= most


@pytest.mark.parametrize(
    "shape", [((0, 1),), ((1, 1), (2, 1)), ((0, 1), (5, 1), (5, 2)), ((0, -1), (1, 2)), ((0, 0), (1, 0))]
)
def test_a_curve_that_is_none_is_refused(shape: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(AssertionError):
        Curve(1, shape)
