"""The express way: a room's few questions that a whole crowd asks over and over, answered from the request's very bytes.

A poll that the board can answer, the public board and the waiting page (in place of a protected URL: `arrivals.py`) make up
nearly all that a crowd sends. Each comes as one whole, plain GET; such a one is answered before aiohttp's parser, request, task
and response exist, which would cost more than the answer itself (`docs/performance.md`). None means: not so simple, ask the usual
way; it knows everything that is known here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import perf_counter
from typing import Final

from gateway.metrics import Kind
from gateway.rules.head import plain_fields
from gateway.rules.tokens import Glance
from gateway.web import answers
from gateway.web.arrivals import Arrivals
from gateway.web.desk import Desk
from gateway.web.place import board_document
from gateway.web.poll import Polls
from gateway.web.ready import ReadyHead

BOARD_KEPT_S: Final = 0.1  # boards are read every 0.25 s, and may be cached for 1 s
Fields = dict[bytes, bytes]
_OF_OURS: Final = b"waitroom-"  # in every token's cookie or field

_random = random.random  # spreads polls; nothing depends on its being hard to guess


class Express:
    """`answer(data)`: the whole answer to one whole request, or None. `on_answer` is told what it was and its seconds."""

    def __init__(
        self, rooms: dict[str, RoomExpress], arrivals: Arrivals, on_answer: Callable[[Kind, float], None]
    ) -> None:
        self._arrivals = arrivals
        self._on_answer = on_answer
        self._lines: dict[bytes, tuple[Kind, Callable[[Fields], bytes | None]]] = {}
        for room, express in rooms.items():
            opening = f"GET /_waitroom/{room}/".encode()
            self._lines[opening + b"status HTTP/1.1"] = (Kind.STATUS, express.status)
            self._lines[opening + b"board HTTP/1.1"] = (Kind.BOARD, express.board)
            self._lines[opening + b" HTTP/1.1"] = (Kind.PAGE, express.page)

    def answer(self, data: bytes) -> bytes | None:
        line = data[: data.find(b"\r\n")]
        asked = self._lines.get(line)
        if asked is None and (_OF_OURS in data or not line.startswith(b"GET ")):
            return None  # most of what is asked by those who were admitted: nothing more is spent on it
        started_s = perf_counter()
        fields = plain_fields(data)
        if fields is None:
            return None
        if asked is None:
            kind, answer = Kind.PAGE, self._arrivals.page(line, fields)
        else:
            kind, serve = asked
            answer = serve(fields)
        if answer is not None:
            self._on_answer(kind, perf_counter() - started_s)
        return answer


class RoomExpress:
    """One room's answers. What says who may read it across origins is left to the usual way."""

    def __init__(self, desk: Desk, polls: Polls) -> None:
        self._desk = desk
        self._polls = polls
        self._keyring = desk.keyring
        self._room = desk.room.id
        self._queue = desk.queue
        self._clock = desk.queue.clock
        self._has_origins = bool(desk.room.origins)
        self._board_epoch: dict[str, str] = {}
        self._board_head = ReadyHead("", {})
        self._board = b""
        self._board_until_s = 0.0
        self._page_head = ReadyHead(
            "HTTP/1.1 200 OK", {"Content-Type": "text/html; charset=utf-8", **desk.page.headers, **answers.CACHEABLE}
        )
        self._mark = f"{desk.ticket_cookie}=".encode()
        self._names = (desk.ticket_cookie.encode(), desk.admission_cookie.encode())

    def status(self, fields: Fields) -> bytes | None:
        if b"text/html" in fields.get(b"accept", b"") or (self._has_origins and b"origin" in fields):
            return None
        now_s = self._clock.now_s()
        ticket = self._ticket(fields, int(now_s))
        return None if ticket is None else self._polls.answer(ticket, now_s, _random())

    def board(self, _fields: Fields) -> bytes | None:
        if self._has_origins:
            return None
        monotonic_s = self._clock.monotonic()
        if monotonic_s > self._board_until_s:
            self._board_until_s = monotonic_s + BOARD_KEPT_S
            self._board = answers.json_text(board_document(self._desk)).encode()
            if (epoch := self._desk.epoch_fields) != self._board_epoch:
                self._board_epoch = epoch
                fields = dict([("Content-Type", "application/json"), answers.NOSNIFF]) | answers.CACHEABLE | epoch
                self._board_head = ReadyHead("HTTP/1.1 200 OK", fields)
        return self._board_head.of(len(self._board), self._clock.now_s()) + b"\r\n" + self._board

    def page(self, _fields: Fields) -> bytes | None:
        if self._has_origins:
            return None
        body = self._desk.page.body
        return self._page_head.of(len(body), self._clock.now_s()) + b"\r\n" + body

    def _ticket(self, fields: Fields, now_s: int) -> Glance | None:
        """The one ticket the request brought, if it counts: its cookie, else, where no cookie of the room came, the header.

        Where one room's id begins with another's and both have cookies, and at anything odd: None.
        """
        cookie = fields.get(b"cookie", b"")
        at = cookie.find(self._mark)
        if at >= 0:
            is_first = at == 0 or cookie[at - 2 : at] == b"; "
            if not is_first or cookie.find(self._names[0], at + 1) >= 0:
                return None
            text = cookie[at + len(self._mark) :].partition(b";")[0].rstrip(b" \t")
        elif self._names[0] in cookie or self._names[1] in cookie:
            return None
        else:
            text = fields.get(b"waitroom-ticket", b"")
        found = self._keyring.glance(text, self._room, now_s)
        return None if found is None or found.epoch < self._queue.memory.epoch else found
