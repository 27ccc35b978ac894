"""Evidence of a run, made by hand: the crowd begins at second 1,000 of the clock."""

from __future__ import annotations

from typing import Any, Final

from bench.replay.run import Evidence
from bench.replay.samples import Sample
from gateway.demo.entrylog import Entry
from locustfiles.record import Asked, Recorded, Visit

BEGAN_S: Final = 1_000.0
WORDS: Final = {
    "wrongly refused": "0",
    "lost places": "0",
    "the crowd's own lag": "0.05 s at most",
}


def stats(sold: int = 0, stock: int = 100, **counts: int) -> dict[str, Any]:
    deposits = {"stock": stock, "sold": sold, "oversold": max(0, sold - stock)}
    zero = dict.fromkeys(("granted", "abandoned", "unsigned", "queued"), 0)
    return {**zero, **counts, "deposits": deposits, "ledger": {"payouts": 0, "paid_twice": 0}}


def at(second: float, bank: dict[str, Any] | None = None, **board: Any) -> Sample:
    return Sample(BEGAN_S + second, bank or {}, board)


def asked(second: float, name: str, result: str = "", took_ms: float = 50.0) -> Asked:
    return Asked(BEGAN_S + second, name, result, took_ms)


def visit(kind: str, arrived: float, entered: float | None = None, outcome: str = "", told: float = 0.0) -> Visit:
    """Who entered is served a second later; `told` is a p50, told at the arrival."""
    made = Visit(kind, BEGAN_S + arrived, outcome)
    if entered is not None:
        made.entered_s, made.ended_s = BEGAN_S + entered, BEGAN_S + entered + 1
    if told:
        made.told_s, made.told_p50_s, made.told_p90_s = BEGAN_S + arrived, told, 2 * told
    return made


def claim(number: int, claimed: float, granted: float) -> Visit:
    made = visit("App", claimed - 1, granted)
    made.number, made.claimed_s, made.granted_s = number, BEGAN_S + claimed, BEGAN_S + granted
    return made


def evidence(**changes: Any) -> Evidence:
    recorded = Recorded(BEGAN_S, changes.pop("requests", []), changes.pop("visits", []))
    whole: dict[str, Any] = {
        "recorded": recorded,
        "visits": WORDS | changes.pop("words", {}),
        "samples": [],
        "entries": [],
        "stats": stats(),
        "opened_s": None,
        "stopped_s": None,
        "others_share": 0.0,
    }
    return Evidence(**whole | changes)


def entries(*seconds: float) -> list[Entry]:
    return [Entry(f"s{n}", f"a{n}", BEGAN_S + second, 0.0) for n, second in enumerate(seconds)]
