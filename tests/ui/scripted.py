"""Owns a room that answers as a test tells it to: the HTTP contract's answers without a queue behind them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from waitroom_ui import Page, place_page, sold_out_page, waiting_page

ROOM = "point-cashout"
ENTRY = "/points/cashout/"
BANK = "<!doctype html><title>Bank</title><link rel=icon href='data:,'><h1>Cash-out desk</h1>"


def status(state: str = "waiting", **changes: Any) -> dict[str, Any]:
    """A *status* body as in the contract, with a place in the middle of a line and a quick next poll."""
    body: dict[str, Any] = {
        "room": ROOM,
        "state": state,
        "number": 18273,
        "position": 1234,
        "ahead": 1233,
        "waiting": 5000,
        "eta": {"p50_s": 170, "p90_s": 290},
        "progress": 0.4,
        "poll_after_ms": 150,
        "room_state": "queueing",
        "message": None,
        "now": "2026-11-05T02:00:00Z",
        "as_of": "2026-11-05T02:00:00Z",
        "stale": False,
        "provisional": False,
        "claim_in_ms": None,
        "lease_until": None,
        "cause": None,
    }
    if state in {"called", "admitted", "ended"}:
        body |= {"position": 0, "ahead": 0, "eta": None}
    if state in {"admitted", "ended"}:
        body["poll_after_ms"] = None
    return body | changes


@dataclass
class Answer:
    """One answer given instead of the usual one; `gate` holds it back until it is set, `code` 0 cuts the connection."""

    code: int
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None


@dataclass
class Call:
    """A request that came in: what was called, what was sent, and when."""

    name: str  # "POST ticket", "GET status", ..., "GET bank"
    body: Any
    headers: dict[str, str]
    query: str
    at_s: float


class ScriptedRoom:
    """Serves the waiting page in place, the room's calls, and a bank page to those with an admission."""

    def __init__(self) -> None:
        self.status = status()
        self.board: dict[str, Any] = {}
        self.is_door_open = False
        self.is_down = False
        self.is_keeping_cookies = True
        self.once: dict[str, deque[Answer]] = {}
        self.calls: list[Call] = []
        self.page = waiting_page(ROOM, ENTRY)
        self.origin = ""

    def script(self, call: str, *answers: Answer) -> None:
        self.once.setdefault(call, deque()).extend(answers)

    def named(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    def routes(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", f"/_waitroom/{ROOM}/{{what:.*}}", self._ours)
        app.router.add_route("*", "/{path:.*}", self._protected)
        return app

    async def _note(self, name: str, request: web.Request) -> None:
        text = await request.text()
        is_json = request.content_type == "application/json" and bool(text)
        body = await request.json() if is_json else text
        self.calls.append(Call(name, body, dict(request.headers), request.query_string, time.monotonic()))

    async def _protected(self, request: web.Request) -> web.StreamResponse:
        await self._note(f"{request.method} {'bank' if 'admission' in request.cookies else 'page'}", request)
        if "admission" in request.cookies:
            return web.Response(text=BANK, content_type="text/html")
        page = waiting_page(ROOM, ENTRY, posted=True) if request.method == "POST" else self.page
        return shown(page, 429)

    async def _ours(self, request: web.Request) -> web.StreamResponse:
        what = request.match_info["what"]
        if not what:
            await self._note("GET waiting page", request)
            return shown(self.page, 200)
        name = f"{request.method} {what}"
        await self._note(name, request)
        scripted = self.once.get(name)
        answer = scripted.popleft() if scripted else self._usual(name, request)
        if answer.gate is not None:
            await answer.gate.wait()
        if (answer.code == 0 or self.is_down) and request.transport is not None:
            request.transport.abort()
        return self._send(name, answer, request)

    def _usual(self, name: str, request: web.Request) -> Answer:
        has_ticket = "ticket" in request.cookies
        if name == "GET board":
            return Answer(200, self.board)
        if name == "POST ticket":
            return Answer(200 if has_ticket else 201, self.status)
        if name == "GET status" and "admission" in request.cookies:
            return Answer(200, status("admitted"))
        if not has_ticket:
            return Answer(404, {"type": "about:blank", "status": 404})
        if name == "POST leave":
            return Answer(204)
        if name == "POST admission" and not self.is_door_open:
            return Answer(202, self.status, {"Retry-After": "1"})
        return Answer(200, status("admitted") if name == "POST admission" else self.status)

    def _send(self, name: str, answer: Answer, request: web.Request) -> web.StreamResponse:
        if "text/html" in request.headers.get("Accept", ""):
            response = self._plain(answer, request)
        elif answer.code == 204:
            response = web.Response(status=204)
        else:
            response = web.json_response(answer.body, status=answer.code, headers=answer.headers)
        if name == "POST ticket" and answer.code in {200, 201} and self.is_keeping_cookies:
            response.set_cookie("ticket", "t", httponly=True, samesite="Lax")
        if name == "POST leave" or answer.body.get("state") == "admitted":
            response.del_cookie("ticket")
        if name == "POST admission" and answer.body.get("state") == "admitted":
            response.set_cookie("admission", "a", httponly=True, samesite="Lax")
        return response

    def _plain(self, answer: Answer, request: web.Request) -> web.Response:
        if answer.code == 409:
            return shown(sold_out_page(ROOM), 409)
        body = status("ended") if answer.code == 204 else answer.body
        return shown(place_page(ROOM, body, ENTRY, return_to=request.query.get("return_to")), 200)


def shown(page: Page, code: int) -> web.Response:
    return web.Response(body=page.body, status=code, headers=page.headers | {"Cache-Control": "no-store"})
