"""What a gateway remembers of positions it told."""

from __future__ import annotations

from gateway.web.desk import Shown


def test_a_position_that_was_told_never_grows() -> None:
    """Section 6: a position never grows without a cause; with one it is told anew."""
    shown = Shown()
    assert [shown.least(1, 7, position) for position in (30, 32, 29, 31)] == [30, 30, 29, 29]
    shown.tell(1, 7, 40)
    assert shown.least(1, 7, 50) == 40
    assert shown.least(1, 8, 50) == 50, "another number is another place"


def test_numbers_of_another_epoch_are_other_places() -> None:
    """After a reset a number may be given again."""
    shown = Shown()
    shown.tell(1, 7, 3)
    assert shown.least(2, 7, 90) == 90
    assert shown.least(2, 7, 91) == 90


def test_the_memory_is_bounded_and_keeps_who_asks() -> None:
    """A limit on everything: those who went on asking are remembered, those who have gone are not."""
    shown = Shown(numbers_max=100)
    shown.tell(1, 1, 5)
    for number in range(2, 1000):
        shown.tell(1, number, number)
        assert shown.least(1, 1, 6) == 5
        assert len(shown._young) + len(shown._old) <= 100
    assert shown.least(1, 2, 77) == 77
