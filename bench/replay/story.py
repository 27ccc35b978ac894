"""Owns what one run comes to: the figures of the table, and a series for each plot; all of it as data that can be kept.

Whose word counts: what people met is the crowd's record; what was sold, paid and let in is the bank's own books and log;
the line is the room's board. All of them read one clock. Times are seconds since the crowd began to come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from math import floor, inf
from typing import Any, Final, Self

from bench.replay.run import Evidence
from bench.replay.samples import Sample
from bench.replay.scenario import Scenario
from gateway.demo.figures import DoorPass, overtaken_at_door, percentile, promise_one_excess
from locustfiles.figures import DOOR_SLACK_S, Count
from locustfiles.record import HELD, Asked, Visit
from locustfiles.waiting import Outcome

BESIDE: Final = "beside"
BY_THE_BANK: Final = frozenset({"page", "pay"})
LATER_S: Final = 5.0  # who comes that much later and is let in first has overtaken; less is the pace of looking
ASLEEP: Final = frozenset({"Sleeper"})  # whom it is right to pass by
FOUND_AGAIN_S: Final = 10.0  # gateways judge an upstream by its last 10 s, each by its own requests
STOP_SLACK_S: Final = 1.0  # what was under way when the bank died or came back


@dataclass(frozen=True, slots=True)
class Figures:
    """The rows of the table; None where a run cannot have it."""

    arrived: int
    served: int  # who were told that they have what they came for
    served_per_min: float
    turned_away: int  # told that it is over
    gave_up: int
    under_way: int  # neither, when the run ended
    untold: int  # who have it in the books and never heard of it
    requests: int  # of the crowd
    failed: int
    failed_in_stop: int  # of those: while the bank was away
    down_s: int  # seconds in which more of the crowd's requests failed than the bank answered
    abandoned: int  # transactions for people who had gone
    oversold: int
    sold_out_s: float | None
    beside: int  # requests of ordinary customers, from the crowd's beginning on
    beside_failed: int
    beside_failed_in_stop: int
    beside_p50_ms: float
    beside_p99_ms: float
    quiet_p99_ms: float  # of the same, before the crowd
    overtaken: int  # somebody who came 5 s later was let in before them, or they never were
    overtaken_at_door: int | None  # stood at the door while a higher number went in
    overtaken_in_stop: int  # of those: before all gateways had found the bank again
    wrongly_refused: int
    lost_places: int
    unsigned: int
    paid_twice: int
    excess: float | None  # the most entries in any window above rate x window + burst
    line_max: int | None
    wait_p50_s: float
    wait_p90_s: float
    by_p50: float | None  # the share of those told a time who were in by it
    by_p90: float | None
    lag_s: float
    others_share: float  # of the machine


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it is plotted. Second k of `served` and `failed` is from `from_s` + k until one later."""

    has_gateway: bool
    figures: Figures
    from_s: int
    served: list[int]
    failed: list[int]
    beside: list[tuple[float, float, bool]]  # when asked, milliseconds, whether it failed
    line: list[tuple[float, int]]
    queued: list[tuple[float, int]]  # before the bank's workers
    left: list[tuple[float, int]]  # of the stock
    people: list[tuple[float, int]]  # served so far
    waits: list[tuple[float, float, float]]  # told p50, told p90, real; seconds
    opened_s: float | None
    stopped_s: tuple[float, float] | None

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Self:
        names = {field.name for field in fields(cls)} - {"figures", "stopped_s"}
        stopped_s = tuple(kept["stopped_s"]) if kept["stopped_s"] else None
        rest = {name: kept[name] for name in names}
        return cls(figures=Figures(**kept["figures"]), stopped_s=stopped_s, **rest)


def tell(scenario: Scenario, evidence: Evidence, seconds: float) -> Run:
    """What the run comes to, watched for so many seconds from the crowd's beginning."""
    recorded, began_s = evidence.recorded, evidence.recorded.began_s
    has_gateway = any(sample.board for sample in evidence.samples)
    inside = [each for each in recorded.requests if each.ended_s - began_s <= seconds]
    crowd = [each for each in inside if each.name != BESIDE]
    from_s = floor(min((each.ended_s for each in inside), default=began_s) - began_s)
    served, failed = _by_second(crowd, began_s, from_s, round(seconds))
    samples = [each for each in evidence.samples if from_s <= each.at_s - began_s <= seconds]
    visits = recorded.visits
    stopped_s = evidence.stopped_s and (evidence.stopped_s[0] - began_s, evidence.stopped_s[1] - began_s)
    opened_s = None if evidence.opened_s is None else evidence.opened_s - began_s
    return Run(
        has_gateway=has_gateway,
        figures=_figures(scenario, evidence, crowd, has_gateway=has_gateway, seconds=seconds),
        from_s=from_s,
        served=served,
        failed=failed,
        beside=[
            (round(each.ended_s - each.took_ms / 1e3 - began_s, 2), each.took_ms, bool(each.result))
            for each in inside
            if each.name == BESIDE
        ],
        line=_series(samples, began_s, _in_line),
        queued=_series(samples, began_s, lambda sample: sample.bank.get("queued")),
        left=[] if scenario.stock is None else _series(samples, began_s, _left),
        people=_people(visits, began_s, from_s, round(seconds)),
        waits=[
            (each.told_p50_s, each.told_p90_s, round(each.entered_s - each.told_s, 1))
            for each in visits
            if each.entered_s is not None and each.told_s is not None
            if each.told_p50_s is not None and each.told_p90_s is not None
        ],
        opened_s=opened_s,
        stopped_s=stopped_s,
    )


def _figures(
    scenario: Scenario, evidence: Evidence, crowd: Sequence[Asked], *, has_gateway: bool, seconds: float
) -> Figures:
    recorded, stats, began_s = evidence.recorded, evidence.stats, evidence.recorded.began_s
    visits, outcomes = recorded.visits, Counter(each.outcome for each in recorded.visits)
    lag_s = float(evidence.visits["the crowd's own lag"].partition(" ")[0])
    beside = [each for each in recorded.requests if each.name == BESIDE]
    busy = [each for each in beside if began_s <= each.ended_s <= began_s + seconds + STOP_SLACK_S]
    times_ms = [each.took_ms for each in busy]
    quiet_ms = [each.took_ms for each in beside if each.ended_s < began_s]
    failed = [each for each in crowd if each.result not in {"", HELD}]
    served_s, failed_s = _by_second(crowd, began_s, 0, round(seconds))
    waits_s = [each.entered_s - each.arrived_s for each in visits if each.entered_s is not None]
    told = [each for each in visits if each.entered_s is not None and each.told_s is not None]
    has = stats["deposits"]["sold"] if scenario.stock is not None else stats["granted"] + stats["ledger"]["payouts"]
    open_s = seconds - (scenario.opens_s or 0.0)
    served = outcomes[Outcome.SERVED]
    passes = [each for visit in visits if (each := _door_pass(visit)) is not None]
    slack_s = DOOR_SLACK_S + lag_s
    overtaken = overtaken_at_door(passes, slack_s)
    overtaken_outside = overtaken_at_door(_outside_stop(passes, evidence), slack_s)
    line = [waiting for sample in evidence.samples if (waiting := _in_line(sample)) is not None]
    return Figures(
        arrived=len(visits),
        served=served,
        served_per_min=round(60 * served / open_s, 1),
        turned_away=outcomes[Outcome.TURNED_AWAY],
        gave_up=outcomes[Outcome.GAVE_UP],
        under_way=outcomes[""],
        untold=max(0, has - served),
        requests=len(crowd),
        failed=len(failed),
        failed_in_stop=_in_stop(failed, evidence),
        down_s=sum(f > s for s, f in zip(served_s, failed_s, strict=True)),
        abandoned=_summed(evidence.samples, stats, "abandoned"),
        oversold=stats["deposits"]["oversold"] if scenario.stock is not None else 0,
        sold_out_s=_sold_out_s(scenario, evidence.samples, began_s),
        beside=len(busy),
        beside_failed=sum(bool(each.result) for each in busy),
        beside_failed_in_stop=_in_stop([each for each in busy if each.result], evidence),
        beside_p50_ms=percentile(times_ms, 0.5),
        beside_p99_ms=percentile(times_ms, 0.99),
        quiet_p99_ms=percentile(quiet_ms, 0.99),
        overtaken=overtaken_later(visits),
        overtaken_at_door=overtaken if has_gateway else None,
        overtaken_in_stop=overtaken - overtaken_outside,
        wrongly_refused=int(evidence.visits[Count.WRONGLY_REFUSED]),
        lost_places=int(evidence.visits[Count.LOST_PLACES]),
        unsigned=_summed(evidence.samples, stats, "unsigned") if has_gateway else 0,
        paid_twice=stats["ledger"]["paid_twice"],
        excess=_excess(scenario, evidence) if has_gateway else None,
        line_max=max(line, default=0) if has_gateway else None,
        wait_p50_s=round(percentile(waits_s, 0.5), 1),
        wait_p90_s=round(percentile(waits_s, 0.9), 1),
        by_p50=_share_in_by(told, lambda each: each.told_p50_s),
        by_p90=_share_in_by(told, lambda each: each.told_p90_s),
        lag_s=lag_s,
        others_share=evidence.others_share,
    )


def overtaken_later(visits: Iterable[Visit]) -> int:
    """Before how many somebody was let in who had come `LATER_S` later than they.

    Whoever never was let in counts, too, but for those who left by themselves; sleepers aside.
    """
    stayed = (each for each in visits if each.kind not in ASLEEP)
    turns = sorted(
        (inf if each.entered_s is None else each.entered_s, each.arrived_s)
        for each in stayed
        if each.entered_s is not None or each.outcome != Outcome.LEFT
    )
    newest_s, overtaken = -inf, 0
    for entered_s, arrived_s in turns:
        overtaken += newest_s > arrived_s + LATER_S
        newest_s = max(newest_s, arrived_s) if entered_s < inf else newest_s
    return overtaken


def _by_second(crowd: Iterable[Asked], began_s: float, from_s: int, until_s: int) -> tuple[list[int], list[int]]:
    """What the bank answered, and what failed, in each second."""
    served, failed = [0] * max(0, until_s - from_s), [0] * max(0, until_s - from_s)
    for each in crowd:
        second = floor(each.ended_s - began_s) - from_s
        if 0 <= second < len(served):
            served[second] += each.name in BY_THE_BANK and not each.result
            failed[second] += each.result not in {"", HELD}
    return served, failed


def _series(samples: Iterable[Sample], began_s: float, read: Callable[[Sample], int | None]) -> list[tuple[float, int]]:
    seen = ((round(sample.at_s - began_s, 2), read(sample)) for sample in samples)
    return [(at_s, value) for at_s, value in seen if value is not None]


def _in_line(sample: Sample) -> int | None:
    """Who was told that it is sold out waits no more, though the place is kept a while."""
    return None if sample.board.get("room_state") == "sold_out" else sample.board.get("waiting")


def _left(sample: Sample) -> int | None:
    """Below zero is what was oversold."""
    deposits = sample.bank.get("deposits")
    return deposits["stock"] - deposits["sold"] if deposits else None


def _people(visits: Iterable[Visit], began_s: float, from_s: int, until_s: int) -> list[tuple[float, int]]:
    ended = Counter(
        floor(each.ended_s - began_s) for each in visits if each.outcome == Outcome.SERVED and each.ended_s is not None
    )
    total, people = 0, []
    for second in range(from_s, until_s):
        total += ended[second]
        people.append((float(second + 1), total))
    return people


def _in_stop(failed: Iterable[Asked], evidence: Evidence) -> int:
    """Which of these failed because the bank was away: those that were under way then."""
    if evidence.stopped_s is None:
        return 0
    from_s, until_s = evidence.stopped_s
    return sum(
        each.ended_s >= from_s - STOP_SLACK_S and each.ended_s - each.took_ms / 1e3 <= until_s + STOP_SLACK_S
        for each in failed
    )


def _door_pass(visit: Visit) -> DoorPass | None:
    if visit.number is None or visit.claimed_s is None or visit.granted_s is None:
        return None
    return DoorPass(visit.number, visit.claimed_s, visit.granted_s)


def _outside_stop(passes: Sequence[DoorPass], evidence: Evidence) -> list[DoorPass]:
    """Without the claims that stood at the door before all gateways had found the bank again."""
    if evidence.stopped_s is None:
        return list(passes)
    from_s, until_s = evidence.stopped_s
    return [each for each in passes if each.granted_s < from_s or each.claimed_s > until_s + FOUND_AGAIN_S]


def _summed(samples: Sequence[Sample], last: Mapping[str, Any], name: str) -> int:
    """A count that begins anew where the bank did."""
    counts = [int(sample.bank[name]) for sample in samples if sample.bank] + [int(last[name])]
    return counts[-1] + sum(before for before, after in pairwise(counts) if after < before)


def _sold_out_s(scenario: Scenario, samples: Iterable[Sample], began_s: float) -> float | None:
    if scenario.stock is None:
        return None
    return next((round(each.at_s - began_s, 1) for each in samples if (_left(each) or 0) <= 0 and each.bank), None)


def _excess(scenario: Scenario, evidence: Evidence) -> float:
    times_s = [entry.monotonic_s for entry in evidence.entries]
    return max(promise_one_excess(times_s, scenario.rate_per_s, scenario.burst).values())


def _share_in_by(told: Sequence[Visit], read: Callable[[Visit], float | None]) -> float | None:
    if not told:
        return None
    was_in = sum((each.entered_s or 0) - (each.told_s or 0) <= (read(each) or 0) for each in told)
    return round(was_in / len(told), 3)
