"""The shapes of a room's answers to its visitors: as JSON or as small pages, with tokens as cookies or in the body."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from multidict import CIMultiDict

import waitroom_ui
from gateway.model import Code, Ticket, VisitorState
from gateway.rules import policy
from gateway.web import answers
from gateway.web.desk import Desk
from gateway.web.place import Place, ended_place
from gateway.web.ready import JSON_HEAD, Ready, ReadyHead

EXPOSED: Final = "Retry-After, Waitroom-Lease, Waitroom-State, Waitroom-Room"
RETRY_SHORT_S: Final = 2
RETRY_FULL_S: Final = 30


class Reply:
    """How one room answers. `text/html` in Accept gets pages, all others JSON."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._admitted_head = ReadyHead("HTTP/1.1 200 OK", JSON_HEAD)

    def placed(
        self, request: web.BaseRequest, place: Place, status: int, issued: tuple[str, Ticket] | None
    ) -> web.Response:
        """A place, with the ticket where one was issued: as a cookie, or in the body for apps that brought no cookie."""
        headers: CIMultiDict[str] = CIMultiDict()
        if issued is not None:
            text, ticket = issued
            if self.is_app(request):
                place.document["ticket"] = text
            else:
                headers["Set-Cookie"] = self.desk.set_ticket(text, ticket)
        return self.show(request, place, status, headers)

    def admitted(
        self, request: web.BaseRequest, place: Place, text: str, cookie: str, status: int
    ) -> web.StreamResponse:
        cookies: tuple[str, ...] = ()
        if self.is_app(request):
            place.document["admission"] = text
        else:
            cookies = cookie, self.desk.drop_ticket()
        if status == 200 and Ready.fits(request) and not self.desk.room.origins and not asks_html(request):
            body = answers.json_text(place.document).encode()
            return Ready(self._admitted_head.of(len(body), self.desk.queue.clock.now_s(), *cookies), body)
        headers = CIMultiDict(("Set-Cookie", one) for one in cookies)
        return self.show(request, place, status, headers)

    def ended(self, request: web.BaseRequest, status: int) -> web.StreamResponse:
        return self.show(request, ended_place(self.desk), status)

    def show(
        self, request: web.BaseRequest, place: Place, status: int, headers: CIMultiDict[str] | None = None
    ) -> web.Response:
        if not asks_html(request):
            return answers.json_answer(place.document, status, headers)
        room = self.desk.room
        return answers.page(
            waitroom_ui.place_page(room.id, place.document, room.entry, return_to=self.return_to(request)),
            200 if place.state is VisitorState.ADMITTED else status,
            headers,
        )

    def full(self, request: web.BaseRequest, why: str) -> web.StreamResponse:
        if asks_html(request):
            shown = waitroom_ui.full_page(self.desk.room.id, return_to=self.return_to(request))
            return answers.page(shown, 503, {"Retry-After": str(RETRY_FULL_S)})
        return full_problem(self.desk.room.id, why)

    def over(self, request: web.BaseRequest, code: Code) -> web.StreamResponse:
        if asks_html(request):
            over = waitroom_ui.sold_out_page if code is Code.SOLD_OUT else waitroom_ui.closed_page
            return answers.page(over(self.desk.room.id), 409)
        if code is Code.SOLD_OUT:
            return answers.problem(
                409, "sold-out", "nothing is left: nobody else will be let in", room=self.desk.room.id
            )
        return answers.problem(409, "closed", "this room has closed", room=self.desk.room.id)

    def retry_later(self, request: web.BaseRequest, detail: str) -> web.StreamResponse:
        headers = {"Retry-After": str(RETRY_SHORT_S)}
        if asks_html(request):
            return answers.page(
                waitroom_ui.busy_page(self.desk.room.id, return_to=self.return_to(request)), 503, headers
            )
        return answers.problem(503, "unreachable", detail, headers)

    # --- small questions ----------------------------------------------------------------------------------------------

    def is_app(self, request: web.BaseRequest) -> bool:
        """Tokens go into a body only for those who ask and brought no cookie of ours."""
        if request.headers.get("Waitroom-Transport") != "header":
            return False
        ours = (self.desk.ticket_cookie, self.desk.admission_cookie)
        return not any(name in cookie for cookie in request.headers.getall("Cookie", ()) for name in ours)

    def own_origin(self, request: web.BaseRequest) -> str:
        return f"{'https' if self.desk.https else 'http'}://{request.headers.get('Host', '').lower()}"

    def return_to(self, request: web.BaseRequest) -> str | None:
        """From the query; a form falls back to its own page, where that is not one of ours."""
        asked = policy.return_path(query_of(request).get("return_to"))
        try:
            referer = urlsplit(request.headers.get("Referer", ""))
        except ValueError:  # brackets that are no address
            return asked
        if asked is not None or referer.netloc.lower() != request.headers.get("Host", "").lower():
            return asked
        query = parse_qs(referer.query).get("return_to", [""])[0]
        if referer.path.startswith("/_waitroom/"):
            return policy.return_path(query)
        return policy.return_path(referer.path + (f"?{referer.query}" if referer.query else ""))

    def with_cors(
        self, request: web.BaseRequest, response: web.StreamResponse, methods: str | None = None
    ) -> web.StreamResponse:
        if not self.desk.room.origins or isinstance(response, Ready):
            return response
        response.headers["Vary"] = "Origin"  # also without one: a cache must not give one's answer to the other
        origin = request.headers.get("Origin", "")
        if origin and origin in self.desk.room.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
            if methods is not None:
                response.headers["Access-Control-Allow-Methods"] = methods
                response.headers["Access-Control-Allow-Headers"] = (
                    "Content-Type, Waitroom-Transport, Waitroom-Ticket, Waitroom-Admission"
                )
                response.headers["Access-Control-Max-Age"] = "600"
        return response


def full_problem(room: str, why: str) -> web.Response:
    detail = f"{why}: try again in {RETRY_FULL_S} s"
    return answers.problem(503, "room-full", detail, {"Retry-After": str(RETRY_FULL_S)}, room=room)


def asks_html(request: web.BaseRequest) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def query_of(request: web.BaseRequest) -> dict[str, str]:
    """The first value of each name in the query; empty where it is no query that a page of ours sends."""
    try:
        values = parse_qs(request.raw_path.partition("?")[2], max_num_fields=20)
    except ValueError:
        return {}
    return {name: found[0] for name, found in values.items()}
