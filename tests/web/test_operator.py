"""Holds who may see and do what at the operator port (section 8): probes, roles, and a port without any operators."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.web.operating import ROOM, Port, opened


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with opened() as one:
        yield one


@pytest.fixture
async def local() -> AsyncIterator[Port]:
    """A port without any [[operators]]."""
    async with opened(operators=()) as one:
        yield one


# --- probes, scrapes, console -----------------------------------------------------------------------------------------


async def test_readiness_ends_with_sigterm_and_does_not_ask_redis(port: Port) -> None:
    """Promise 11 and section 8: 503 from SIGTERM on; the loss of Redis must not take every gateway out at once."""
    port.rooms.is_reachable = False
    assert (await port.ask("GET", "/readyz", who=None))[0] == 200
    port.is_ready = False
    status, body, _ = await port.ask("GET", "/readyz", who=None)
    assert (status, body) == (503, {"status": "stopping"})
    assert (await port.ask("GET", "/healthz", who=None))[0] == 200


async def test_metrics_and_console_need_no_token(port: Port) -> None:
    """Section 8: the console asks for a token itself; what it asks the API with one is what counts."""
    assert (await port.ask("GET", "/metrics", who=None))[:2] == (200, b"up 1\n")
    status, body, headers = await port.ask("GET", "/", who=None)
    assert status == 200
    assert b"<html" in body
    assert headers["Content-Type"].startswith("text/html")
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/"])
async def test_what_is_read_only_refuses_other_methods(port: Port, path: str) -> None:
    """Bad input gets a clear answer."""
    status, _, headers = await port.ask("POST", path)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


# --- who may do what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer ", "Bearer wrong", "Basic operator-token-0123456789", "Bearer operator-token-012345678",
     "Bearer operator-token-01234567890", "operator-token-0123456789", "Bearer é"],
)  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/rooms"), ("PATCH", ROOM), ("POST", f"{ROOM}/reset")])
async def test_without_a_good_token_nothing_is_told_or_done(
    port: Port, authorization: str | None, method: str, path: str
) -> None:
    """Section 8: 401 with a challenge (RFC 6750)."""
    headers = {} if authorization is None else {"Authorization": authorization}
    status, body, answered = await port.ask(method, path, who=None, headers=headers, json={"paused": True})
    assert status == 401
    assert answered["WWW-Authenticate"].startswith('Bearer realm="waitroom"')
    assert answered["Content-Type"] == "application/problem+json"
    assert body["status"] == 401
    assert port.rooms.records["point-cashout"].version == 1
    assert not port.rooms.epochs


@pytest.mark.parametrize(
    ("who", "method", "path", "status"),
    [
        ("watch", "GET", "/api/rooms", 200),
        ("watch", "GET", ROOM, 200),
        ("watch", "PATCH", ROOM, 403),
        ("watch", "POST", f"{ROOM}/reset", 403),
        ("watch", "POST", f"{ROOM}/reports", 403),
        ("bank", "GET", "/api/rooms", 403),
        ("bank", "GET", ROOM, 403),
        ("bank", "PATCH", ROOM, 403),
        ("bank", "POST", f"{ROOM}/reset", 403),
        ("bank", "POST", f"{ROOM}/reports", 204),
        ("bank", "POST", "/api/rooms/card-cashback/reports", 403),
        ("sre", "GET", ROOM, 200),
        ("sre", "PATCH", ROOM, 200),
        ("sre", "POST", f"{ROOM}/reset", 200),
        ("sre", "POST", f"{ROOM}/reports", 204),
        ("cards", "PATCH", ROOM, 403),
        ("cards", "GET", ROOM, 403),
        ("cards", "PATCH", "/api/rooms/card-cashback", 200),
        ("sre", "GET", "/api/rooms/unknown", 404),
        ("sre", "GET", "/api/rooms/..%2Fpoint-cashout", 404),
        ("sre", "GET", "/api/elsewhere", 404),
        ("sre", "DELETE", ROOM, 405),
        ("sre", "GET", f"{ROOM}/reset", 405),
    ],
)
async def test_each_role_may_do_its_part_and_no_more(port: Port, who: str, method: str, path: str, status: int) -> None:
    """Section 8: roles viewer, operator, upstream."""
    body: dict[str, Any] | None = None if method == "GET" else {}
    assert (await port.ask(method, path, who=who, json=body))[0] == status


async def test_an_operator_of_some_rooms_sees_those(port: Port) -> None:
    """A bank's own staff see their own rooms."""
    assert [room["room"] for room in (await port.ask("GET", "/api/rooms", who="cards"))[1]["rooms"]] == [
        "card-cashback"
    ]
    assert len((await port.ask("GET", "/api/rooms", who="watch"))[1]["rooms"]) == 2


# --- without [[operators]] --------------------------------------------------------------------------------------------


async def test_on_loopback_without_operators_everybody_here_is_local(
    local: Port, caplog: pytest.LogCaptureFixture
) -> None:
    """Section 8, the default: `make demo` needs no token."""
    with caplog.at_level(logging.INFO, "waitroom"):
        assert (await local.ask("PATCH", ROOM, who=None, json={"paused": True}))[0] == 200
    assert [record.who for record in caplog.records] == ["local"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:9090"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost:9090"}, 200),
        ({"Host": "[::1]:9090"}, 200),
        ({"Host": "LOCALHOST."}, 200),
    ],
)
async def test_a_browser_cannot_be_made_to_steer_a_local_port(
    local: Port, headers: dict[str, str], status: int
) -> None:
    """DNS rebinding and cross-site requests: a site that an operator visits must not pause the bank."""
    assert (await local.ask("PATCH", ROOM, who=None, json={"paused": True}, headers=headers))[0] == status
    assert local.rooms.records["point-cashout"].overrides == ({"paused": True} if status == 200 else {})


@pytest.mark.parametrize("path", ["/api/rooms", ROOM, "/metrics", "/"])
async def test_a_rebound_name_reads_nothing_either(local: Port, path: str) -> None:
    """A page that rebinds its own name to this address would be same-origin with us."""
    assert (await local.ask("GET", path, who=None, headers={"Host": "evil.example"}))[0] == 421


async def test_our_own_page_may_change_things(local: Port) -> None:
    """An older browser, without Sec-Fetch-Site."""
    headers = {"Origin": local.url}
    assert (await local.ask("PATCH", ROOM, who=None, json={"paused": True}, headers=headers))[0] == 200


async def test_another_bind_without_operators_lets_nobody_in() -> None:
    """Section 8: any other bind needs [[operators]]. Configuration refuses it; the port does not rely on that."""
    async with opened(operators=(), bind_host="0.0.0.0") as port:
        assert (await port.ask("GET", "/api/rooms", who=None))[0] == 401
        assert (await port.ask("PATCH", ROOM, who=None, json={"paused": True}))[0] == 401
