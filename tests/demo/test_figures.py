"""The arithmetic that the demo's verdicts rest on, against slower and plainer ways to do the same."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.figures import DoorPass, overtaken_at_door, percentile, places_overtaken, promise_one_excess

ticks = st.integers(0, 400)


@given(st.lists(ticks, max_size=40), st.integers(0, 8), st.integers(0, 8), st.sampled_from([1, 7, 64]))
def test_excess_is_the_largest_of_all_windows(times: list[int], rate: int, burst: int, window: int) -> None:
    """Promise 1: the check finds the fullest of all windows, wherever it begins."""
    every_start = [Fraction(start, 2) for start in range(-2 * window, 802)]  # windows need not begin at an entry
    fullest = max(sum(start <= time <= start + window for time in times) for start in every_start)
    found = promise_one_excess([float(time) for time in times], rate, burst, [window])
    assert found == {window: fullest - (rate * window + burst)}


def test_one_entry_too_many_breaks_the_promise() -> None:
    """Promise 1: a burst of 3 at 10/s may be 3 at once and one each 0.1 s, and not a single one more."""
    kept = [5.0, 5.0, 5.0, 5.125, 5.25, 5.375, 5.5]
    assert max(promise_one_excess(kept, 8, 3, (0.125, 0.5)).values()) == 0
    assert promise_one_excess([*kept, 5.5], 8, 3, (0.125, 0.5))[0.5] == 1


@given(st.lists(st.integers(0, 50), max_size=30))
def test_places_overtaken_counts_higher_numbers_before(numbers: list[int]) -> None:
    """Promise 3: who came in after higher numbers is counted by how many."""
    plain = [sum(other > number for other in numbers[:index]) for index, number in enumerate(numbers)]
    assert places_overtaken(numbers) == plain


def test_only_those_who_stood_at_the_door_were_overtaken_there() -> None:
    """Promise 3: the order is that of claims at the door; who comes late is not overtaken by those long inside."""
    stood = DoorPass(7, claimed_s=1.0, granted_s=9.0)
    higher = DoorPass(8, claimed_s=2.0, granted_s=5.0)
    late = DoorPass(3, claimed_s=6.0, granted_s=8.0)
    assert overtaken_at_door([higher, late]) == 0
    assert overtaken_at_door([stood, higher, late]) == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_percentile_is_the_smallest_value_that_covers_the_share(values: list[float], share: float) -> None:
    """The table's p50 and p99 are values that were measured, and cover what they say."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9
