"""The way in: judges every request of the public port by its route, and forwards, admits, holds or answers it.

Reads as the request goes: route, credential, decision, outcome (`design.md` section 12). What is decided is decided in
`rules/`; here it is acted on. Only `_forward` reaches a protected upstream, and only with an admission or a bypass rule.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Final, Protocol, assert_never

from aiohttp import web

from gateway.errors import Unreachable
from gateway.metrics import Kind, Shed
from gateway.model import Contact, Room, Upstream
from gateway.rules import headers as fields
from gateway.rules import policy, routes
from gateway.rules.policy import Asked, Hold, TryEntry
from gateway.rules.tokens import subject_of
from gateway.web import access, answers
from gateway.web.arrivals import Arrivals, PageInPlace, held_headers
from gateway.web.auth import Auth
from gateway.web.desk import Desk
from gateway.web.express import Express, RoomExpress
from gateway.web.lobby import Lobby
from gateway.web.passage import Passage
from gateway.web.plan import OnHead
from gateway.web.ready import Ready
from gateway.web.sorting import Sorting
from gateway.web.upstream import Plan, Upstreams

_random = random.random  # who is logged; nothing depends on its being hard to guess
IDENTIFIED_MAX: Final = 4096  # admissions that are asked with in one second, about
ADMISSION_IN_FLIGHT_MAX: Final = 16  # a browser opens six connections; a shared or stolen admission is no battering ram


LOBBY_KINDS: Final = {
    "": Kind.PAGE,
    "ticket": Kind.JOIN,
    "status": Kind.STATUS,
    "admission": Kind.CLAIM,
    "leave": Kind.LEAVE,
    "board": Kind.BOARD,
}
Answer = tuple[Kind, web.StreamResponse]


class Events(Protocol):
    """What the gate tells the metrics."""

    def answered_request(self, kind: Kind, seconds: float) -> None: ...

    def entered_at_once(self, room: str) -> None: ...

    def bypassed(self, room: str, rule: str) -> None: ...

    def joined(self, room: str, result: str) -> None: ...

    def shed(self, kind: Shed) -> None: ...


class Tracing(Protocol):
    """Who makes spans of requests (`tracing.py`), where that is wanted and installed."""

    def request(self, request: web.BaseRequest, *, is_peer_trusted: bool) -> AbstractContextManager[None]: ...

    def forwarding(self, request: web.BaseRequest, plan: Plan) -> AbstractContextManager[Plan]: ...

    def tell(self, request: web.BaseRequest, status: int, kind: Kind | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the gate needs to know of its configuration."""

    routes: routes.Routes
    upstreams: Mapping[str, Upstream]
    trusted_proxies: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
    https: bool
    makes_request_ids: bool = False
    access_share: float = 0.0  # of the requests, which get a line in the log
    tracing: Tracing | None = None


class Gate:
    """The public port's handler: `serve(request)`, and `express` for what needs no request. `wall_s` is for signatures alone."""

    def __init__(
        self,
        surroundings: Surroundings,
        desks: Mapping[str, Desk],
        upstreams: Upstreams,
        site: Callable[[web.BaseRequest, str], web.StreamResponse],
        events: Events,
        wall_s: Callable[[], float],
    ) -> None:
        self._here = surroundings
        self._desks = desks
        self._lobbies = {room: Lobby(desk, surroundings.trusted_proxies) for room, desk in desks.items()}
        expresses = {room: RoomExpress(lobby.desk, lobby.polls) for room, lobby in self._lobbies.items()}
        self._pages = {room: PageInPlace(desk) for room, desk in desks.items()}
        arrivals = Arrivals(surroundings.routes, desks, self._pages)
        self.express = Express(expresses, arrivals, events.answered_request)
        self.sorting = Sorting(surroundings.routes, desks, lambda room: events.joined(room, "shed"))
        self._auth = Auth(surroundings, desks, wall_s)
        self._upstreams = upstreams
        self._site = site
        self._events = events
        self._wall_s = wall_s
        self._in_flight: dict[bytes, int] = {}  # by admission

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if (tracing := self._here.tracing) is None:
            return (await self._serve(request))[1]
        with tracing.request(request, is_peer_trusted=self._trusts(request)):
            kind, response = await self._serve(request)
            tracing.tell(request, response.status, kind)
            return response

    async def _serve(self, request: web.BaseRequest) -> Answer:
        started_s = perf_counter()
        kind, response = await self._judge(request)
        took_s = perf_counter() - started_s
        self._events.answered_request(kind, took_s)
        if self._here.access_share and _random() < self._here.access_share:
            access.note(request, kind, response.status, took_s, self._client(request))
        return kind, response

    def _client(self, request: web.BaseRequest) -> str | None:
        told = request.headers.getall("X-Forwarded-For", ())
        return fields.client_address(request.remote or "", told, self._here.trusted_proxies)

    async def _judge(self, request: web.BaseRequest) -> Answer:
        target = request.raw_path
        if target.startswith("/_waitroom/"):
            return await self._ours(request, target[11:].partition("?")[0])
        client = self._client(request)
        route = self._here.routes.match(request.headers.get("Host"), target, request.method, client)
        match route:
            case routes.Protected(room):
                return await self._protected(request, room, client)
            case routes.Unprotected(upstream):
                return Kind.UNPROTECTED, await self._send(request, self._plan(request, upstream))
            case routes.Bypassed(room, rule):
                self._events.bypassed(room.id, rule.name)
                self._desks[room.id].queue.bypassed.note(rule.name)
                plan = self._plan(request, room.upstream, room)
                return Kind.BYPASSED, await self._send(request, plan)
            case routes.Ours(rest):
                return await self._ours(request, rest)
            case routes.Refused(status, reason):
                return Kind.REFUSED, refused(status, reason)
            case _:
                assert_never(route)

    # --- ours -------------------------------------------------------------------------------------------------------

    async def _ours(self, request: web.BaseRequest, rest: str) -> Answer:
        room, slash, path = rest.partition("/")
        if room == "auth":
            return Kind.AUTH, await self._auth.serve(request, slash + path)
        lobby = self._lobbies.get(room)
        if lobby is None:
            return Kind.OTHER, self._site(request, rest)
        if not slash:
            return Kind.OTHER, answers.redirect(308, f"/_waitroom/{room}/")
        kind = LOBBY_KINDS.get(path, Kind.OTHER)
        return Kind.LEAVE if request.method == "DELETE" else kind, await lobby.serve(request, path)

    # --- protected --------------------------------------------------------------------------------------------------

    async def _protected(self, request: web.BaseRequest, room: Room, client: str | None) -> Answer:
        desk = self._desks[room.id]
        credential = desk.credential(request)
        network = network_of(client or request.remote or "")
        uses_headers = not credential.from_cookie and policy.keeps_tokens(request.headers)
        passing = policy.admit(
            credential,
            is_void=desk.is_void(credential),
            now_s=desk.queue.clock.now_s(),
            session_s=room.session_s,
            is_reachable=desk.queue.is_reachable,
        )
        if passing is not None:
            passage = Passage.of(desk, passing, uses_headers, network)
            return Kind.ADMITTED, await self._forward(request, desk, passage)
        asked = Asked.of(request.method, request.headers)
        has_credit = desk.networks.has_credit(network, desk.queue.clock.monotonic())
        decision = policy.triage(asked, credential, room_state=desk.room_state(), network_has_credit=has_credit)
        match decision:
            case TryEntry(ticket):
                identity = ticket.id if ticket is not None else desk.random_id()
                contact = Contact(identity, ticket.number, ticket.epoch) if ticket else Contact(identity)
                # Counted before the question and taken back after a no: many at once must not all be asked for.
                desk.networks.entered(network, desk.queue.clock.monotonic())
                try:
                    standing = await desk.queue.enter(contact)
                except Unreachable:
                    standing = None
                outcome = policy.settle(standing, desk.room_state())
                if isinstance(outcome, Hold):
                    desk.networks.confirmed(network)
                    return self._hold(request, desk, asked, outcome)
                self._events.entered_at_once(room.id)
                passage = Passage.entered(desk, identity, outcome.standing, uses_headers)
            case Hold():
                return self._hold(request, desk, asked, decision)
            case _:
                assert_never(decision)
        return Kind.ADMITTED, await self._forward(request, desk, passage)

    async def _forward(self, request: web.BaseRequest, desk: Desk, passage: Passage) -> web.StreamResponse:
        identity, in_flight = passage.admission.id, self._in_flight
        count = in_flight.get(identity, 0)
        if count >= ADMISSION_IN_FLIGHT_MAX:
            self._events.shed(Shed.ADMISSION_IN_FLIGHT)
            detail = f"this admission has {ADMISSION_IN_FLIGHT_MAX} requests under way: wait for one to end"
            return answers.problem(429, "overloaded", detail, {"Retry-After": "1"})
        in_flight[identity] = count + 1
        try:
            plan = self._plan(request, desk.room.upstream, desk.room, passage)
            return await self._send(request, plan)
        finally:
            if in_flight[identity] == 1:
                del in_flight[identity]
            else:
                in_flight[identity] -= 1

    def _hold(self, request: web.BaseRequest, desk: Desk, asked: Asked, held: Hold) -> Answer:
        room = desk.room
        if asked.is_navigation and Ready.fits(request):  # the flood of first arrivals
            accepted = request.headers.get("Accept-Encoding", "")
            return Kind.PAGE, Ready(*self._pages[room.id].of(accepted, desk.queue.clock.now_s()))
        headers = held_headers(room) | desk.epoch_fields
        if asked.is_navigation or asked.is_sent_form:
            headers["Vary"] = "Accept-Encoding"  # the same page, as HEAD or to HTTP/1.0, where it is not compressed
            shown = desk.posted_page if asked.is_sent_form else desk.page
            return Kind.PAGE, answers.page(shown, room.queueing_status, headers)
        headers["Link"] = f'</_waitroom/{room.id}/ticket>; rel="waitroom-join"'
        detail = f"join the line: POST /_waitroom/{room.id}/ticket, then ask /_waitroom/{room.id}/status as it says"
        members = {"room": room.id, "room_state": held.state.value}
        return Kind.TURNED_AWAY, answers.problem(429, "admission-required", detail, headers, **members)

    async def _send(self, request: web.BaseRequest, plan: Plan) -> web.StreamResponse:
        if (tracing := self._here.tracing) is None:
            return await self._upstreams.forward(request, plan)
        with tracing.forwarding(request, plan) as traced:
            response = await self._upstreams.forward(request, traced)
            tracing.tell(request, response.status)
            return response

    def _trusts(self, request: web.BaseRequest) -> bool:
        return bool(self._here.trusted_proxies) and fields.is_trusted(request.remote or "", self._here.trusted_proxies)

    def _plan(
        self, request: web.BaseRequest, upstream: str, room: Room | None = None, passage: Passage | None = None
    ) -> Plan:
        added: tuple[fields.Header, ...] = ()
        if passage is not None and room is not None:
            key = self._here.upstreams[upstream].signing_key
            added = identified(passage.admission.id, room.id, key, int(self._wall_s()))
        is_trusted = self._trusts(request)
        on_head: OnHead | None = passage.on_head if passage is not None else None
        replaced: tuple[fields.Header, ...] = ()
        if self._here.makes_request_ids:
            request_id = access.id_of(request, is_peer_trusted=is_trusted)
            on_head = access.naming(request_id, on_head)
            replaced = (request_id,)
        return Plan(
            upstream=upstream,
            room=room.id if room is not None else None,
            room_in_flight_max=room.max_in_flight if room is not None else 0,
            headers=added,
            on_head=on_head,
            on_alive=passage.on_alive if passage is not None else None,
            peer=request.remote or "",
            is_peer_trusted=is_trusted,
            scheme="https" if self._here.https else "http",
            replaced=replaced,
        )


@lru_cache(IDENTIFIED_MAX)
def identified(identity: bytes, room: str, key: bytes, now_s: int) -> tuple[fields.Header, ...]:
    """What tells an upstream who passes. Remembered, since a page and what it loads are asked for within a second."""
    subject = subject_of(identity)
    told = ((b"Waitroom-Subject", subject.encode()), (b"Waitroom-Room", room.encode()))
    return (*told, (b"Waitroom-Signature", fields.signature(key, room, subject, now_s).encode())) if key else told


def refused(status: int, reason: str) -> web.Response:
    kind = {400: "bad-request", 404: "not-found", 421: "misdirected"}[status]
    return answers.problem(status, kind, reason)


def network_of(address: str) -> str:
    """The /24 or /64 an address is of, as text; what is no address counts as one network."""
    head, _, _ = address.rpartition(".")
    if head and ":" not in address:
        return head
    try:
        return str(ipaddress.ip_network(f"{address}/64", strict=False))
    except ValueError:
        return "unknown"
