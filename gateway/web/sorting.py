"""Tells by a request's first bytes what it belongs to, for sharing the loop when too much is ready at once (`turns.py`).

It decides about order alone: whose request it is, and whether it may pass, the gate judges when its turn has come. So a head that
lies gets no further than a place among those it claims to be of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from gateway.rules.routes import Ours, Protected, Routes, is_plain
from gateway.web.desk import Desk
from gateway.web.ready import ReadyHead
from gateway.web.reply import full_problem
from gateway.web.turns import Flow

TARGETS_MAX: Final = 2048  # remembered with what they lead to: 1 MiB at most
KEY_BYTES_MAX: Final = 512
_HOST: Final = re.compile(rb"\r\nhost:([^\r\n]*+)\r\n", re.I)  # possessive: a long line costs its length, once
_ADMISSION: Final = b"waitroom-admission"  # the header and, with the room's id after it, the cookie
# A join that brings one of these is no newcomer's, or wants a page for an answer.
_NO_NEWCOMER: Final = (b"waitroom-ticket", _ADMISSION, b"text/html")


class RoomFlows:
    """One room's. `joins`: who asks for a number; `crowd`: pages, polls, the turned away; `inside`: who claims or was let in."""

    def __init__(self, desk: Desk, on_shed: Callable[[], None]) -> None:
        room = desk.room.id
        self.crowd = Flow(f"{room} crowd")
        self.inside = Flow(f"{room} inside")
        shown = full_problem(room, "many are joining just now")
        assert isinstance(shown.body, bytes)
        head, body = ReadyHead("HTTP/1.1 503 Service Unavailable", dict(shown.headers)), shown.body

        def refusal(data: bytes) -> bytes | None:
            folded = data.lower()
            if b"\r\n\r\n" not in data or any(mark in folded for mark in _NO_NEWCOMER):
                return None
            on_shed()
            return head.of(len(body), desk.queue.clock.now_s()) + b"\r\n" + body

        # Where other origins may read answers, a refusal has to say so to each of them: the usual way does.
        self.joins = Flow(f"{room} joins", None if desk.room.origins else refusal)


class Sorting:
    """`flow_of(data)` for the gate's rooms. `on_shed` is told the room of each join that is refused."""

    def __init__(self, routes: Routes, desks: Mapping[str, Desk], on_shed: Callable[[str], None]) -> None:
        self._routes = routes
        self.other = Flow("not protected")
        self.untold = Flow(
            "untold"
        )  # no whole head (its beginning, its rest, none at all), or an odd target: dear to judge
        self.rooms = {room: RoomFlows(desk, lambda room=room: on_shed(room)) for room, desk in desks.items()}  # type: ignore[misc]
        self._lines: dict[bytes, Flow] = {}
        for room, flows in self.rooms.items():
            for call, flow in (
                ("POST /_waitroom/{}/ticket", flows.joins),
                ("POST /_waitroom/{}/admission", flows.inside),
                ("GET /_waitroom/{}/status", flows.crowd),
                ("GET /_waitroom/{}/board", flows.crowd),
                ("GET /_waitroom/{}/", flows.crowd),
            ):
                self._lines[f"{call.format(room)} HTTP/1.1".encode()] = flow
        self._remembered = lru_cache(TARGETS_MAX)(self._judged)

    def flow_of(self, data: bytes) -> Flow:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return self.untold
        line = data[: data.find(b"\r\n")]
        flow = self._lines.get(line)
        if flow is not None:
            return flow
        host = _HOST.search(data, 0, end + 2)
        if host is None:
            return self.untold
        head, name = line.partition(b"?")[0], host[1].strip(b" \t")
        method, _, rest = head.partition(b" ")
        target = rest.partition(b" ")[0].decode("latin-1")
        if len(head) + len(name) > KEY_BYTES_MAX or not is_plain(target):
            return self.untold
        room = self._remembered(method, target, name)
        if room is None:
            return self.other
        flows = self.rooms[room]
        return flows.inside if _ADMISSION in data[:end].lower() else flows.crowd

    def _judged(self, method: bytes, target: str, host: bytes) -> str | None:
        """The room whose request this is."""
        match self._routes.match(host.decode("latin-1"), target, method.decode("latin-1")):
            case Protected(room):
                return room.id
            case Ours(rest):
                name = rest.partition("/")[0]
                return name if name in self.rooms else None
            case _:
                return None  # nobody's, and what will be refused
