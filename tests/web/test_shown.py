"""What a gateway remembers of positions it told."""

from __future__ import annotations

from gateway.web.desk import Shown


def test_a_position_that_was_told_never_grows() -> None:
    """Section 6: a position never grows without a cause; with one it is told anew."""
    shown = Shown()
    assert [shown.least(1, 7, position) for position in (30, 32, 29, 31)] == [30, 30, 29, 29]
    shown.tell(1, 7, 40)
    assert shown.least(1, 7, 50) == 40
    assert (shown.told(1, 7), shown.told(2, 7), shown.told(1, 8)) == (40, None, None)
    assert shown.least(1, 8, 50) == 50, "another number is another place"


def test_numbers_of_another_epoch_are_other_places() -> None:
    """After a reset a number may be given again."""
    shown = Shown()
    shown.tell(1, 7, 3)
    assert shown.least(2, 7, 90) == 90
    assert shown.least(2, 7, 91) == 90
    assert shown.least(1, 7, 5) == 5, "of an epoch that is over nothing is kept"
    assert shown.least(2, 7, 91) == 90


def test_numbers_that_share_a_row_are_told_apart() -> None:
    """A limit on everything: the table never grows, and nobody is told another's position."""
    shown = Shown(rows=100)
    for number in range(1, 101):
        shown.tell(1, number, 5)
    assert all(shown.least(1, number, 6) == 5 for number in range(1, 101))
    assert shown.least(1, 207, 70) == 70
    assert shown.least(1, 207, 80) == 70
    assert shown.least(1, 7, 90) == 90, "its row was taken by another one"
