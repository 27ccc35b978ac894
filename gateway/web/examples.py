"""Owns one example of each document of the contract; a test holds them to the schemas they stand beside."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

STATUS: Final[Json] = {
    "room": "sale",
    "state": "waiting",
    "number": 85,
    "position": 55,
    "ahead": 54,
    "waiting": 55,
    "eta": {"p50_s": 17, "p90_s": 25},
    "progress": 0.07,
    "poll_after_ms": 3488,
    "room_state": "queueing",
    "message": None,
    "now": "2026-11-22T08:04:34.250Z",
    "as_of": "2026-11-22T08:04:34.016Z",
    "stale": False,
    "provisional": False,
    "claim_in_ms": None,
    "lease_until": None,
    "cause": None,
}
BOARD: Final[Json] = {
    "room": "sale",
    "epoch": 1,
    "version": 4711,
    "room_state": "queueing",
    "as_of": "2026-11-22T08:04:34.016Z",
    "waiting": 55,
    "active": 12,
    "called": 4,
    "next_number": 86,
    "passed": 30,
    "drain_rate": "2/s",
    "throughput": 2.0,
    "ranks": [[1, 31], [10, 40], [55, 85]],
    "message": {"texts": {"en": "Back at noon"}, "at": "2026-11-22T08:00:00.000Z"},
    "opens_at": None,
}
PROBLEM: Final[Json] = {
    "type": "admission-required",
    "title": "This route has a line: join it to be let in",
    "status": 429,
    "detail": "join the line: POST /_waitroom/sale/ticket, then ask /_waitroom/sale/status as it says",
    "room": "sale",
    "room_state": "queueing",
}
EXAMPLES: Final = {"Status": STATUS, "Board": BOARD, "Problem": PROBLEM}


def with_examples(**schemas: Json) -> dict[str, Json]:
    """Each schema under its name, with its example."""
    return {name: schema | {"examples": [EXAMPLES[name]]} for name, schema in schemas.items()}
