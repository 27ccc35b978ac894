"""The verdict for edges that ask before they pass a request on: nginx `auth_request`, Caddy and Traefik `forward_auth`, Envoy.

It never joins, admits or sets a cookie. Exactly 200 means admitted; every promised header is on every 200, because Caddy
forwards a literal placeholder for one that is missing (`facts.md`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlencode

from aiohttp import web

from gateway.model import Upstream
from gateway.rules import headers as fields
from gateway.rules import policy, routes
from gateway.rules.policy import Asked, Renewal
from gateway.rules.tokens import subject_of
from gateway.web import answers
from gateway.web.desk import Desk
from gateway.web.reply import query_of

# Edges answer a verdict that is neither 2xx nor 401 with a 500, so what cannot be judged is refused like the rest.
NOWHERE = {"Location": "/"}
NOT_PROTECTED = "-"  # the value of the promised headers where no admission is needed


class Contradiction(Exception):
    """The edge's request names two targets: one of them is the visitor's own claim."""


class Surroundings(Protocol):
    @property
    def routes(self) -> routes.Routes: ...

    @property
    def upstreams(self) -> Mapping[str, Upstream]: ...

    @property
    def trusted_proxies(self) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]: ...


class Auth:
    def __init__(self, here: Surroundings, desks: Mapping[str, Desk], wall_s: Callable[[], float]) -> None:
        self._here = here
        self._desks = desks
        self._wall_s = wall_s

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """`path` is what follows `/_waitroom/auth`: the protected path itself, for edges that put it there."""
        is_in_path = path.strip("/") != ""
        query = {} if is_in_path else query_of(request)  # behind a path it is the visitor's own, and says nothing to us
        try:
            method, target = self._asked_for(request, path if is_in_path else None)
        except Contradiction as fault:
            return answers.problem(401, "bad-request", str(fault), NOWHERE)
        if "room" in query:
            desk = self._desks.get(query["room"])
            if desk is None:
                return answers.problem(401, "no-such-room", "?room= names no room of this gateway", NOWHERE)
            return self._verdict(request, desk, method, target, query.get("mode", ""))
        if target is None:
            detail = "say which request is meant: ?room=, or X-Original-URI or X-Forwarded-Uri from a trusted proxy"
            return answers.problem(401, "bad-request", detail, NOWHERE)
        route = self._here.routes.match(self._host(request), target, method, self._client(request))
        match route:
            case routes.Protected(room):
                return self._verdict(request, self._desks[room.id], method, target, query.get("mode", ""))
            case routes.Unprotected() | routes.Bypassed():
                return self._allowed(NOT_PROTECTED, NOT_PROTECTED, NOT_PROTECTED)
            case routes.Ours():
                return answers.problem(401, "bad-request", "this path is the gateway's own: send it there", NOWHERE)
            case routes.Refused(_, reason):
                return answers.problem(401, "bad-request", reason, NOWHERE)

    # --- which request is meant -----------------------------------------------------------------------------------------

    def _is_trusted(self, request: web.BaseRequest) -> bool:
        return fields.is_trusted(request.remote or "", self._here.trusted_proxies)

    def _asked_for(self, request: web.BaseRequest, path: str | None) -> tuple[str, str | None]:
        """Method and target of the request the edge asks about; the target is None where nothing says it.

        An edge sets one of the two headers and hands the visitor's spelling of the other through: who sends both gets
        nowhere unless they agree. Raises Contradiction.
        """
        if path is not None:
            mark, query = request.raw_path.partition("?")[1:]
            return request.method, path + mark + query
        if not self._is_trusted(request):
            return request.method, None
        target = self._told(request, "X-Original-URI", "X-Forwarded-Uri")
        method = self._told(request, "X-Original-Method", "X-Forwarded-Method")
        return (method or request.method).upper(), target

    @staticmethod
    def _told(request: web.BaseRequest, *names: str) -> str | None:
        told = {value for name in names for value in request.headers.getall(name, ())}
        if len(told) > 1:
            raise Contradiction(f"{' and '.join(names)} do not agree")
        return told.pop() if told else None

    def _host(self, request: web.BaseRequest) -> str | None:
        if self._is_trusted(request) and (told := request.headers.get("X-Forwarded-Host")):
            return told
        return request.headers.get("Host")

    def _client(self, request: web.BaseRequest) -> str | None:
        forwarded = request.headers.getall("X-Forwarded-For", ())
        return fields.client_address(request.remote or "", forwarded, self._here.trusted_proxies)

    # --- the verdict ----------------------------------------------------------------------------------------------------

    def _verdict(
        self, request: web.BaseRequest, desk: Desk, method: str, target: str | None, mode: str
    ) -> web.StreamResponse:
        credential, asked = desk.credential(request), Asked.of(method, request.headers)
        admission = credential.admission
        back = policy.return_path(routes.origin_form(target)) if target is not None else None
        query = f"?{urlencode({'return_to': back})}" if back else ""
        page_url = f"/_waitroom/{desk.room.id}/{query}"
        if admission is None or desk.is_void(credential):
            return self._denied(desk, page_url, mode, asked)
        token = admission.token
        renewal = policy.renewal(admission, desk.queue.clock.now_s(), desk.room.session_s, is_reachable=True)
        if token.is_instant and renewal is Renewal.TOUCH:
            admission.touched_at = desk.queue.clock.monotonic()
            desk.queue.touch(token, lambda lease_us: setattr(admission, "confirmed", lease_us > 0))
        is_old = token.expires_at_s - desk.now_s() <= desk.room.session_s / policy.HALF_LIFE
        is_renewable = (
            desk.now_s() < token.entered_at_s + desk.room.session_max_s - desk.room.session_s / policy.HALF_LIFE
        )
        if is_old and is_renewable and asked.is_navigation:
            # The page would put an admitted visitor at the end of the line: they are sent to renew, whatever the mode.
            mode = "redirect" if mode == "page" else mode
            return self._denied(desk, f"/_waitroom/{desk.room.id}/renew{query}", mode, asked)
        subject, key = subject_of(token.id), self._here.upstreams[desk.room.upstream].signing_key
        signature = fields.signature(key, desk.room.id, subject, int(self._wall_s())) if key else NOT_PROTECTED
        return self._allowed(subject, desk.room.id, signature)

    @staticmethod
    def _allowed(subject: str, room: str, signature: str) -> web.StreamResponse:
        headers = {"Waitroom-Subject": subject, "Waitroom-Room": room, "Waitroom-Signature": signature}
        return answers.empty(200, headers)

    @staticmethod
    def _denied(desk: Desk, location: str, mode: str, asked: Asked) -> web.StreamResponse:
        if mode == "redirect":
            return answers.redirect(302, location)
        headers = {"Location": location, "Waitroom-Room": desk.room.id, "Waitroom-State": "waiting"}
        if mode == "page":
            shown = desk.page if asked.method in {"GET", "HEAD"} else desk.posted_page
            return answers.page(shown, desk.room.queueing_status, {**headers, "Retry-After": "5"})
        return answers.problem(401, "admission-required", f"join the line at {location}", headers)
