"""The answer to a poll that the board alone can give: most of what a crowd asks, so it is filled into a form made before.

The form holds what is the same for every poll of one board; left open is what one ticket changes. `place.waiting_place`
says the same in full, and a test holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gateway.model import Code, Standing
from gateway.rules import policy
from gateway.rules.board import STALE_AFTER_S, Board
from gateway.rules.tokens import Glance
from gateway.web import answers
from gateway.web.desk import Desk
from gateway.web.place import UNTIMED, message, stamp
from gateway.web.ready import JSON_HEAD, Ready, ReadyHead

SEATED: Final = frozenset({Code.NEW, Code.KNOWN})
STAMP_S: Final = 0.02  # how old "now" may be


@dataclass(frozen=True, slots=True)
class _Form:
    """One board's form: its parts between the places to fill in, and the figures that hold for all its tickets."""

    board: Board
    opening: str
    middle: str
    closing: str
    is_timed: bool
    base_s: float  # seconds that everybody waits before positions count
    step_s: float  # seconds a position is worth
    opens_in_s: float  # until a scheduled room opens: the wait that is shown begins only then
    p90: float
    until_s: float  # monotonic, when the board is too old to answer from


class Polls:
    """Answers one room's polls, and its joins, from a form. None: the long way must be gone (`place`, `reply`)."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._queue = desk.queue
        self._monotonic = desk.queue.clock.monotonic
        self._reissue_s = desk.room.absence_max_s  # half of a ticket's life
        self._form: _Form | None = None
        self._head = ReadyHead("HTTP/1.1 200 OK", JSON_HEAD)
        self._seat_heads = {Code.NEW: ReadyHead("HTTP/1.1 201 Created", JSON_HEAD), Code.KNOWN: self._head}
        self._stamped_s = 0.0
        self._now = ""

    def answer(self, ticket: Glance, now_s: float, chance: float) -> bytes | None:
        """To a poll, from the board: head and body."""
        queue, form = self._queue, self._current()
        number = ticket.number
        if (
            form is None
            or not form.board.knows(number, ticket.epoch)
            or queue.was_spent_here(number)
            or ticket.expires_at_s - now_s <= self._reissue_s
        ):
            return None
        queue.mark(number)
        position = self._desk.shown.least(ticket.epoch, number, form.board.position(number))
        expected_s = form.base_s + position * form.step_s
        waited_s = max(0.0, now_s - ticket.joined_at_s)
        body = self._fill(form, number, position, expected_s, waited_s, now_s, chance).encode()
        return b"%b\r\n%b" % (self._head.of(len(body), now_s), body)

    def seat(self, identity: bytes, standing: Standing, chance: float, *, in_body: bool) -> Ready | None:
        """To a join that was seated above the cursor just now; the ticket goes into the body or a cookie."""
        form, desk = self._current(), self._desk
        if form is None or standing.epoch != form.board.census.epoch or standing.code not in SEATED:
            return None
        position, now_s = standing.detail + 1, self._queue.clock.now_s()
        expected_s = form.base_s + position * form.step_s
        text, ticket = desk.new_ticket(identity, standing, expected_s + form.opens_in_s if form.is_timed else None)
        document = self._fill(form, standing.number, position, expected_s, 0.0, now_s, chance)
        cookies = () if in_body else (desk.set_ticket(text, ticket),)
        body = (f'{document[:-1]},"ticket":"{text}"}}' if in_body else document).encode()
        return Ready(self._seat_heads[standing.code].of(len(body), now_s, *cookies), body)

    def _current(self) -> _Form | None:
        """The form of the newest board, or None where that is too old to answer from."""
        board, form = self._queue.board, self._form
        if board is None:
            return None
        if form is None or form.board is not board:
            form = self._form = self._make_form(board)
        return form if self._monotonic() <= form.until_s else None

    def _fill(
        self, form: _Form, number: int, position: int, expected_s: float, waited_s: float, now_s: float, chance: float
    ) -> str:
        if form.is_timed:
            shown_s = expected_s + form.opens_in_s
            p50_s, progress = int(shown_s + 0.5) or 1, waited_s / (waited_s + shown_s or 1.0)
            p90_s = max(p50_s, math.ceil(shown_s * form.p90))
            timed = f'{{"p50_s":{p50_s},"p90_s":{p90_s}}},"progress":{progress:.3f}'
        else:
            timed = 'null,"progress":null'
        if now_s - self._stamped_s > STAMP_S:
            self._stamped_s, self._now = now_s, stamp(now_s)
        return (
            f'{form.opening}{number},"position":{position},"ahead":{position - 1}{form.middle}{timed}'
            f',"poll_after_ms":{policy.poll_after_ms(expected_s, chance)},"now":"{self._now}{form.closing}'
        )

    def _make_form(self, board: Board) -> _Form:
        desk, monotonic_s = self._desk, self._monotonic()
        room_state = board.room_state(desk.room.waiting_max)
        shared = {"room_state": room_state.value, "message": message(desk), "as_of": stamp(board.census.now / 1e6)}
        closing = answers.json_text(shared)[1:]
        fixed = '"stale":false,"provisional":false,"claim_in_ms":null,"lease_until":null,"cause":null'
        expected_s = board.expected_s(0)
        return _Form(
            board=board,
            opening=f'{{"room":"{desk.room.id}","state":"waiting","number":',
            middle=f',"waiting":{board.census.waiting},"eta":',
            closing=f'",{fixed},{closing}',
            is_timed=room_state not in UNTIMED,
            base_s=expected_s,
            step_s=board.expected_s(1) - expected_s,
            opens_in_s=max(0.0, (desk.room.opens_at_s or 0) - self._queue.clock.now_s()),
            p90=desk.waits.p90(monotonic_s),
            # After a loss positions may grow, with a cause: that is told the long way.
            until_s=0.0 if self._queue.healed_at_s is not None else board.read_at_s + STALE_AFTER_S,
        )
