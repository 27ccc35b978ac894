"""Other sites: what their pages may ask of a room, what they may read, and which methods there are."""

from __future__ import annotations

import pytest

from gateway.model import Contact, Rate
from tests.web.gatewayfixture import OpenHouse, house_opener, protecting, until

open_house = pytest.fixture(house_opener)
APP_ORIGIN = "https://app.example"
LATER = 4_000_000_000  # nobody is called: a claim is answered at once
CHANGES = (("POST", "ticket"), ("POST", "admission"), ("DELETE", "ticket"), ("POST", "leave"))


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "https://bank.example"}, True),
        ({"Origin": "https://BANK.example"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": APP_ORIGIN}, True),
        ({}, True),
    ],
)
async def test_no_other_site_moves_a_visitor(open_house: OpenHouse, headers: dict[str, str], is_allowed: bool) -> None:
    """Section 8, CSRF: for every call that changes something; 403 says why, and nothing happened."""
    room = protecting("csrf", opens_at_s=LATER, origins=(APP_ORIGIN,))
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    for method, path in CHANGES:
        answer = await visitor.ask(method, f"/_waitroom/{room.id}/{path}", headers)
        assert (answer.status != 403) is is_allowed, (method, path)
        if not is_allowed:
            assert answer.json["type"] == "cross-site"
            assert not answer.cookies
    assert bool(visitor.cookies) is not is_allowed, "a place is given up by who may"


@pytest.mark.parametrize("path", ["ticket", "status", "board", "admission", "leave"])
async def test_only_the_rooms_origins_may_read_answers(open_house: OpenHouse, path: str) -> None:
    """Section 8, CORS: with credentials, for `origins` alone, and caches are told that answers differ."""
    room = protecting("cors", opens_at_s=LATER, origins=(APP_ORIGIN,))
    house = await open_house(room)
    method = "GET" if path in {"status", "board"} else "POST"
    for origin, is_allowed in ((APP_ORIGIN, True), ("https://evil.example", False), ("null", False)):
        visitor = house.visitor()
        await visitor.join(room)
        asked = await visitor.ask(method, f"/_waitroom/{room.id}/{path}", {"Origin": origin})
        preflight = await visitor.ask(
            "OPTIONS", f"/_waitroom/{room.id}/{path}", {"Origin": origin, "Access-Control-Request-Method": method}
        )
        assert preflight.status == 204
        assert method in preflight.headers["Allow"]
        for answer in (asked, preflight):
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == (APP_ORIGIN if is_allowed else None)
            assert answer.headers.get("Access-Control-Allow-Credentials") == ("true" if is_allowed else None)
        if is_allowed:
            assert method in preflight.headers["Access-Control-Allow-Methods"]
            assert "Waitroom-Ticket" in preflight.headers["Access-Control-Allow-Headers"]
        if asked.status != 403:
            assert asked.headers["Vary"] == "Origin"


async def test_a_room_without_origins_says_nothing_of_them(open_house: OpenHouse) -> None:
    """Section 8: no CORS headers, and no Vary that would split a cache."""
    room = protecting("cors")
    house = await open_house(room)
    board = await house.visitor().get(f"/_waitroom/{room.id}/board", {"Origin": APP_ORIGIN})
    assert not {"Vary", "Access-Control-Allow-Origin"} & set(board.headers)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "ticket", "DELETE, OPTIONS, POST"),
        ("PUT", "ticket", "DELETE, OPTIONS, POST"),
        ("POST", "status", "GET, HEAD, OPTIONS"),
        ("GET", "admission", "OPTIONS, POST"),
        ("DELETE", "leave", "OPTIONS, POST"),
        ("POST", "board", "GET, HEAD, OPTIONS"),
        ("DELETE", "", "GET, HEAD, OPTIONS"),
        ("PROPFIND", "renew", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    open_house: OpenHouse, method: str, path: str, allowed: str
) -> None:
    """Section 8: 405 with Allow."""
    room = protecting("method")
    house = await open_house(room)
    answer = await house.visitor().ask(method, f"/_waitroom/{room.id}/{path}")
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert answer.json["type"] == "method-not-allowed"
    assert (await house.visitor().ask("OPTIONS", f"/_waitroom/{room.id}/{path}")).headers["Allow"] == allowed


async def test_only_a_get_with_a_ticket_is_answered_as_a_poll(open_house: OpenHouse) -> None:
    """Section 8: a place is asked for by GET; another method gets 405, also where the board could answer it."""
    room = protecting("polled", drain_rate=Rate(1, "h"), burst=2)
    house = await open_house(room)
    await house.queue(room).store.check_in([Contact(number.to_bytes(16)) for number in range(30)])
    visitor = house.visitor(Accept="application/json")
    await visitor.join(room, "k" * 22)
    number = (await visitor.see(room))["number"]
    await until(lambda: house.queue(room).board.knows(number, 1))
    for method in ("POST", "PUT", "DELETE"):
        answer = await visitor.ask(method, f"/_waitroom/{room.id}/status")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
