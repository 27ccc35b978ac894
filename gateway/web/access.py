"""What tells one request from all others: the id it carries, and a line in the log for those that are drawn by lot."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from gateway.rules.headers import Header, replaced
from gateway.web.plan import OnHead

log = logging.getLogger("waitroom.access")

# What proxies make of it, and nothing that a log, a shell or a header would read as more than a name.
_GIVEN: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
KEPT: Final = web.RequestKey("request_id", str)  # of a request: what it went on under
TRACE: Final = web.RequestKey("traceparent", str)  # the gateway's own span, where it makes spans


def id_of(request: web.BaseRequest, *, is_peer_trusted: bool) -> Header:
    """The id that a trusted proxy gave it, else a new one: what anyone else says may be another request's."""
    given = request.headers.getall("X-Request-Id", [])
    is_good = is_peer_trusted and len(given) == 1 and _GIVEN.fullmatch(given[0]) is not None
    request_id = given[0] if is_good else secrets.token_hex(16)
    request[KEPT] = request_id
    return b"X-Request-Id", request_id.encode()


def naming(request_id: Header, on_head: OnHead | None) -> OnHead:
    """Puts the id into the answer, in place of one of the upstream's own; then does what was to be done."""

    def named(status: int, to_client: list[Header], known: Mapping[bytes, list[bytes]]) -> None:
        to_client[:] = replaced(to_client, (request_id,))
        if on_head is not None:
            on_head(status, to_client, known)

    return named


def note(request: web.BaseRequest, kind: str, status: int, took_s: float, client: str | None) -> None:
    """One line. No query, cookie or body: what stands there is the visitor's own business."""
    log.info(
        "request",
        extra={
            "kind": kind,
            "method": request.method,
            "host": request.headers.get("Host", ""),
            "path": request.raw_path.partition("?")[0],
            "status": status,  # 0: the client had gone
            "took_ms": round(took_s * 1e3, 1),
            "client": client or "",
            "request_id": request.get(KEPT, ""),
            "traceparent": request.get(TRACE) or request.headers.get("traceparent", ""),
        },
    )
