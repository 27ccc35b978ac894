"""What a run comes to, from evidence made by hand: whose word counts, second by second, and what is overtaken."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from bench.replay.scenario import CASHBACK, CASHOUT, DEPOSIT
from bench.replay.story import Run, overtaken_later, tell
from locustfiles.record import HELD
from tests.replay.evidence import BEGAN_S, asked, at, claim, entries, evidence, stats, visit

CROWD = [
    asked(-2.5, "beside", took_ms=20.0),
    asked(0.5, "page"),
    asked(0.9, "page", HELD),
    asked(1.2, "status"),
    asked(1.3, "pay"),
    asked(2.5, "page", "TimeoutError", 5_000.0),
    asked(2.6, "pay", "503"),
    asked(2.7, "beside", "503", 10.0),
    asked(3.5, "beside", took_ms=80.0),
    asked(99.0, "page"),  # after all was watched
]


def test_what_the_bank_answered_and_what_failed_is_counted_by_second() -> None:
    """Neither the waiting page nor a poll is work of the bank's; ordinary customers are told apart."""
    run = tell(CASHBACK, evidence(requests=CROWD), 5)
    assert run.from_s == -3
    assert run.served == [0, 0, 0, 1, 1, 0, 0, 0]
    assert run.failed == [0, 0, 0, 0, 0, 2, 0, 0]
    figures = run.figures
    assert (figures.requests, figures.failed, figures.down_s) == (6, 2, 1)
    assert (figures.beside, figures.beside_failed) == (2, 1)
    assert (figures.quiet_p99_ms, figures.beside_p99_ms) == (20.0, 80.0)
    assert run.beside == [(-2.52, 20.0, False), (2.69, 10.0, True), (3.42, 80.0, False)]


def test_what_failed_while_the_bank_was_away_is_told_apart() -> None:
    stopped = (BEGAN_S + 10, BEGAN_S + 16)
    requests = [
        asked(8.0, "page", "502", 100.0),
        asked(10.1, "pay", "502", 300.0),  # was under way
        asked(13.0, "page", "502", 5.0),
        asked(13.0, "beside", "502", 5.0),
        asked(18.5, "page", "TimeoutError", 5_000.0),
        asked(18.5, "page", "503", 5.0),
    ]
    figures = tell(CASHOUT, evidence(requests=requests, stopped_s=stopped), 60).figures
    assert (figures.failed, figures.failed_in_stop) == (5, 3)
    assert (figures.beside_failed, figures.beside_failed_in_stop) == (1, 1)


def test_people_are_served_when_they_were_told_so_and_the_books_say_who_never_heard() -> None:
    visits = [
        visit("Patient", 0, 2, "served"),
        visit("App", 1, 3, "served"),
        visit("App", 1, outcome="turned away"),
        visit("Leaver", 2, outcome="left silently"),
        visit("Patient", 3),
    ]
    run = tell(DEPOSIT, evidence(visits=visits, stats=stats(sold=5, stock=4)), 30)
    figures = run.figures
    assert (figures.arrived, figures.served, figures.turned_away, figures.under_way) == (5, 2, 1, 1)
    assert (figures.untold, figures.oversold, figures.served_per_min) == (3, 1, 4.0)
    assert run.people[:5] == [(1.0, 0), (2.0, 0), (3.0, 0), (4.0, 1), (5.0, 2)]


def test_line_and_stock_are_what_board_and_books_said() -> None:
    """Who was told that it is sold out waits no more."""
    samples = [
        at(0, stats(sold=0, queued=3), waiting=2, room_state="queueing"),
        at(1, stats(sold=60, queued=9), waiting=50, room_state="queueing"),
        at(2),  # neither answered
        at(3, stats(sold=101), waiting=50, room_state="sold_out"),
    ]
    run = tell(DEPOSIT, evidence(samples=samples), 10)
    assert run.has_gateway
    assert run.line == [(0, 2), (1, 50)]
    assert run.queued == [(0, 3), (1, 9), (3, 0)]
    assert run.left == [(0, 100), (1, 40), (3, -1)]
    assert (run.figures.line_max, run.figures.sold_out_s) == (50, 3.0)
    assert tell(DEPOSIT, evidence(samples=[at(0, stats())]), 10).figures.line_max is None


def test_counts_of_a_bank_that_began_anew_are_added_up() -> None:
    samples = [at(0, stats(abandoned=2)), at(1, stats(abandoned=5)), at(2), at(3, stats(abandoned=1))]
    assert tell(CASHOUT, evidence(samples=samples, stats=stats(abandoned=4)), 10).figures.abandoned == 9


def test_expected_waits_are_held_against_real_ones() -> None:
    visits = [visit("Patient", 0, 4, told=5), visit("Patient", 0, 6, told=5), visit("Patient", 0, 20, told=5)]
    run = tell(CASHBACK, evidence(visits=[*visits, visit("App", 0, 3)]), 30)
    assert run.waits == [(5, 10, 4.0), (5, 10, 6.0), (5, 10, 20.0)]
    assert (run.figures.by_p50, run.figures.by_p90) == (0.333, 0.667)


def test_promise_one_is_judged_by_the_banks_log() -> None:
    burst = round(CASHOUT.burst)
    samples = [at(0, stats(), waiting=0)]
    kept = tell(CASHOUT, evidence(samples=samples, entries=entries(*[1.0] * burst)), 10)
    above = tell(CASHOUT, evidence(samples=samples, entries=entries(*[1.0] * (burst + 5))), 10)
    assert kept.figures.excess is not None
    assert kept.figures.excess <= 0
    assert above.figures.excess == pytest.approx(5 - 0.1 * CASHOUT.rate_per_s)


def test_who_left_by_itself_was_not_overtaken() -> None:
    app = visit("App", 9, 10)
    assert overtaken_later([visit("Leaver", 0, outcome="left silently"), app]) == 0
    assert overtaken_later([visit("Patient", 0, outcome="turned away"), app]) == 1
    assert overtaken_later([visit("Leaver", 0, 11, outcome="left silently"), app]) == 1


@pytest.mark.parametrize(
    ("stays", "overtaken"),
    [
        ([("Patient", 0, 3), ("Patient", 1, 4), ("App", 9, 10)], 0),
        ([("Patient", 0, 11), ("App", 9, 10)], 1),
        ([("Patient", 0, 11), ("App", 4, 10)], 0),  # within the pace of looking
        ([("Sleeper", 0, 11), ("App", 9, 10)], 0),
        ([("Patient", 0, None), ("App", 9, 10)], 1),  # it never was let in
        ([("Patient", 0, None), ("Patient", 1, None), ("App", 9, None)], 0),
        ([("Patient", 9, None), ("App", 0, 10)], 0),
        ([("Sleeper", 0, None), ("App", 9, 10)], 0),
        ([("Patient", 0, 12), ("Patient", 1, 11), ("App", 9, 10)], 2),
    ],
)
def test_before_whom_one_is_let_in_who_came_five_seconds_later_was_overtaken(
    stays: list[tuple[str, float, float | None]], overtaken: int
) -> None:
    assert overtaken_later([visit(*stay) for stay in stays]) == overtaken


def test_claims_overtaken_as_gateways_found_the_bank_again_are_told_apart() -> None:
    """Each judges it by its own requests."""
    visits = [
        claim(1, 0, 5),  # overtaken by 2
        claim(2, 0, 3),
        claim(11, 11, 24),  # by 12, which another gateway let in first
        claim(12, 11, 22),
        claim(21, 40, 45),
        claim(22, 40, 46),
    ]
    seen = [at(0, stats(), waiting=0)]
    stopped = (BEGAN_S + 10, BEGAN_S + 16)
    told = tell(CASHOUT, evidence(visits=visits, samples=seen, stopped_s=stopped), 60).figures
    assert (told.overtaken_at_door, told.overtaken_in_stop) == (2, 1)
    told = tell(CASHOUT, evidence(visits=visits, samples=seen), 60).figures
    assert (told.overtaken_at_door, told.overtaken_in_stop) == (2, 0)


def test_a_run_is_kept_as_json_and_read_back() -> None:
    told = evidence(requests=CROWD, visits=[visit("App", 0, 3, told=2)], stopped_s=(BEGAN_S + 1, BEGAN_S + 2))
    run = tell(DEPOSIT, told, 5)
    back = Run.of_json(json.loads(json.dumps(asdict(run))))
    assert asdict(replace(back, stopped_s=None)) == json.loads(json.dumps(asdict(replace(run, stopped_s=None))))
    assert back.stopped_s == (1.0, 2.0)
