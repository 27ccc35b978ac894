"""The crowd speaks the waiting page's protocol: seen from a small scripted server that follows section 8 to the letter."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.demo.crowd import run_crowd
from gateway.demo.plan import CrowdSettings, Kind, Plan
from gateway.demo.report import Door, as_json, format_report, from_json, summarise
from gateway.demo.tally import CrowdRun, Outcome, Tally
from gateway.demo.visitor import Visitor
from gateway.demo.wire import Wire
from tests.demo.conftest import serving

ROOM = "point-cashout"
POLL_S = 0.03
KEY = "00" * 16


@dataclass
class Scripted:
    """A room that calls each visitor after `polls_until_called` polls, says 202 to the first claim, and keeps notes."""

    polls_until_called: int = 2
    number_drifts: bool = False
    fails_first: int = 0  # this many requests are answered 503
    seen: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    polls: Counter[str] = field(default_factory=Counter)
    claims: Counter[str] = field(default_factory=Counter)
    polled_s: dict[str, float] = field(default_factory=dict)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.note])
        app.add_routes(
            [
                web.get("/points/cashout/", self.page),
                web.post("/points/cashout/pay", self.pay),
                web.post(f"/_waitroom/{ROOM}/ticket", self.join),
                web.get(f"/_waitroom/{ROOM}/status", self.status),
                web.post(f"/_waitroom/{ROOM}/admission", self.claim),
                web.get("/balance", self.balance),
            ]
        )
        return app

    @web.middleware
    async def note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != "/balance":
            self.seen.append((request.method, request.path.rpartition("/")[2] or "page"))
        if self.fails_first:
            self.fails_first -= 1
            return web.Response(status=503)
        is_browser = "Sec-Fetch-Mode" in request.headers
        if request.method == "POST" and is_browser:
            self._expect(request.headers.get("Sec-Fetch-Site") == "same-origin", "a POST of the page is same-origin")
            self._expect(request.headers.get("Origin") == f"http://{request.headers['Host']}", "with its own Origin")
        response: web.StreamResponse = await handler(request)
        return response

    def _expect(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.faults.append(sentence)

    def _token(self, request: web.Request, name: str) -> str:
        is_app = request.headers.get("Waitroom-Transport") == "header"
        header = request.headers.get(f"Waitroom-{name.capitalize()}", "")
        return header if is_app else request.cookies.get(f"waitroom-{name}-{ROOM}", "")

    def _give(self, request: web.Request, name: str, token: str, body: dict[str, Any], status: int) -> web.Response:
        if request.headers.get("Waitroom-Transport") == "header":
            return web.json_response(body | {name: token}, status=status)
        answer = web.json_response(body, status=status)
        answer.set_cookie(f"waitroom-{name}-{ROOM}", token, httponly=True, samesite="Lax")
        return answer

    def _place(self, who: str) -> dict[str, Any]:
        is_called = self.polls[who] >= self.polls_until_called
        return {
            "room": ROOM,
            "state": "called" if is_called else "waiting",
            "number": 1 + self.polls[who] * self.number_drifts,
            "position": 0 if is_called else 1,
            "poll_after_ms": round(POLL_S * 1e3),
        }

    async def page(self, request: web.Request) -> web.Response:
        if self._token(request, "admission"):
            return web.Response(text="the form")
        if request.headers.get("Sec-Fetch-Mode") == "navigate":
            self._expect("text/html" in request.headers["Accept"], "a navigation accepts HTML")
            headers = {"Waitroom-State": "waiting", "Retry-After": "5"}
            return web.Response(text="<h1>please wait</h1>", status=429, content_type="text/html", headers=headers)
        link = {"Link": f'<http://{request.host}/_waitroom/{ROOM}/ticket>; rel="waitroom-join"', "Waitroom-Room": ROOM}
        return web.json_response({"type": "admission-required"}, status=429, headers=link)

    async def join(self, request: web.Request) -> web.Response:
        key = (await request.json())["key"]
        self._expect(len(key) == 32, "a key has 128 bits")
        is_known = key in self.polled_s
        self.polled_s[key] = time.monotonic()
        self.polls[key] += is_known  # a reload asks for the same place in another way
        return self._give(request, "ticket", key, self._place(key), 200 if is_known else 201)

    async def status(self, request: web.Request) -> web.Response:
        who = self._token(request, "ticket")
        if who not in self.polled_s:
            return web.json_response({}, status=404)
        now_s = time.monotonic()
        self._expect(now_s - self.polled_s[who] >= 0.9 * POLL_S, "nobody polls before poll_after_ms")
        self.polled_s[who] = now_s
        self.polls[who] += 1
        return self._give(request, "ticket", who, self._place(who), 200)

    async def claim(self, request: web.Request) -> web.Response:
        who = self._token(request, "ticket")
        self._expect(self.polls[who] >= self.polls_until_called, "only a called ticket claims")
        self.claims[who] += 1
        if self.claims[who] == 1:
            answer = web.json_response(self._place(who), status=202, headers={"Retry-After": "0"})
        else:
            answer = self._give(request, "admission", f"admission of {who}", {"state": "admitted", "number": 1}, 200)
            answer.del_cookie(f"waitroom-ticket-{ROOM}")
        return answer

    async def pay(self, request: web.Request) -> web.Response:
        if not self._token(request, "admission"):
            return web.json_response({}, status=429)
        is_app = request.headers.get("Waitroom-Transport") == "header"
        self._expect(is_app or not self._token(request, "ticket"), "the spent ticket's cookie is gone")
        fields = await request.json() if request.content_type == "application/json" else await request.post()
        self._expect(int(str(fields["points"])) > 0, "points are paid")
        self._expect(bool(fields.get("payout") or request.headers.get("Idempotency-Key")), "with a key")
        return web.json_response({"paid": True}, headers={"Waitroom-Release": "1"})

    async def balance(self, _request: web.Request) -> web.Response:
        return web.json_response({"points": 1})


def plan(kind: Kind, **changes: Any) -> Plan:
    fields: dict[str, Any] = {"name": "v1", "arrives_s": 0.0, "key": KEY, "payout_key": "p1", "points": 3, "tries": 4}
    return Plan(**{**fields, "kind": kind, "patience_s": 2.0, "retry_s": 0.01, "think_s": 0.01, **changes})


async def live(session: aiohttp.ClientSession, room: Scripted, life: Plan) -> tuple[Visitor, Tally]:
    """One visitor's life against the room, both as they were at the end."""
    tally = Tally()
    async with serving(room.app()) as url:
        visitor = Visitor(life, Wire(session, (url,), life, tally.failures), ROOM, tally)
        await asyncio.wait_for(visitor.visit(), timeout=10)
    return visitor, tally


@pytest.mark.parametrize("kind", [Kind.BROWSER, Kind.APP])
async def test_patient_visitor_joins_polls_claims_enters_and_pays(session: aiohttp.ClientSession, kind: Kind) -> None:
    """Section 8: held, ticket, status until called, claim until granted, the page, the payout, in this order."""
    room = Scripted()
    visitor, tally = await live(session, room, plan(kind))
    assert room.faults == []
    assert room.seen == [
        ("GET", "page"),
        ("POST", "ticket"),
        ("GET", "status"),
        ("GET", "status"),
        ("POST", "admission"),
        ("POST", "admission"),
        ("GET", "page"),
        ("POST", "pay"),
    ]
    assert visitor.journey.outcome is Outcome.SERVED
    assert visitor.journey.number == 1
    assert visitor.journey.claimed_s is not None
    assert visitor.journey.granted_s is not None
    assert visitor.journey.claimed_s <= visitor.journey.granted_s
    assert (tally.failures, tally.places_changed, tally.waiting, tally.inside) == (Counter(), 0, 0, 0)


async def test_leaver_leaves_without_a_word(session: aiohttp.ClientSession) -> None:
    """A closed tab sends nothing: no leave, no claim, and no request counts as failed."""
    room = Scripted(polls_until_called=10**6)
    visitor, tally = await live(session, room, plan(Kind.LEAVER, leaves_after_s=1.0))
    assert visitor.journey.outcome is Outcome.LEFT
    assert {what for _, what in room.seen} == {"page", "ticket", "status"}
    assert (tally.failures, tally.waiting) == (Counter(), 0)


async def test_sleeper_is_silent_and_comes_back(session: aiohttp.ClientSession) -> None:
    """A sleeping phone asks nothing for its sleep, and goes on with the ticket that it had."""
    room = Scripted(polls_until_called=3)
    life = plan(Kind.SLEEPER, sleeps_after_s=0.0, sleep_s=0.5)
    began_s = time.monotonic()
    visitor, _ = await live(session, room, life)
    assert time.monotonic() - began_s >= 0.5
    assert visitor.journey.outcome is Outcome.SERVED
    assert room.seen.count(("POST", "ticket")) == 1


async def test_reloader_finds_its_place_again(session: aiohttp.ClientSession) -> None:
    """Promise 4: whoever reloads joins again with the key it kept; a number that changes then is noticed."""
    room = Scripted(polls_until_called=2)
    visitor, tally = await live(session, room, plan(Kind.RELOADER, reload_s=POLL_S))
    assert visitor.journey.outcome is Outcome.SERVED
    assert tally.places_changed == 0
    assert room.seen[:6] == [("GET", "page"), ("POST", "ticket")] * 3
    assert ("GET", "status") not in room.seen


async def test_changed_number_is_noticed(session: aiohttp.ClientSession) -> None:
    """Promise 4: the crowd's report would show a place that moved."""
    _, tally = await live(session, Scripted(number_drifts=True), plan(Kind.BROWSER))
    assert tally.places_changed > 0


async def test_failures_are_counted_and_borne_for_a_while(session: aiohttp.ClientSession) -> None:
    """Promise 8: every error page is counted, though a patient visitor comes through all the same; a nervous does not."""
    visitor, tally = await live(session, Scripted(fails_first=3), plan(Kind.BROWSER))
    assert (visitor.journey.outcome, tally.failures) == (Outcome.SERVED, Counter({"page 503": 3}))
    visitor, tally = await live(session, Scripted(fails_first=4), plan(Kind.BROWSER))
    assert (visitor.journey.outcome, tally.failures) == (Outcome.GAVE_UP, Counter({"page 503": 4}))


async def test_crowd_ends_when_all_but_no_shows_have_ended() -> None:
    """Who polls and never claims does not keep the demo running, and is reported as what it is."""
    room = Scripted()
    settings = CrowdSettings(visitors=20, arrive_within_s=0.3, leavers=0, no_shows=0.2, sleepers=0, reloaders=0.0)
    run = CrowdRun(settings)
    async with serving(room.app()) as url:
        await run_crowd(run, (url,), seconds=20)
    assert room.faults == []
    assert run.tally.outcomes == Counter({Outcome.SERVED: 16, Outcome.NO_SHOW: 4})
    assert run.ended_s - run.began_s < 10
    assert run.balance.asked_ms
    assert not run.balance.failures
    assert not [who for who in room.claims if room.claims[who] != 2]


async def test_report_says_what_happened_and_survives_being_kept() -> None:
    """The figures of a run are printed as they are, and read back to stand beside the next run's."""
    run = CrowdRun(CrowdSettings(visitors=6, arrive_within_s=0.1, leavers=0, no_shows=0, sleepers=0))
    async with serving(Scripted().app()) as url:
        await run_crowd(run, (url,), seconds=20)
    stats = {"paid": 6, "unsigned": 2, "ledger": {"paid_twice": 1, "adds_up": True}}
    report = summarise(run, [], stats, Door(40, 40))
    assert (report.served, report.failed, report.paid_twice, report.unsigned) == (6, 0, 1, 2)
    assert report.excess == {"0.1": -44, "1": -80, "10": -440, "60": -2440}
    assert from_json(as_json(report)) == report
    assert from_json({"name": "of another version"}) is None
    table = format_report([report, report])
    assert "BROKEN" not in table
    assert "6" in next(line for line in table.splitlines() if "served" in line)
