"""The waiting visitor's side of a room: join, status, claim, leave, renew, board and page, under `/_waitroom/{room}/`."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from gateway.errors import Crowded, Unreachable
from gateway.metrics import Shed
from gateway.model import Code, Contact, Standing, Ticket, VisitorState
from gateway.queue.claims import CROWDED
from gateway.rules import headers as fields
from gateway.rules import policy
from gateway.rules.policy import Credential
from gateway.web import answers
from gateway.web.desk import Desk
from gateway.web.place import admitted_place, board_document, ended_place, waiting_place
from gateway.web.poll import Polls
from gateway.web.ready import Ready
from gateway.web.reply import RETRY_SHORT_S, Reply, asks_html, query_of
from gateway.web.smallbody import read_body

JOIN_BODY_MAX: Final = 4096
KEY_CHARS: Final = (16, 256)
BODY_TIMEOUT_S: Final = 10.0
NOT_VERIFIABLE: Final = "this ticket cannot be verified at this gateway just now; try again"

_random = random.random  # spreads polls; nothing depends on its being hard to guess


class Lobby:
    """Answers one room's own URLs. `asks_html` requests get the small pages, all others JSON."""

    def __init__(self, desk: Desk, trusted_proxies: Sequence[fields.Network]) -> None:
        self.desk = desk
        self._trusted_proxies = trusted_proxies
        self.reply = Reply(desk)
        self.polls = Polls(desk)
        self._routes: dict[tuple[str, str], Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            ("GET", ""): self._page,
            ("POST", "ticket"): self._join,
            ("DELETE", "ticket"): self._leave,
            ("POST", "leave"): self._leave,
            ("GET", "status"): self._status,
            ("POST", "admission"): self._claim,
            ("GET", "board"): self._board,
            ("GET", "renew"): self._renew,
        }
        self._methods: dict[str, list[str]] = {}
        for method, path in self._routes:
            self._methods.setdefault(path, []).append(method)

    def _may_be_ready(self, request: web.BaseRequest) -> bool:
        """Whether the answer may be one of the prebuilt ones, which are JSON and say nothing of origins."""
        is_of_origin = bool(self.desk.room.origins) and "Origin" in request.headers
        return Ready.fits(request) and not is_of_origin and not asks_html(request)

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """`path` is what follows `/_waitroom/{room}/`, without the query."""
        method = "GET" if request.method == "HEAD" else request.method
        face = self._routes.get((method, path))
        if face is None:
            return self._no_face(request, path)
        if method == "GET":
            return self.reply.with_cors(request, await face(request))
        fault = policy.origin_fault(request.headers, self.reply.own_origin(request), self.desk.room.origins)
        if fault is not None:
            return answers.problem(403, "cross-site", f"{fault}; send it from the room's own pages")
        return self.reply.with_cors(request, await face(request))

    def _no_face(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        methods = self._methods.get(path)
        if methods is None:
            return answers.problem(404, "not-found", f"room {self.desk.room.id} has nothing at this address")
        allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"}))
        if request.method == "OPTIONS":
            return self.reply.with_cors(request, answers.empty(204, {"Allow": allowed}), methods=allowed)
        return answers.problem(405, "method-not-allowed", f"allowed here: {allowed}", {"Allow": allowed})

    # --- join ---------------------------------------------------------------------------------------------------------

    async def _join(self, request: web.BaseRequest) -> web.StreamResponse:
        desk, credential = self.desk, self.desk.credential(request)
        if credential.has_foreign_ticket:
            return self.reply.retry_later(request, NOT_VERIFIABLE)
        if credential.ticket is not None:
            known = await self._place_of_ticket(request, credential)
            if known is not None:
                return known
        if credential.admission is not None and not desk.is_void(credential):
            return self._without_ticket(request, credential)
        key, fault = await self._key(request)
        if fault is not None:
            return fault
        if not desk.joins.take():
            desk.events.joined(desk.room.id, "shed")
            return self.reply.full(request, "many are joining just now")
        identity = key if key is not None else desk.random_id()
        try:
            standing = await desk.queue.check_in(Contact(identity))
        except Crowded:
            desk.events.joined(desk.room.id, "shed")
            return self.reply.full(request, "many are joining just now")
        except Unreachable:
            standing = Standing(Code.RECOVERING, epoch=desk.queue.memory.epoch)
        return self._seated(request, identity, standing)

    def _seated(self, request: web.BaseRequest, identity: bytes, standing: Standing) -> web.StreamResponse:
        desk = self.desk
        desk.events.joined(desk.room.id, standing.code.value)
        match standing.code:
            case Code.FULL:
                return self.reply.full(request, "the line has as many people as it can hold")
            case Code.SOLD_OUT | Code.CLOSED:
                return self.reply.over(request, standing.code)
            case Code.ADMITTED:
                return self._admitted(request, identity, standing)
            case _:
                if self._may_be_ready(request):
                    ready = self.polls.seat(identity, standing, _random(), in_body=self.reply.is_app(request))
                    if ready is not None:
                        return ready
                place = waiting_place(desk, None, standing, _random())
                text, ticket = desk.new_ticket(identity, standing, place.expected_s)
                code = 201 if standing.code in {Code.NEW, Code.RECOVERING} else 200
                return self.reply.placed(request, place, code, (text, ticket))

    async def _key(self, request: web.BaseRequest) -> tuple[bytes | None, web.StreamResponse | None]:
        """The id that the visitor's key stands for, None where it sent none; or what is wrong with it."""
        room = self.desk.room
        if room.customer_header is not None:
            customer = request.headers.get(room.customer_header, "")
            if not customer or not fields.is_trusted(request.remote or "", self._trusted_proxies):
                return None, answers.problem(403, "admission-required", "this room is for customers who are logged in")
            return hmac.digest(
                room.customer_secret, f"{room.id}\0{customer}".encode(errors="surrogateescape"), "sha256"
            )[:16], None
        body = await read_body(request, JOIN_BODY_MAX, BODY_TIMEOUT_S)
        if body is None:
            return None, answers.problem(
                413, "bad-request", f"send at most {JOIN_BODY_MAX} bytes, within {BODY_TIMEOUT_S:g} s"
            )
        if "json" not in request.headers.get("Content-Type", "") or not body.strip():
            return None, None
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return None, answers.problem(400, "bad-request", 'the body is not JSON; send {"key": "..."} or nothing')
        key = document.get("key") if isinstance(document, dict) else document
        if key is None:
            return None, None
        if not isinstance(key, str) or not KEY_CHARS[0] <= len(key) <= KEY_CHARS[1]:
            return None, answers.problem(
                400, "bad-request", "key: allowed are 16 to 256 characters, random, kept secret"
            )
        digest = hashlib.sha256(f"{room.id}\0{key}".encode(errors="surrogatepass")).digest()
        return digest[:16], None

    # --- status -------------------------------------------------------------------------------------------------------

    async def _status(self, request: web.BaseRequest) -> web.StreamResponse:
        credential = self.desk.credential(request)
        if credential.ticket is None:
            return self._without_ticket(request, credential)
        place = await self._place_of_ticket(request, credential)
        return place if place is not None else self._ended(request, credential, 200)

    def _without_ticket(self, request: web.BaseRequest, credential: Credential) -> web.StreamResponse:
        if credential.admission is not None and not self.desk.is_void(credential):
            return self.reply.show(request, admitted_place(self.desk, credential.admission.token), 200)
        if credential.has_foreign_ticket:
            return self.reply.retry_later(request, NOT_VERIFIABLE)
        return answers.problem(404, "no-ticket", f"join first: POST {self._url('ticket')}")

    def _ended(self, request: web.BaseRequest, credential: Credential, status: int) -> web.StreamResponse:
        """The ticket's place was used or given up; its bearer may hold the admission that it was used for."""
        if credential.admission is not None and not self.desk.is_void(credential):
            return self.reply.show(request, admitted_place(self.desk, credential.admission.token), 200)
        return self.reply.ended(request, status)

    def _admitted(self, request: web.BaseRequest, identity: bytes, standing: Standing) -> web.StreamResponse:
        """The admission of an entry made just now or before: what is told twice is the same session, not another."""
        desk = self.desk
        lease_s = standing.detail // 1_000_000
        text, admission = desk.new_admission(identity, standing.entered_at_s, lease_s=lease_s)
        place = admitted_place(desk, admission)
        return self.reply.admitted(request, place, text, desk.set_admission(text, admission), 200)

    async def _place_of_ticket(self, request: web.BaseRequest, credential: Credential) -> web.StreamResponse | None:
        """The place of a verified ticket, from the board where that knows it, else looked up; None: it has ended."""
        desk, ticket, board = self.desk, credential.ticket, self.desk.queue.board
        assert ticket is not None
        if (
            board is not None
            and board.knows(ticket.number, ticket.epoch)
            and not desk.queue.was_spent_here(ticket.number)
        ):
            desk.queue.mark(ticket.number)
            place = waiting_place(desk, ticket, None, _random())
            return self.reply.placed(request, place, 200, self._reissue(ticket))
        try:
            standing = await self._look_up(ticket)
        except Unreachable as fault:
            if isinstance(fault, Crowded):
                desk.events.shed(Shed.POLL)
            place = waiting_place(desk, ticket, None, _random(), was_asked_in_vain=True)
            return self.reply.placed(request, place, 200, self._reissue(ticket))
        return self._standing(request, ticket, standing)

    async def _look_up(self, ticket: Ticket) -> Standing:
        if ticket.is_provisional:
            return await self.desk.queue.check_in(Contact(ticket.id, arrived_us=ticket.joined_at_s * 1_000_000))
        return await self.desk.queue.check_in(Contact(ticket.id, ticket.number, ticket.epoch))

    def _standing(self, request: web.BaseRequest, ticket: Ticket, standing: Standing) -> web.StreamResponse | None:
        desk = self.desk
        match standing.code:
            case Code.ENDED:
                return None
            case Code.ADMITTED:
                return self._admitted(request, ticket.id, standing)
            case Code.FULL | Code.SOLD_OUT | Code.CLOSED if ticket.is_provisional:
                return self._seated(request, ticket.id, standing)
            case _:
                place = waiting_place(desk, ticket, standing, _random())
                if standing.number not in {0, ticket.number}:  # a provisional ticket got its number
                    issued = desk.new_ticket(ticket.id, standing, place.expected_s, joined_at_s=ticket.joined_at_s)
                    return self.reply.placed(request, place, 200, issued)
                return self.reply.placed(request, place, 200, self._reissue(ticket))

    def _reissue(self, ticket: Ticket) -> tuple[str, Ticket] | None:
        """A ticket past half of its life is issued again, also without Redis."""
        now_s, life_s = self.desk.now_s(), 2 * self.desk.room.absence_max_s
        if ticket.expires_at_s - now_s > life_s / 2:
            return None
        fresh = replace(ticket, issued_at_s=now_s, expires_at_s=now_s + life_s)
        return self.desk.keyring.mint_ticket(fresh), fresh

    # --- claim, leave, renew ------------------------------------------------------------------------------------------

    async def _claim(self, request: web.BaseRequest) -> web.StreamResponse:
        desk, credential = self.desk, self.desk.credential(request)
        if credential.ticket is None:
            return self._without_ticket(request, credential)
        ticket, known, issued = credential.ticket, None, None
        try:
            if ticket.is_provisional:  # its number first, then the claim
                known = await self._look_up(ticket)
                if known.code is Code.ADMITTED:
                    return self._admitted(request, ticket.id, known)
                if not known.number:
                    return self._not_yet(request, credential, known)
                issued = desk.new_ticket(ticket.id, known, ticket.expected_s, joined_at_s=ticket.joined_at_s)
                ticket = issued[1]
            standing = await desk.queue.claim(ticket)
        except Unreachable:
            return self._not_yet(request, credential, known, issued, was_asked_in_vain=True)
        if standing.reason == CROWDED:
            desk.events.shed(Shed.CLAIM)
        match standing.code:
            case Code.ADMITTED:
                return self._enter(request, ticket, standing)
            case Code.ENDED:
                return self._ended(request, credential, 410)
            case Code.WAITING:
                return self._not_yet(request, credential, known, issued)
            case _:
                return self._not_yet(request, credential, standing, issued)

    def _enter(self, request: web.BaseRequest, ticket: Ticket, standing: Standing) -> web.StreamResponse:
        desk = self.desk
        if standing.detail < desk.room.session_s * 1_000_000:  # told again: it was counted when it was granted
            return self._admitted(request, ticket.id, standing)
        waited_s = max(0, desk.now_s() - ticket.joined_at_s)
        desk.events.waited(desk.room.id, waited_s, ticket.expected_s)
        if ticket.expected_s and ticket.expected_s >= 5:
            desk.waits.add(desk.queue.clock.monotonic(), waited_s / ticket.expected_s)
        return self._admitted(request, ticket.id, standing)

    def _not_yet(
        self,
        request: web.BaseRequest,
        credential: Credential,
        standing: Standing | None,
        issued: tuple[str, Ticket] | None = None,
        *,
        was_asked_in_vain: bool = False,
    ) -> web.StreamResponse:
        """202: the turn is kept. A standing that is held is still called; with none the board knows best."""
        if standing is not None and standing.code in {Code.HELD, Code.LOST}:
            standing = Standing(Code.CALLED, standing.number, self.desk.room.claim_window_s * 1_000_000, standing.epoch)
        place = waiting_place(self.desk, credential.ticket, standing, _random(), was_asked_in_vain=was_asked_in_vain)
        wait_s = (
            RETRY_SHORT_S if place.state is VisitorState.CALLED else max(1, round((place.poll_after_ms or 1000) / 1000))
        )
        response = self.reply.placed(request, place, 202, issued)
        response.headers["Retry-After"] = str(wait_s)
        return response

    async def _leave(self, request: web.BaseRequest) -> web.StreamResponse:
        desk, credential = self.desk, self.desk.credential(request)
        if credential.has_foreign_ticket:
            return self.reply.retry_later(request, NOT_VERIFIABLE)
        if credential.ticket is not None:
            ticket = credential.ticket
            try:
                if await desk.queue.leave(Contact(ticket.id, ticket.number, ticket.epoch)):
                    desk.events.left(desk.room.id)
            except Unreachable:
                return self.reply.retry_later(request, "the place could not be given up just now; try again")
        headers: CIMultiDict[str] = CIMultiDict({"Set-Cookie": desk.drop_ticket()})
        if asks_html(request):
            return self.reply.show(request, ended_place(desk), 200, headers)
        return answers.empty(204, headers)

    async def _renew(self, request: web.BaseRequest) -> web.StreamResponse:
        """A fresh admission cookie for one past half-life, and back; without a valid one, back to be held."""
        desk, credential = self.desk, self.desk.credential(request)
        target = policy.return_path(query_of(request).get("return_to")) or desk.room.entry
        headers: CIMultiDict[str] = CIMultiDict()
        if credential.admission is not None and not desk.is_void(credential):
            old = credential.admission.token
            desk.queue.touch(old, lambda _lease_us: None)
            text, admission = desk.new_admission(old.id, old.entered_at_s)
            headers["Set-Cookie"] = desk.set_admission(text, admission)
        return answers.redirect(303, target, headers)

    def _url(self, what: str) -> str:
        return f"/_waitroom/{self.desk.room.id}/{what}"

    # --- board and page -----------------------------------------------------------------------------------------------

    async def _board(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {**answers.CACHEABLE, **self.desk.epoch_fields}
        return answers.json_answer(board_document(self.desk), headers=headers)

    async def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        return answers.page(self.desk.page, headers=answers.CACHEABLE)
