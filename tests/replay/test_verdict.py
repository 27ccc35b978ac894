"""What a replay proves: each promise that a run with the gateway can break has its sentence, and the bank's fall is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.replay.pages import Replay, words
from bench.replay.scenario import CASHBACK
from bench.replay.story import Run, tell
from bench.replay.verdict import Verdict, fell, judge
from tests.replay.evidence import at, evidence, stats


def a_run(**figures: Any) -> Run:
    run = tell(CASHBACK, evidence(samples=[at(0, stats(), waiting=0)]), 10)
    return replace(run, figures=replace(run.figures, **figures))


def test_a_run_that_kept_all_is_not_broken() -> None:
    assert judge(a_run(), 35) == Verdict((), ())
    assert judge(a_run(lag_s=9.0), 35) == Verdict((), ())


@pytest.mark.parametrize("machine", [{"lag_s": 1.1}, {"others_share": 0.21}])
def test_a_busy_machine_is_blamed_only_for_what_takes_time(machine: dict[str, float]) -> None:
    verdict = judge(a_run(oversold=1, wrongly_refused=1, **machine), 35)
    assert verdict == Verdict(("1 sold that were not there",), ("1 who were admitted were refused",))
    verdict = judge(a_run(oversold=1, wrongly_refused=1, lag_s=1.0, others_share=0.2), 35)
    assert verdict == Verdict(("1 sold that were not there", "1 who were admitted were refused"), ())


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({"oversold": 1}, "1 sold that were not there"),
        ({"overtaken_at_door": 5, "overtaken_in_stop": 3}, "2 stood at the door while a higher number went in"),
        ({"lost_places": 3}, "3 places were lost"),
        ({"wrongly_refused": 1}, "1 who were admitted were refused"),
        ({"unsigned": 1}, "1 requests reached the bank's protected pages unsigned"),
        ({"paid_twice": 1}, "1 were paid twice"),
        ({"excess": 4.0, "lag_s": 0.1}, "4 entries above rate x window + burst"),
        ({"excess": 10.0, "lag_s": 0.2}, "3 entries above rate x window + burst"),  # less what lateness bunches up
        ({"failed": 9, "failed_in_stop": 2}, "7 requests of the crowd failed while the bank was up"),
        ({"beside_failed": 1}, "1 requests of ordinary customers failed while the bank was up"),
    ],
)
def test_each_broken_promise_is_a_sentence(figures: dict[str, Any], sentence: str) -> None:
    assert judge(a_run(**figures), 35).faults == (sentence,)


@pytest.mark.parametrize("figures", [{"excess": 6.0, "lag_s": 0.2}, {"failed": 2, "failed_in_stop": 2}])
def test_what_the_machine_or_the_stop_did_breaks_nothing(figures: dict[str, Any]) -> None:
    assert judge(a_run(**figures), 35) == Verdict((), ())


@pytest.mark.parametrize(
    ("down_s", "stopped_s", "is_so"),
    [(4, None, False), (5, None, True), (10, (40.0, 46.0), False), (11, (40.0, 46.0), True)],
)
def test_a_bank_fell_when_most_of_what_it_was_asked_failed(
    down_s: int, stopped_s: tuple[float, float] | None, is_so: bool
) -> None:
    """Not by being stopped."""
    assert fell(replace(a_run(down_s=down_s), stopped_s=stopped_s)) is is_so


def test_the_words_of_a_page_are_made_of_the_figures() -> None:
    def told(without: Run, behind: Run) -> str:
        return " ".join(words(Replay(CASHBACK, without, behind, "a machine")))

    assert "the bank fell: in 20 of 50 seconds" in told(a_run(down_s=20), a_run())
    assert "With it the bank stood" in told(a_run(down_s=20), a_run())
    assert "this run shows nothing" in told(a_run(), a_run())
    assert "promises were broken: 1 places were lost" in told(a_run(), a_run(lost_places=1))
    assert "too busy to tell why: 1 who were" in told(a_run(), a_run(wrongly_refused=1, lag_s=3.0))
