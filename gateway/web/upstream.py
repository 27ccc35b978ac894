"""Owns the way to the upstreams: who may go, to which URL, and what a client is told when it fails.

State, per upstream: a share of requests in flight (its own, and one for each room inside it), a pool of connections to
each URL, and a tally of how the last 10 s went. Invariants: a room never has more in flight than its share, so one
room's crowd leaves the rest of the upstream to others; a request is sent twice only if it is safe, idempotent, without
a body, and a connection that had rested died under it before a byte came back; a failure before the answer's head is
one row of `FAILURES`, a failure after it cuts the client's connection, so that what is cut never looks whole.

A URL that cannot be reached, or fails more than half of its exchanges, is out: others are taken while there are any,
and it is tried with a connection every few seconds. With all of them out requests still try, because an answer beats a
guess; `is_healthy` says no, and the door shuts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from gateway.model import Upstream
from gateway.rules import headers as rules
from gateway.rules import policy
from gateway.tasks import Owner
from gateway.web.backend import Backend
from gateway.web.exchange import Exchange, Setting
from gateway.web.plan import Observer, Plan
from gateway.web.pool import Failure

__all__ = ["FAILURES", "Observer", "Plan", "Unobserved", "Upstreams"]

# kind -> status and what a person is told. The kind is the label of `upstream_failures_total`.
FAILURES: Final[dict[str, tuple[int, str]]] = {
    "busy": (503, "The service has as many requests as it can take. Please try again in a moment."),
    "room_busy": (503, "The service has as many requests as it can take. Please try again in a moment."),
    "refused": (502, "The service cannot be reached just now. Please try again in a moment."),
    "untrusted": (502, "The service cannot be reached just now. Please try again in a moment."),
    "connect_timeout": (504, "The service cannot be reached just now. Please try again in a moment."),
    "write_timeout": (504, "The service did not take the request in time."),
    "read_timeout": (504, "The service did not answer in time."),
    "broken": (502, "The service ended the connection without an answer."),
    "malformed": (502, "The service sent an answer that cannot be passed on."),
    "truncated": (502, "The service ended the connection inside its answer."),
    "loop": (508, "The request has come through this gateway before."),
    "client_timeout": (408, "The request's body did not arrive in time."),
    "client_malformed": (400, "The request's body is malformed."),
    "unsupported": (501, "This method is not supported."),
}
# A tunnel has no business in a reverse proxy; the answer to a TRACE would show the client what is added for the upstream alone.
NOT_PASSED_ON: Final = frozenset(("CONNECT", "TRACE"))
ALLOWED: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
PHRASES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    508: "Loop Detected",
}


class Unobserved:
    """The observer of tests and benches: nobody."""

    def answered(self, upstream: str, seconds: float) -> None: ...
    def failed(self, upstream: str, kind: str) -> None: ...


class Upstreams:
    """All upstreams of the configuration. `now_s` is the wall clock, for Date fields that an upstream left out."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        now_s: Callable[[], float],
        observer: Observer | None = None,
        via: str = "waitroom",
    ) -> None:
        self._owner = Owner()
        self._backends = {name: Backend(upstream, self._owner) for name, upstream in upstreams.items()}
        self._setting = Setting(observer or Unobserved(), self._owner, now_s, via)

    def begin_lame_duck(self) -> None:
        """From now on answers say `Connection: close`."""
        self._setting.is_lame_duck = True

    def in_flight(self, name: str) -> int:
        return self._backends[name].share.used

    def is_healthy(self, name: str) -> bool:
        """False while no URL can be reached or more than half of the exchanges of the last 10 s failed."""
        return self._backends[name].is_healthy

    async def forward(self, request: web.BaseRequest, plan: Plan) -> web.StreamResponse:
        """Send a request on and its answer back; a failure becomes an answer or a cut connection."""
        backend = self._backends[plan.upstream]
        if request.method in NOT_PASSED_ON:
            return self._stand_in(Failure("unsupported"), request, plan)
        if request.method == "OPTIONS" and rules.is_last_hop(request.raw_headers):
            return _last_hop_answer(request, plan)
        if rules.is_looped(request.headers.getall("Via", ()), self._setting.via):
            return self._stand_in(Failure("loop"), request, plan)
        shares = backend.enter_at_once(plan.room, plan.room_in_flight_max)
        if shares is None:
            try:
                shares = await backend.enter(plan.room, plan.room_in_flight_max)
            except Failure as failure:
                return self._stand_in(failure, request, plan)
        exchange = Exchange(self._setting, backend, request, plan)
        try:
            return await exchange.run()
        except Failure as failure:
            return self._stand_in(failure, request, plan)
        finally:
            backend.leave(shares)

    async def close(self) -> None:
        self._setting.pulse.close()
        await self._owner.close()
        for backend in self._backends.values():
            backend.close()

    def _stand_in(self, failure: Failure, request: web.BaseRequest, plan: Plan) -> web.Response:
        self._setting.observer.failed(plan.upstream, failure.kind)
        return failure_answer(failure.kind, request, plan)


def _last_hop_answer(request: web.BaseRequest, plan: Plan) -> web.Response:
    """To an OPTIONS that goes no further than here: what may be passed on."""
    fields = [(b"Allow", ALLOWED.encode()), (b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff")]
    if plan.on_head is not None:
        plan.on_head(204, fields, {})
    answer = web.Response(status=204, headers=CIMultiDict(rules.decode(fields)))
    if not request.content.is_eof():
        answer.force_close()
    return answer


def failure_answer(kind: str, request: web.BaseRequest, plan: Plan) -> web.Response:
    """What a client is told: a problem document (RFC 9457), or a page where a person looks at it."""
    status, text = FAILURES[kind]
    fields = [(b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff")]
    if status in {503, 504}:
        fields.append((b"Retry-After", b"2"))
    if policy.shows_page(request.headers):
        title = f"{status} {PHRASES[status]}"
        body = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><p>{escape(text)}</p></html>\n'
        )
        fields.append((b"Content-Type", b"text/html; charset=utf-8"))
        fields.append((b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"))
    else:
        body = json.dumps({"type": "about:blank", "title": PHRASES[status], "status": status, "detail": text}) + "\n"
        fields.append((b"Content-Type", b"application/problem+json"))
    if plan.on_head is not None:
        plan.on_head(status, fields, {})
    answer = web.Response(status=status, headers=CIMultiDict(rules.decode(fields)), body=body.encode())
    if not request.content.is_eof():
        answer.force_close()  # the rest of the body is nobody's any more
    return answer
