"""Every answer of ours, over every route of ours: what browsers and caches are told about it, and what they are not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.web.openapi import METHODS, document
from tests.web.gatewayfixture import NAVIGATION, SHUT, Answer, OpenHouse, house_opener, protecting
from tests.web.operating import ROOM, Port, opened

open_house = pytest.fixture(house_opener)
NOT_OURS = ("Strict-Transport-Security", "X-Powered-By", "Access-Control-Allow-Origin")
OPERATORS_PATHS = (
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/rooms",
    ROOM,
    f"{ROOM}/reset",
    f"{ROOM}/reports",
    "/nothing",
)


def faults_of(answer: Answer) -> list[str]:
    """What is missing of one answer of ours."""
    headers = answer.headers
    missing = [] if headers.getall("X-Content-Type-Options", []) == ["nosniff"] else ["nosniff"]
    missing += [] if "Cache-Control" in headers else ["Cache-Control"]
    missing += [] if headers.get("Server") == "waitroom" else ["Server"]
    missing += [f"not {name}" for name in NOT_OURS if name in headers]
    if headers.get("Content-Type", "").startswith("text/html"):
        policy = dict(one.strip().partition(" ")[::2] for one in headers.get("Content-Security-Policy", "").split(";"))
        missing += [] if policy.get("default-src") == policy.get("frame-ancestors") == "'none'" else ["policy"]
        missing += ["inline code"] if "unsafe" in headers.get("Content-Security-Policy", "") else []
        if "form-action" in policy and headers.get("Referrer-Policy") != "same-origin":
            missing.append("Referrer-Policy")
    return missing


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with opened() as one:
        yield one


async def test_every_route_of_ours_says_what_it_is(open_house: OpenHouse) -> None:
    """Each path of the contract with each method, as a program and as a browser ask, with a place and without one."""
    room = protecting("headers", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    seen = set()
    for path in [*document()["paths"], "/_waitroom/nothing", "/_waitroom/{room}", "/_waitroom/{room}/nothing"]:
        target = path.format(room=room.id, path="x", protected=f"{room.id}/form")
        for method in METHODS:
            for headers in ({}, NAVIGATION, {"Sec-Fetch-Site": "cross-site"}):
                for who in (house.visitor(), visitor):
                    answer = await who.ask(method.upper(), target, headers)
                    assert faults_of(answer) == [], (method, target, headers, answer)
                    seen.add(answer.status)
    assert seen >= {200, 201, 204, 308, 401, 403, 404, 405, 429}
    assert house.bank.requests == []


async def test_what_is_refused_or_fails_says_it_too(open_house: OpenHouse) -> None:
    """Bad targets and hosts, an upstream that is gone, a head that is none: as a program and as a browser ask."""
    house = await open_house(protecting("headers"), default=True)
    asked = [("/%00", "bank.example", 400), ("/free", "other.example", 421), ("/free", "no host", 400)]
    for headers in ({}, NAVIGATION):
        for target, host, status in asked:
            answer = await house.visitor(Host=host).ask("GET", target, headers)
            assert (answer.status, faults_of(answer)) == (status, [])
    await house.bank.close()
    for headers in ({}, NAVIGATION):
        answer = await house.visitor().ask("GET", "/free", headers)
        assert (answer.status, faults_of(answer)) == (502, [])


async def test_the_banks_own_answers_get_none_of_it(open_house: OpenHouse) -> None:
    """Promise 10: what a bank's pages may do is the bank's to say."""
    house = await open_house(protecting("headers"))
    answer = await house.visitor().open("/free")
    assert answer.status == 200
    ours = {"X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cache-Control", *NOT_OURS}
    assert not ours & set(answer.headers)
    assert answer.headers["Server"] != "waitroom"


async def test_the_operator_port_says_it_everywhere(port: Port) -> None:
    """The console steers money: nothing frames it, nothing keeps it, nothing takes it for something else."""
    for path in OPERATORS_PATHS:
        for method in METHODS:
            for who in ("sre", None):
                status, _, headers = await port.ask(method.upper(), path, who=who)
                assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store"), (
                    path,
                    status,
                )
                assert not {name for name in NOT_OURS if name in headers}
    _, _, headers = await port.ask("GET", "/", who=None)
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_a_page_in_place_of_a_file_is_kept_by_no_cache(open_house: OpenHouse) -> None:
    """Cache deception and poisoning: what stands in place of `/x.css` is nobody's style sheet, now or later."""
    room = protecting("deceived", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    for target in (f"/{room.id}/x.css", f"/{room.id}/account;/x.js", f"/{room.id}/%2e%2e/x.png"):
        for headers in ({}, NAVIGATION):
            answer = await house.visitor().ask("GET", target, headers | {"X-Forwarded-Host": "evil.example"})
            assert answer.status in {400, 429}
            assert answer.headers["Cache-Control"] == "no-store"
            assert b"evil.example" not in answer.body


def test_a_planted_fault_is_caught() -> None:
    good = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Server": "waitroom"}
    page = good | {"Content-Type": "text/html", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"}

    def told(headers: dict[str, str]) -> list[str]:
        return faults_of(Answer(200, CIMultiDictProxy(CIMultiDict(headers)), b""))

    assert told(good) == told(page) == []
    assert told(good | {"Strict-Transport-Security": "max-age=1"}) == ["not Strict-Transport-Security"]
    assert told(page | {"Content-Security-Policy": "default-src 'self'"}) == ["policy"]
    assert told({}) == ["nosniff", "Cache-Control", "Server"]
