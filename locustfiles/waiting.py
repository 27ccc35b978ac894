"""Owns what a visitor does next, decided from one answer: the waiting page's rules, without its clock or its network.

A visit is a chain of steps: load what one came for; where a line stands before it, join, poll as told, claim when
called, and load again. `next_step` is total: what is no answer to the step (a failure, a page of something in between)
leads to the same step again, later. The kinds of visitors differ in what they make of a step (`visitors.py`), not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, assert_never

RETRY_AFTER_MAX_S: Final = 300.0  # the page waits no longer than that for anybody either
CLAIM_AGAIN_S: Final = 1.0  # a 202 without Retry-After
BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 30.0


class Outcome(StrEnum):
    """How a visit ended."""

    SERVED = "served"
    LEFT = "left silently"
    TURNED_AWAY = "turned away"  # sold out or closed, and told so
    LOST = "told that its place was over"
    GAVE_UP = "gave up"  # too many failures in a row


@dataclass(frozen=True, slots=True)
class Load:
    """Ask for the protected page."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Join:
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Poll:
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class In:
    """The page itself came."""


@dataclass(frozen=True, slots=True)
class End:
    outcome: Outcome


Request = Load | Join | Poll | Claim
Step = Request | In | End


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0 is none. Header names are lower-case, `body` is {} where it was no JSON object."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def is_page(self) -> bool:
        """The protected page, and nothing that stands in its place."""
        return 200 <= self.status < 400 and not self.is_held

    @property
    def is_held(self) -> bool:
        """The gateway's own answer: not yet. Its status is the room's choice."""
        return self.headers.get("waitroom-state") == "waiting"

    @property
    def is_full(self) -> bool:
        return self.status == 503 and str(self.body.get("type", "")).endswith("room-full")

    @property
    def is_early(self) -> bool:
        """The bank's own answer before the hour: not open yet, look again."""
        return self.status == 403 and "retry-after" in self.headers

    @property
    def is_over(self) -> bool:
        """Sold out or closed, whether the bank says so or the gateway."""
        return self.status == 409

    @property
    def retry_after_s(self) -> float:
        text = self.headers.get("retry-after", "")
        return min(float(text), RETRY_AFTER_MAX_S) if text.isdecimal() else 0.0


def is_expected(done: Request, answer: Answer) -> bool:
    """Is it an answer to this step at all? What is not counts as a failed request."""
    has_state = isinstance(answer.body.get("state"), str)
    match done:
        case Load():
            return answer.is_page or answer.is_held or answer.is_early or answer.is_over
        case Join():
            return (answer.status in {200, 201} and has_state) or answer.status in {409, 410} or answer.is_full
        case Poll():
            return (answer.status == 200 and has_state) or answer.status in {404, 410}
        case Claim():
            return (answer.status in {200, 202} and has_state) or answer.status in {404, 409, 410}
        case _:
            assert_never(done)


def next_step(done: Request, answer: Answer, backoff_s: float) -> Step:
    """What the waiting page would do now; `backoff_s` is how long it, or who reloads by hand, waits where nothing was said."""
    if not is_expected(done, answer):
        return replace(done, after_s=max(answer.retry_after_s, backoff_s))
    match done:
        case Load():
            return _after_page(answer, backoff_s)
        case Join() if answer.is_full:
            return Join(max(answer.retry_after_s, backoff_s))
        case Join() if answer.is_over:
            return End(Outcome.TURNED_AWAY)
        case Join() | Poll() if answer.status == 410:
            return End(Outcome.LOST)
        case Poll() if answer.status == 404:
            return Join()  # the ticket is not known any more: the key finds the place
        case Claim() if answer.status >= 400:
            return Poll(backoff_s)  # its status tells why
        case Claim() if answer.body["state"] == "called":
            return _unless_over(Claim(answer.retry_after_s or CLAIM_AGAIN_S), answer)
        case _:
            return _as_told(answer)


def _after_page(answer: Answer, again_s: float) -> Step:
    if answer.is_over:
        return End(Outcome.TURNED_AWAY)
    if answer.is_early:
        return Load(again_s)
    return In() if answer.is_page else Join()


def _as_told(status: Answer) -> Step:
    poll_after_ms = status.body.get("poll_after_ms")
    match status.body["state"]:
        case "admitted":
            return Load()
        case "ended":
            return End(Outcome.LOST)
        case "called" | "parked":
            return _unless_over(Claim(), status)
        case _ if isinstance(poll_after_ms, int | float):
            return _unless_over(Poll(max(poll_after_ms, 0) / 1e3), status)
        case _:
            return End(Outcome.TURNED_AWAY)  # told to ask no more


def _unless_over(step: Step, status: Answer) -> Step:
    is_over = status.body.get("room_state") in {"sold_out", "closed"}
    return End(Outcome.TURNED_AWAY) if is_over else step


def backoff_s(misses: int, spread: float) -> float:
    """After so many failures in a row: doubling, over its upper half by `spread` (0 to 1), as the page does."""
    return min(BACKOFF_MAX_S, max(BACKOFF_MIN_S, 2.0 ** min(misses, 10) * (0.5 + spread / 2)))
