"""What a visitor does next, as a table: the waiting page's rules for every answer of section 8."""

from __future__ import annotations

from typing import Any

import pytest

from locustfiles.waiting import (
    RETRY_AFTER_MAX_S,
    Answer,
    Claim,
    End,
    In,
    Join,
    Load,
    Outcome,
    Poll,
    Request,
    Step,
    backoff_s,
    is_expected,
    next_step,
)

BACKOFF_S = 7.0
HELD = {"waitroom-state": "waiting", "retry-after": "5"}


def said(status: int, retry_after: str = "", **body: Any) -> Answer:
    return Answer(status, {"retry-after": retry_after} if retry_after else {}, body)


@pytest.mark.parametrize(
    ("done", "answer", "following"),
    [
        # The page: itself, or what stands in its place, whatever status the room chose for that.
        (Load(), said(200), In()),
        (Load(), said(303), In()),
        (Load(), Answer(429, HELD, {}), Join()),
        (Load(), Answer(200, HELD, {}), Join()),
        (Load(), Answer(503, HELD, {}), Join()),
        # The bank itself: nothing left, or not yet; then it is looked at again by hand.
        (Load(), said(409), End(Outcome.TURNED_AWAY)),
        (Load(), said(403, "5"), Load(BACKOFF_S)),
        # Joining.
        (Join(), said(201, state="waiting", poll_after_ms=2_500), Poll(2.5)),
        (Join(), said(200, state="called", poll_after_ms=1_000), Claim()),
        (Join(), said(200, state="admitted"), Load()),
        (Join(), said(409, type="sold-out"), End(Outcome.TURNED_AWAY)),
        (Join(), said(409, type="closed"), End(Outcome.TURNED_AWAY)),
        (Join(), said(410, type="admission-ended"), End(Outcome.LOST)),
        (Join(), said(503, "20", type="room-full"), Join(20.0)),
        (Join(), said(503, type="room-full"), Join(BACKOFF_S)),
        # Polling: as told, not sooner.
        (Poll(), said(200, state="waiting", poll_after_ms=30_000), Poll(30.0)),
        (Poll(), said(200, state="parked", poll_after_ms=30_000), Claim()),
        (Poll(), said(200, state="called", poll_after_ms=30_000, room_state="paused"), Claim()),
        (Poll(), said(200, state="admitted", poll_after_ms=None), Load()),
        (Poll(), said(200, state="ended", poll_after_ms=None), End(Outcome.LOST)),
        (Poll(), said(200, state="waiting", poll_after_ms=None), End(Outcome.TURNED_AWAY)),
        (Poll(), said(200, state="waiting", poll_after_ms=2_000, room_state="sold_out"), End(Outcome.TURNED_AWAY)),
        (Poll(), said(200, state="called", poll_after_ms=2_000, room_state="closed"), End(Outcome.TURNED_AWAY)),
        (Poll(), said(200, state="admitted", room_state="sold_out"), Load()),
        (Poll(), said(404, type="no-ticket"), Join()),
        (Poll(), said(410), End(Outcome.LOST)),
        # Claiming: the turn is kept, the answer says when to try again.
        (Claim(), said(200, state="admitted"), Load()),
        (Claim(), said(202, "3", state="called"), Claim(3.0)),
        (Claim(), said(202, state="called"), Claim(1.0)),
        (Claim(), said(202, "3", state="called", room_state="sold_out"), End(Outcome.TURNED_AWAY)),
        (Claim(), said(202, "3", state="waiting", poll_after_ms=4_000), Poll(4.0)),
        (Claim(), said(404), Poll(BACKOFF_S)),
        (Claim(), said(410), Poll(BACKOFF_S)),
    ],
)
def test_the_next_step_is_the_pages(done: Request, answer: Answer, following: Step) -> None:
    """Section 8: polls as `poll_after_ms` says, claims when called, keeps its key, takes 202 and Retry-After."""
    assert is_expected(done, answer)
    assert next_step(done, answer, BACKOFF_S) == following


@pytest.mark.parametrize("done", [Load(3), Join(3), Poll(3), Claim(3)])
@pytest.mark.parametrize(
    ("answer", "after_s"),
    [
        (said(0), BACKOFF_S),
        (said(502), BACKOFF_S),
        (said(500, "60"), 60.0),
        (said(429, "2"), BACKOFF_S),  # overloaded: no sooner than it would by itself
        (said(429, "99999999"), RETRY_AFTER_MAX_S),
        (said(429, "soon"), BACKOFF_S),
        (said(403), BACKOFF_S),  # without Retry-After it is no hour that is still to come
    ],
)
def test_what_is_no_answer_is_asked_again_later(done: Request, answer: Answer, after_s: float) -> None:
    assert not is_expected(done, answer)
    assert next_step(done, answer, BACKOFF_S) == type(done)(after_s)


@pytest.mark.parametrize("done", [Join(), Poll(), Claim()])
def test_a_page_of_something_in_between_is_no_status(done: Request) -> None:
    assert not is_expected(done, said(200))


def test_backing_off_doubles_over_its_upper_half() -> None:
    assert [backoff_s(misses, 0.0) for misses in range(7)] == [1, 1, 2, 4, 8, 16, 30]
    assert [backoff_s(misses, 1.0) for misses in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff_s(10**6, 0.5) == 30
