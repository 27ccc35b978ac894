"""Owns the operator port: health, metrics, the console, and the API that watches and steers rooms.

Who may do what: a bearer token names an operator, whose role is a row of `MAY`. Without any [[operators]], whoever can
open a connection to a loopback port is the operator "local"; a browser on that machine can be made to do so by any site
(DNS rebinding, cross-site requests), so then the Host must be loopback, and changes must come from our own page or from
no browser at all. Bearer tokens are sent by nobody else and need no such guard. Every change is logged: who, from, to.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from aiohttp import web

import waitroom_ui
from gateway import notation
from gateway.draft import shown
from gateway.errors import Unreachable
from gateway.model import NUMBER_MAX, Operator, Role, SettingsRecord
from gateway.rules.settings import Fault, patched
from gateway.rules.tokens import id_of
from gateway.web.answers import json_text

log = logging.getLogger("waitroom")

BODY_BYTES_MAX: Final = 65_536
BODY_DEADLINE_S: Final = 10.0
RELEASED_MAX: Final = 500  # what one script may take
WRITE_TRIES: Final = 5  # without If-Match: how often others may write in between
MAY: Final[dict[Role, frozenset[str]]] = {
    Role.VIEWER: frozenset({"read"}),
    Role.OPERATOR: frozenset({"read", "change", "report"}),
    Role.UPSTREAM: frozenset({"report"}),
}


class Rooms(Protocol):
    """What this port asks of the queue. `Unreachable` becomes 503; every call can be made again.

    `summary`, `stock_in_force` (the lower of what operators set and the upstream reported) and `board` answer from memory,
    `read_settings` from Redis. `write_settings` writes overrides that were computed from the record of that version; it
    answers the new record, or None when somebody else wrote meanwhile. `names_stock` ends what the upstream reported.
    `reset` answers the new epoch. `by` is who asked, for the record.
    """

    def ids(self) -> Sequence[str]: ...
    def summary(self, room_id: str) -> dict[str, Any]: ...
    def stock_in_force(self, room_id: str) -> int | None: ...
    def board(self, room_id: str) -> dict[str, Any]: ...
    async def read_settings(self, room_id: str) -> SettingsRecord: ...
    async def write_settings(
        self, room_id: str, version: int, overrides: dict[str, Any], *, by: str, names_stock: bool
    ) -> SettingsRecord | None: ...
    async def reset(self, room_id: str, *, void_admissions: bool, by: str) -> int: ...
    async def report(self, room_id: str, remaining: int | None, released: Sequence[bytes]) -> None: ...


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is not what was asked for (RFC 9457)."""

    status: int
    detail: str
    errors: tuple[dict[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def response(self) -> web.Response:
        title = HTTPStatus(self.status).phrase
        body: dict[str, Any] = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        if self.errors:
            body["errors"] = list(self.errors)
        return _json(body, status=self.status, headers=dict(self.headers), content_type="application/problem+json")


class OperatorPort:
    """Answers every request of the operator port: `web.Server(port.handle)`."""

    def __init__(
        self,
        rooms: Rooms,
        operators: Sequence[Operator],
        bind_host: str,
        scraped: Callable[[str], Awaitable[tuple[bytes, str]]],
        is_ready: Callable[[], bool],
    ) -> None:
        self._rooms = rooms
        self._operators = [(one, _digest(one.token.encode())) for one in operators]
        self._bind_host = bind_host
        self._is_local = not operators and notation.is_loopback(bind_host)
        self._scraped = scraped
        self._is_ready = is_ready

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request; bad ones, and a Redis that cannot be reached, become problem documents."""
        answer = await self._plain(request)
        if answer is None:
            try:
                answer = await self._api(request)
            except Unreachable as fault:
                answer = Problem(503, f"Redis cannot be reached just now: {fault}", headers=(("Retry-After", "1"),))
        return answer.response() if isinstance(answer, Problem) else answer

    # What needs no token: probes, scrapes, and the console, which is the same for all and asks for a token itself.

    async def _plain(self, request: web.BaseRequest) -> web.Response | Problem | None:
        path = request.path
        if path not in ("/", "/healthz", "/readyz", "/metrics"):
            return None
        if request.method not in ("GET", "HEAD"):
            return _wrong_method("GET, HEAD")
        if path == "/healthz":
            return _json({"status": "ok"})
        if path == "/readyz":
            is_ready = self._is_ready()
            return _json({"status": "ready" if is_ready else "stopping"}, status=200 if is_ready else 503)
        if self._is_local and not self._is_own_host(request):
            return _FOREIGN_HOST
        if path == "/metrics":
            try:
                body, content_type = await self._scraped(request.headers.get("Accept", ""))
            except OSError as fault:  # a sum without some of the workers would look like counters that fell
                return Problem(503, f"The figures of all workers cannot be added up in server.state_dir: {fault}")
            return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})
        page = waitroom_ui.console()
        return web.Response(body=page.body, headers={**_HEADERS, **page.headers})

    async def _api(self, request: web.BaseRequest) -> web.Response | Problem:
        route = _route(request.path)
        if route is None:
            return Problem(404, "Here are /, /healthz, /readyz, /metrics and /api/rooms.")
        who = self._who(request)
        if isinstance(who, Problem):
            return who
        action = route.actions.get(request.method)
        if action is None:
            return _wrong_method(", ".join(route.actions))
        if action not in MAY[who.role]:
            return Problem(403, f"The role {who.role} may not {action} here.")
        if route.room_id is None:
            visible = [room_id for room_id in self._rooms.ids() if not who.rooms or room_id in who.rooms]
            return _json({"rooms": [self._rooms.summary(room_id) for room_id in visible]})
        if route.room_id not in self._rooms.ids():
            return Problem(404, "There is no room of this name.")
        if who.rooms and route.room_id not in who.rooms:
            return Problem(403, f"{who.name} has no part in this room.")
        if action == "read":
            return self._room(route.room_id, await self._rooms.read_settings(route.room_id))
        return await self._change(request, who, route.room_id, route.call)

    # Who asks.

    def _who(self, request: web.BaseRequest) -> Operator | Problem:
        if self._is_local:
            return self._local_operator(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = _digest(token.strip().encode("utf-8", "surrogateescape"))
        found: Operator | None = None
        for operator, digest in self._operators:  # all of them, so that the time tells nothing
            if hmac.compare_digest(given, digest):
                found = operator
        if found is not None and scheme.lower() == "bearer":
            return found
        challenge = 'Bearer realm="waitroom"' + (', error="invalid_token"' if token else "")
        return Problem(401, "A bearer token of [[operators]] is needed.", headers=(("WWW-Authenticate", challenge),))

    def _local_operator(self, request: web.BaseRequest) -> Operator | Problem:
        if not self._is_own_host(request):
            return _FOREIGN_HOST
        if request.method not in ("GET", "HEAD") and not _is_own_page(request):
            return Problem(403, "Changes are taken from this port's own page, or from no browser.")
        return _LOCAL

    def _is_own_host(self, request: web.BaseRequest) -> bool:
        host = notation.normal_host(request.headers.get("Host", ""))
        if host in ("localhost", self._bind_host):
            return True
        try:
            return host is not None and notation.is_loopback(host)
        except ValueError:  # a name, and not one of ours
            return False

    # What is asked for.

    def _room(self, room_id: str, record: SettingsRecord) -> web.Response:
        body = {
            "room": room_id,
            "version": record.version,
            "base": record.base,
            "overrides": record.overrides,
            "settings": {**record.base, **record.overrides},
            "stock_in_force": self._rooms.stock_in_force(room_id),
            "board": self._rooms.board(room_id),
        }
        return _json(body, headers={"ETag": _etag(record)})

    async def _change(self, request: web.BaseRequest, who: Operator, room_id: str, call: str) -> web.Response | Problem:
        document = await _document(request)
        if isinstance(document, Problem):
            return document
        if call == "settings":
            return await self._patch(who, room_id, document, request.headers.getall("If-Match", []))
        if not isinstance(document, dict):
            return Problem(422, "A JSON object is wanted.")
        if call == "reset":
            return await self._reset(who, room_id, document)
        return await self._report(who, room_id, document)

    async def _patch(
        self, who: Operator, room_id: str, patch: object, if_match: Sequence[str]
    ) -> web.Response | Problem:
        for _ in range(WRITE_TRIES):
            before = await self._rooms.read_settings(room_id)
            if if_match and not _is_matched(if_match, before):
                return Problem(412, "The settings were changed meanwhile.", headers=(("ETag", _etag(before)),))
            overrides = patched(before.base, before.overrides, patch)
            if isinstance(overrides, list):
                return Problem(422, "Nothing was changed.", tuple(_error(fault, patch) for fault in overrides))
            # To name the stock is to say what is left: that ends the upstream's report, also where the figure is the same.
            names_stock = isinstance(patch, dict) and "stock" in patch
            if overrides == before.overrides and not names_stock:
                return self._room(room_id, before)
            after = await self._rooms.write_settings(
                room_id, before.version, overrides, by=who.name, names_stock=names_stock
            )
            if after is not None:
                _log_change(who, room_id, before, after, {"stock"} if names_stock else set())
                return self._room(room_id, after)
        return Problem(503, "Others keep changing these settings.", headers=(("Retry-After", "1"),))

    async def _reset(self, who: Operator, room_id: str, document: dict[str, Any]) -> web.Response | Problem:
        voids = document.get("admissions", False)
        if not isinstance(voids, bool) or document.keys() - {"admissions"}:
            return Problem(
                422, 'Allowed: {"admissions": true or false}: whether those inside lose their admission too.'
            )
        epoch = await self._rooms.reset(room_id, void_admissions=voids, by=who.name)
        log.warning("room_reset", extra={"who": who.name, "room": room_id, "admissions": voids, "epoch": epoch})
        return _json({"room": room_id, "epoch": epoch})

    async def _report(self, who: Operator, room_id: str, document: dict[str, Any]) -> web.Response | Problem:
        faults = [Fault(name, "remaining, released") for name in document.keys() - {"remaining", "released"}]
        remaining, subjects = document.get("remaining"), document.get("released", [])
        if remaining is not None and not (type(remaining) is int and 0 <= remaining <= NUMBER_MAX):
            faults.append(Fault("remaining", f"a whole number from 0 to {NUMBER_MAX}, or null"))
        released = list(map(id_of, subjects)) if isinstance(subjects, list) else [None]
        if len(released) > RELEASED_MAX or None in released:
            faults.append(Fault("released", f"up to {RELEASED_MAX} subjects, each as Waitroom-Subject has it"))
        if faults:
            return Problem(422, "Nothing was taken.", tuple(_error(fault, document) for fault in faults))
        await self._rooms.report(room_id, remaining, [identity for identity in released if identity is not None])
        log.info(
            "room_reported",
            extra={"who": who.name, "room": room_id, "remaining": remaining, "released": len(released)},
        )
        return web.Response(status=204, headers=_HEADERS)


@dataclass(frozen=True, slots=True)
class _Route:
    """A path of the API: what each method of it does, in the words of `MAY`."""

    actions: dict[str, str]
    room_id: str | None = None
    call: str = ""


def _route(path: str) -> _Route | None:
    match path.split("/")[1:]:
        case ["api", "rooms"]:
            return _Route({"GET": "read", "HEAD": "read"})
        case ["api", "rooms", room_id]:
            return _Route({"GET": "read", "HEAD": "read", "PATCH": "change"}, room_id, "settings")
        case ["api", "rooms", room_id, "reset"]:
            return _Route({"POST": "change"}, room_id, "reset")
        case ["api", "rooms", room_id, "reports"]:
            return _Route({"POST": "report"}, room_id, "reports")
        case _:
            return None


_LOCAL: Final = Operator("local", Role.OPERATOR, "")
_FOREIGN_HOST: Final = Problem(421, "Without [[operators]] this port answers to loopback addresses only.")
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "waitroom"}


def _json(
    body: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    return web.Response(
        body=json_text(body).encode(),
        status=status,
        headers={**_HEADERS, **(headers or {}), "Content-Type": content_type},
    )


def _wrong_method(allowed: str) -> Problem:
    return Problem(405, f"Allowed here: {allowed}.", headers=(("Allow", allowed),))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()  # equal lengths, so that comparing tells nothing about them


def _error(fault: Fault, document: object) -> dict[str, str]:
    """Where in the document (RFC 6901), what stands there and what is allowed, as RFC 9457 shows it."""
    name = fault.name.replace("~", "~0").replace("/", "~1")
    if not isinstance(document, dict) or fault.name not in document:
        return {"pointer": "#", "detail": f"allowed: {fault.allowed}"}
    return {"pointer": f"#/{name}", "detail": f"{fault.name} = {shown(document[fault.name])}: allowed: {fault.allowed}"}


def _is_own_page(request: web.BaseRequest) -> bool:
    """Sec-Fetch-Site decides where it is sent, else Origin; no browser sends neither with a change."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is None or origin == f"http://{request.headers.get('Host', '')}"


def _etag(record: SettingsRecord) -> str:
    return f'"{record.version}"'


def _is_matched(if_match: Sequence[str], record: SettingsRecord) -> bool:
    tags = {tag.strip() for line in if_match for tag in line.split(",")}
    return "*" in tags or _etag(record) in tags


async def _document(request: web.BaseRequest) -> object:
    """The body as JSON, `{}` where there is none, or a Problem."""
    if request.body_exists and request.headers.get("Content-Type", "").partition(";")[0].strip() not in _JSON_TYPES:
        return Problem(415, "A JSON body is wanted.", headers=(("Accept-Patch", "application/merge-patch+json"),))
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    return Problem(413, f"Bodies are taken up to {BODY_BYTES_MAX} bytes.")
    except TimeoutError:
        return Problem(408, "The body did not arrive in time.")
    try:
        return json.loads(body, parse_constant=_refuse) if body else {}
    except (ValueError, RecursionError):
        return Problem(400, "The body is not JSON.")


_JSON_TYPES: Final = ("application/json", "application/merge-patch+json")


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are not JSON


def _log_change(who: Operator, room_id: str, before: SettingsRecord, after: SettingsRecord, renewed: set[str]) -> None:
    names = before.overrides.keys() | after.overrides.keys()
    differ = {name for name in names if before.overrides.get(name) != after.overrides.get(name)}
    changed = sorted(differ | renewed)
    was, now = {**before.base, **before.overrides}, {**after.base, **after.overrides}
    log.warning(
        "settings_changed",
        extra={
            "who": who.name,
            "room": room_id,
            "version": after.version,
            "from": {name: was.get(name) for name in changed},
            "to": {name: now.get(name) for name in changed},
        },
    )
