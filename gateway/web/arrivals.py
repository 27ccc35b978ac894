"""First arrivals: the waiting page in place of a protected URL, for whoever brings nothing of ours yet, from the request's bytes.

The flood at the opening is made of these. What is answered here is what the gate would answer after aiohttp's parser, request and
task (`gate._hold`); all that might be another answer (an idle room, a token, an odd target, a rule on addresses) is None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from gateway.model import RoomState
from gateway.rules.routes import Protected, Routes, is_plain
from gateway.web.desk import Desk
from gateway.web.ready import ReadyHead

TARGETS_MAX: Final = 2048  # remembered with what they lead to: 1 MiB
_LINE: Final = re.compile(rb"GET (/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,400}) HTTP/1\.1")
# What makes it no navigation, or no stranger's.
_OTHER: Final = frozenset((b"x-requested-with", b"range", b"waitroom-ticket", b"waitroom-admission"))
_FETCH_METADATA: Final = (b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-dest")


class Arrivals:
    """`page(line, fields)`: the whole answer, or None. `heads`: of each room's page in place."""

    def __init__(self, routes: Routes, desks: Mapping[str, Desk], heads: Mapping[str, ReadyHead]) -> None:
        self._routes = routes
        self._heads = heads
        self._desks = {
            room: desk for room, desk in desks.items() if not any(rule.source is not None for rule in desk.room.bypass)
        }
        self._desk_of: Callable[[bytes, bytes], Desk | None] = lru_cache(TARGETS_MAX)(self._judged)

    def page(self, line: bytes, fields: Mapping[bytes, bytes]) -> bytes | None:
        """`fields`: of a whole, plain GET with this request line (`rules/head.py`)."""
        if not _OTHER.isdisjoint(fields) or b"waitroom-" in fields.get(b"cookie", b"") or not _is_navigation(fields):
            return None
        desk = self._desk_of(line, fields[b"host"])
        if desk is None or desk.room_state() is RoomState.IDLE:
            return None
        body = desk.page.body
        return b"%b\r\n%b" % (self._heads[desk.room.id].of(len(body), desk.queue.clock.now_s()), body)

    def _judged(self, line: bytes, host: bytes) -> Desk | None:
        found = _LINE.fullmatch(line)
        if found is None or not host.isascii():
            return None
        target = found[1].decode("ascii")
        route = self._routes.match(host.decode("ascii"), target) if is_plain(target) else None
        return self._desks.get(route.room.id) if isinstance(route, Protected) else None


def _is_navigation(fields: Mapping[bytes, bytes]) -> bool:
    """`policy.shows_page`, for fields as bytes."""
    if any(name in fields for name in _FETCH_METADATA):
        return fields.get(b"sec-fetch-mode") == b"navigate"
    return b"text/html" in fields.get(b"accept", b"").lower()
