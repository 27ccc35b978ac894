"""What a run proves, and which other run it may stand beside: from reports, without running anything."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.entrylog import Entry
from gateway.demo.plan import CrowdSettings, Kind, plan_crowd
from gateway.demo.report import CrowdReport, Door, summarise
from gateway.demo.scene import Demo, _conclusion
from gateway.demo.tally import CrowdRun, Journey, Outcome
from gateway.demo.verdict import broken_promises, verdict

CROWD = CrowdSettings(visitors=40, leavers=0, no_shows=0, sleepers=0.5)


def finished(*, has_gateway: bool = True, seconds: float = 180.0, crowd: CrowdSettings = CROWD) -> CrowdReport:
    """The report of a run in which all went well."""
    run = CrowdRun(crowd, began_s=100.0, ended_s=160.0, seconds_max=seconds)
    run.tally.arrived = run.tally.outcomes[Outcome.SERVED] = crowd.visitors
    stats = {"paid": crowd.visitors, "unsigned": 0, "ledger": {"paid_twice": 0, "adds_up": True}}
    return summarise(run, [], stats, Door(40, 40) if has_gateway else None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"excess": {"1": 1.0}}, "1 entries above rate x W + burst in some window"),
        ({"excess": {"1": 9.0}, "excess_late": 8.0}, "9 entries above rate x W + burst in some window"),
        ({"failed": 2, "failures": {"page 503": 2}}, "2 requests of the crowd failed: {'page 503': 2}"),
        ({"balance_failed": 1}, "1 balance requests of other customers failed"),
        ({"paid_twice": 1}, "1 payouts were paid twice"),
        ({"ledger_adds_up": False}, "the bank's ledger does not add up"),
        ({"unsigned": 3}, "3 requests reached the bank's protected pages unsigned"),
        ({"gave_up": 1}, "1 visitors gave up"),
        ({"turned_away": 1}, "1 visitors were turned away"),
        ({"unfinished": 1}, "1 visitors never came to an end"),
        ({"overtaken_at_door": 1}, "1 stood at the door while a higher number went in"),
        ({"places_changed": 1}, "1 times a visitor's number changed"),
        ({"positions_grown": 1}, "1 times a position grew without a cause"),
        (
            {"is_cut_short": True, "unfinished": 9, "still_waiting": 8, "unmoved_s": 11.0},
            "nobody was let in for 11 s while 8 waited",
        ),
    ],
)
def test_each_broken_promise_is_told(change: dict[str, Any], sentence: str) -> None:
    """Promises 1, 3, 4, 7 and 9, as a run can show them; a run in which none is broken says so."""
    good = finished()
    assert broken_promises(good) == []
    assert list(verdict(good, has_gateway=True))[-1].startswith("KEPT: ")
    bad = replace(good, **change)
    assert [fault for fault in broken_promises(bad) if sentence in fault]
    told = list(verdict(bad, has_gateway=True))
    assert [line for line in told if line.startswith(f"BROKEN: {sentence}")]
    assert not [line for line in told if line.startswith("KEPT")]
    assert not [line for line in verdict(bad, has_gateway=False) if "BROKEN" in line or "KEPT" in line]


def test_who_waits_when_the_time_is_up_was_promised_nothing_else() -> None:
    """A run that was cut short is judged by what happened in it."""
    early = replace(finished(), is_cut_short=True, took_s=5.0, arrived=30, unfinished=25, still_waiting=20)
    early = replace(early, unmoved_s=1.0)
    assert broken_promises(early) == []
    told = list(verdict(early, has_gateway=True))
    assert told[0] == "Cut short after 5 s (--seconds): 25 still waiting or on their way, 10 not come yet."
    assert told[1].startswith("KEPT: ")
    assert told[1].endswith("till then.")
    assert "page 500" in broken_promises(replace(early, failed=1, failures={"page 500": 1}))[0]


def test_a_late_crowd_does_not_judge_by_its_own_clock() -> None:
    """Who overtook whom at the door is what the crowd's process saw, and it saw late."""
    late = replace(finished(), crowd_lag_max_s=0.9, overtaken_at_door=2)
    assert broken_promises(late) == []
    told = list(verdict(late, has_gateway=True))
    assert told[0] == "NOT JUDGED: 2 overtaken at the door, by the crowd's clock"
    assert told[1].startswith("KEPT: never above the rate, no request failed")
    assert "came up to 0.9 s late" in told[2]


def test_what_the_crowds_lateness_can_have_made_is_not_held_against_the_door() -> None:
    """Promise 1 is seen at the bank: who is held up for a second on the way there comes with those of that second."""
    run = CrowdRun(CROWD, began_s=100.0, ended_s=160.0)
    run.tally.lag_max_s = 0.2
    at_once = [Entry("", "", 100.0, 0.0)] * 50
    report = summarise(run, at_once, {"ledger": {"adds_up": True}}, Door(40, 40))
    assert (report.worst_excess, report.excess_late) == (6.0, 8.0)
    assert broken_promises(report) == []
    assert "NOT JUDGED: 6 entries above" in next(iter(verdict(report, has_gateway=True)))
    report = summarise(run, [*at_once, *at_once[:3]], {"ledger": {"adds_up": True}}, Door(40, 40))
    assert broken_promises(report) == ["9 entries above rate x W + burst in some window"]
    run.tally.lag_max_s = 0.1  # in time: not one too many
    report = summarise(run, at_once[:45], {"ledger": {"adds_up": True}}, Door(40, 40))
    assert broken_promises(report) == ["1 entries above rate x W + burst in some window"]


def test_only_those_awake_in_line_count_as_waiting() -> None:
    """Who sleeps, or has been let in, is no proof of an idle door."""
    run = CrowdRun(CROWD, began_s=100.0, ended_s=130.0, is_cut_short=True)
    plans = plan_crowd(CROWD)
    awake = [plan for plan in plans if plan.kind is not Kind.SLEEPER]
    run.journeys = [Journey(plan, number=index) for index, plan in enumerate(plans)]
    run.journeys += [Journey(awake[0], number=90, granted_s=112.0), Journey(awake[1])]
    report = summarise(run, [], {}, Door(40, 40))
    assert (report.still_waiting, report.unmoved_s) == (len(awake), 18.0)


# --- the run beside it -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAKELEVEL", raising=False)


def told(demo: Demo) -> str:
    report = finished(has_gateway=not demo.is_without, seconds=demo.seconds, crowd=demo.crowd)
    return "\n".join(_conclusion(demo, report))


def columns_of(text: str) -> int:
    return len(next(line for line in text.splitlines() if line.startswith("visitors arrived")).split()) - 2


def test_only_a_run_with_equal_arguments_is_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another crowd's figures beside this one's would lie; the command of the comparable run is told instead."""
    seeded = replace(CROWD, seed=7)
    assert columns_of(told(Demo(CROWD, is_without=True))) == 1
    for demo in (
        Demo(seeded, arguments=("--seed", "7")),
        Demo(replace(CROWD, visitors=41), arguments=("--visitors", "41")),
        Demo(CROWD, seconds=50.0, arguments=("--seconds", "50")),
    ):
        text = told(demo)
        assert columns_of(text) == 1
        assert f"To see the same crowd without the gateway: waitroom demo --without {' '.join(demo.arguments)}" in text
    text = told(Demo(CROWD))
    assert columns_of(text) == 2
    assert re.search(r'The column "without" is the run that ended 20\d\d-\d\d-\d\d \d\d:\d\d\.', text)
    monkeypatch.setenv("MAKELEVEL", "1")
    assert "make demo-without ARGS='--seed 7'" in told(Demo(seeded, arguments=("--seed", "7")))
    assert "behind the gateway: make demo ARGS='--seed 8'" in told(
        Demo(replace(CROWD, seed=8), is_without=True, arguments=("--seed", "8"))
    )


def test_a_report_that_cannot_be_kept_or_read_costs_the_comparison_only() -> None:
    Path("state/demo").mkdir(parents=True)
    Path("state/demo/without.json").write_text('{"name": "of another version"}')
    assert columns_of(told(Demo(CROWD))) == 1
    Path("state/demo/without.json").write_text("[]")
    assert columns_of(told(Demo(CROWD))) == 1
    for name in ("with.json", "without.json"):
        Path(f"state/demo/{name}").unlink(missing_ok=True)
        os.mkdir(f"state/demo/{name}")
    assert "KEPT" in told(Demo(CROWD))
