"""First arrivals: the waiting page in place of a protected URL, for whoever brings nothing of ours yet, from the request's bytes.

The flood at the opening is made of these. What is answered here is what the gate would answer after aiohttp's parser, request and
task (`gate._hold`); all that might be another answer (an idle room, a token, an odd target, a rule on addresses) is None.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from gateway.model import Room, RoomState
from gateway.rules.routes import Protected, Routes, is_plain
from gateway.web.answers import NO_STORE
from gateway.web.desk import Desk
from gateway.web.ready import ReadyHead

RETRY_HELD_S: Final = 5
TARGETS_MAX: Final = 2048  # remembered with what they lead to: 2 MiB at most
LINE_BYTES_MAX: Final = 420
HOST_BYTES_MAX: Final = 260
ACCEPTED_BYTES_MAX: Final = 200
_GZIP: Final = re.compile(
    r"(?:^|,)[ \t]*(?:x-)?gzip[ \t]*(?:;[ \t]*q=(?!0(?:\.0{0,3})?[ \t]*(?:,|$))[0-9.]{1,5}[ \t]*)?(?:,|$)", re.I
)
_LINE: Final = re.compile(rb"GET (/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,400}) HTTP/1\.1")
# What makes it no navigation, or no stranger's.
_OTHER: Final = frozenset((b"x-requested-with", b"range", b"waitroom-ticket", b"waitroom-admission"))
_FETCH_METADATA: Final = (b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-dest")


class PageInPlace:
    """A room's waiting page in place of a protected URL, as it is and compressed: a third of the bytes, and nobody stores it."""

    def __init__(self, desk: Desk) -> None:
        status = HTTPStatus(desk.room.queueing_status)
        fields = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": NO_STORE, "Vary": "Accept-Encoding"}
        fields |= desk.page.headers | held_headers(desk.room)
        line = f"HTTP/1.1 {status.value} {status.phrase}"
        self._plain = ReadyHead(line, fields), desk.page.body
        self._packed = ReadyHead(line, fields | {"Content-Encoding": "gzip"}), gzip.compress(desk.page.body, 9, mtime=0)

    def of(self, accepted: str, now_s: float) -> tuple[bytes, bytes]:
        """Head and body for this Accept-Encoding."""
        head, body = self._packed if accepts_gzip(accepted) else self._plain
        return head.of(len(body), now_s), body


@lru_cache(64)
def _names_gzip(accepted: str) -> bool:
    return _GZIP.search(accepted) is not None


def accepts_gzip(accepted: str) -> bool:
    """Whether this Accept-Encoding takes gzip (RFC 9110, 12.5.3); not if it is longer than any browser's."""
    return len(accepted) <= ACCEPTED_BYTES_MAX and _names_gzip(accepted)


def held_headers(room: Room) -> dict[str, str]:
    return {"Retry-After": str(RETRY_HELD_S), "Waitroom-State": "waiting", "Waitroom-Room": room.id}


class Arrivals:
    """`page(line, fields)`: the whole answer, or None. `pages`: of each room."""

    def __init__(self, routes: Routes, desks: Mapping[str, Desk], pages: Mapping[str, PageInPlace]) -> None:
        self._routes = routes
        self._pages = pages
        self._desks = {
            room: desk for room, desk in desks.items() if not any(rule.source is not None for rule in desk.room.bypass)
        }
        self._desk_of: Callable[[bytes, bytes], Desk | None] = lru_cache(TARGETS_MAX)(self._judged)

    def page(self, line: bytes, fields: Mapping[bytes, bytes]) -> bytes | None:
        """`fields`: of a whole, plain GET with this request line (`rules/head.py`)."""
        if not _OTHER.isdisjoint(fields) or b"waitroom-" in fields.get(b"cookie", b"") or not _is_navigation(fields):
            return None
        host = fields[b"host"]
        desk = self._desk_of(line, host) if len(line) <= LINE_BYTES_MAX and len(host) <= HOST_BYTES_MAX else None
        if desk is None or desk.room_state() is RoomState.IDLE:
            return None
        accepted = fields.get(b"accept-encoding", b"").decode("latin-1")
        return b"%b\r\n%b" % self._pages[desk.room.id].of(accepted, desk.queue.clock.now_s())

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
