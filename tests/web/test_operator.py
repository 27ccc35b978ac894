"""Holds the operator port (section 8) over real HTTP: who may see and change what; a change is all or nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.errors import Unreachable
from gateway.model import Operator, Role, SettingsRecord
from gateway.rules.tokens import subject_of
from gateway.web.operator import BODY_BYTES_MAX, RELEASED_MAX, OperatorPort

BASE: dict[str, Any] = {
    "drain_rate": "50/s", "burst": 50, "active_max": 2000, "paused": False, "stock": None, "message": {"ko": "점검 중"},
}  # fmt: skip
OPERATORS = (
    Operator("sre", Role.OPERATOR, "operator-token-0123456789"),
    Operator("watch", Role.VIEWER, "viewer-token-0123456789"),
    Operator("bank", Role.UPSTREAM, "upstream-token-0123456789", rooms=("point-cashout",)),
    Operator("cards", Role.OPERATOR, "cards-token-0123456789", rooms=("card-cashback",)),
)
TOKENS = {one.name: one.token for one in OPERATORS}
ROOM = "/api/rooms/point-cashout"
SUBJECTS = [subject_of(bytes([n]) * 16) for n in range(3)]


@dataclass
class MemoryRooms:
    """`Rooms` over a dict, with the same versions and conflicts as over Redis."""

    records: dict[str, SettingsRecord] = field(
        default_factory=lambda: {room: SettingsRecord(1, dict(BASE), {}) for room in ("point-cashout", "card-cashback")}
    )
    epochs: dict[str, int] = field(default_factory=dict)
    reports: list[tuple[str, int | None, list[bytes]]] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)
    writes_before_mine: int = 0  # how many times somebody else is faster
    is_reachable: bool = True

    def ids(self) -> Sequence[str]:
        return list(self.records)

    def summary(self, room_id: str) -> dict[str, Any]:
        return {"room": room_id, "room_state": "queueing", "waiting": 7, "stale": not self.is_reachable}

    def board(self, room_id: str) -> dict[str, Any]:
        return {"room": room_id, "epoch": self.epochs.get(room_id, 1)}

    def _ask(self) -> None:
        if not self.is_reachable:
            raise Unreachable("connection refused")

    async def read_settings(self, room_id: str) -> SettingsRecord:
        self._ask()
        return self.records[room_id]

    async def write_settings(self, room_id: str, version: int, overrides: dict[str, Any]) -> SettingsRecord | None:
        self._ask()
        record = self.records[room_id]
        if self.writes_before_mine:
            self.writes_before_mine -= 1
            others = {**record.overrides, "stock": record.version}
            self.records[room_id] = replace(record, version=record.version + 1, overrides=others)
            return None
        if record.version != version:
            return None
        self.records[room_id] = SettingsRecord(version + 1, record.base, overrides)
        return self.records[room_id]

    async def reset(self, room_id: str, *, void_admissions: bool) -> int:
        self._ask()
        self.epochs[room_id] = self.epochs.get(room_id, 1) + 1
        if void_admissions:
            self.voided.append(room_id)
        return self.epochs[room_id]

    async def report(self, room_id: str, remaining: int | None, released: Sequence[bytes]) -> None:
        self._ask()
        self.reports.append((room_id, remaining, list(released)))


@dataclass
class Port:
    rooms: MemoryRooms
    http: aiohttp.ClientSession
    url: str
    is_ready: bool = True

    async def ask(self, method: str, path: str, who: str | None = "sre", **options: Any) -> tuple[int, Any, Any]:
        """Status, body (JSON decoded, else bytes), headers."""
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {TOKENS[who]}"
        async with self.http.request(method, self.url + path, headers=headers, **options) as answer:
            body = await answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "") and body
            return answer.status, json.loads(body) if is_json else body, answer.headers


@asynccontextmanager
async def opened(operators: Sequence[Operator] = OPERATORS, bind_host: str = "127.0.0.1") -> AsyncIterator[Port]:
    rooms = MemoryRooms()
    async with aiohttp.ClientSession() as http:
        port = Port(rooms, http, "")
        face = OperatorPort(
            rooms, operators, bind_host, lambda accept: (b"up 1\n", "text/plain"), lambda: port.is_ready
        )
        runner = web.ServerRunner(web.Server(face.handle))
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield port
        finally:
            await runner.cleanup()


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


# --- settings ---------------------------------------------------------------------------------------------------------


async def test_a_room_shows_base_overrides_and_what_is_in_force(port: Port) -> None:
    """Section 8: GET with base, overrides and ETag."""
    port.rooms.records["point-cashout"] = SettingsRecord(4, dict(BASE), {"paused": True})
    status, body, headers = await port.ask("GET", ROOM)
    assert status == 200
    assert headers["ETag"] == '"4"'
    assert headers["Cache-Control"] == "no-store"
    assert body == {
        "room": "point-cashout", "version": 4, "base": BASE, "overrides": {"paused": True},
        "settings": BASE | {"paused": True}, "board": {"room": "point-cashout", "epoch": 1},
    }  # fmt: skip


async def test_a_patch_overrides_and_null_takes_it_back(port: Port) -> None:
    """Section 8: JSON merge patch; the file is the base, overrides win."""
    patch = {"drain_rate": "80/s", "stock": 1000, "paused": True}
    _, body, headers = await port.ask("PATCH", ROOM, json=patch)
    assert body["overrides"] == patch
    assert body["settings"] == BASE | patch
    assert headers["ETag"] == '"2"'
    _, body, _ = await port.ask("PATCH", ROOM, json={"paused": None, "stock": None})
    assert body["overrides"] == {"drain_rate": "80/s"}
    assert body["settings"] == BASE | {"drain_rate": "80/s"}


async def test_a_message_is_merged_text_by_text(port: Port) -> None:
    """RFC 7396 goes into objects: adding English leaves the Korean text of the file in place."""
    _, body, _ = await port.ask("PATCH", ROOM, json={"message": {"en": "Back soon"}})
    assert body["settings"]["message"] == {"ko": "점검 중", "en": "Back soon"}
    _, body, _ = await port.ask("PATCH", ROOM, json={"message": {"ko": None}})
    assert body["settings"]["message"] == {"en": "Back soon"}
    _, body, _ = await port.ask("PATCH", ROOM, json={"message": None})
    assert body["settings"]["message"] == {"ko": "점검 중"}


FAULTS: list[tuple[object, set[str]]] = [
    ({"drain_rate": "50/fortnight"}, {"#/drain_rate"}),
    ({"drain_rate": 50}, {"#/drain_rate"}),
    ({"drain_rate": "0/s"}, {"#/drain_rate"}),
    ({"drain_rate": "1000/s"}, {"#/drain_rate"}),  # the burst of the file, 50, is under a quarter of a second
    ({"drain_rate": "1000/s", "burst": 249}, {"#/burst"}),
    ({"burst": 1}, {"#/burst"}),
    ({"burst": 50.0}, {"#/burst"}),
    ({"burst": True}, {"#/burst"}),
    ({"active_max": 0}, {"#/active_max"}),
    ({"active_max": "2000"}, {"#/active_max"}),
    ({"paused": 1}, {"#/paused"}),
    ({"paused": "true"}, {"#/paused"}),
    ({"stock": -1}, {"#/stock"}),
    ({"stock": 10**12}, {"#/stock"}),
    ({"message": "hello"}, {"#/message"}),
    ({"message": {"english!": "hello"}}, {"#/message"}),
    ({"message": {"en": 5}}, {"#/message"}),
    ({"message": {"en": "x" * 501}}, {"#/message"}),
    ({"session": "10m"}, {"#/session"}),
    ({"a/b~c": 1}, {"#/a~1b~0c"}),
    ([], {"#"}),
    ("paused", {"#"}),
    (None, {"#"}),
    ({"burst": 1, "active_max": -5, "colour": "red", "paused": True}, {"#/burst", "#/active_max", "#/colour"}),
]


@pytest.mark.parametrize(("patch", "pointers"), FAULTS)
async def test_a_faulty_patch_changes_nothing_and_names_every_fault(
    port: Port, patch: object, pointers: set[str]
) -> None:
    """Section 8: all or nothing; promise 14's manner: all faults at once, each with what is allowed."""
    status, body, headers = await port.ask("PATCH", ROOM, data=json.dumps(patch), headers=JSON)
    assert status == 422
    assert headers["Content-Type"] == "application/problem+json"
    assert {error["pointer"] for error in body["errors"]} == pointers
    assert all("allowed: " in error["detail"] for error in body["errors"])
    assert port.rooms.records["point-cashout"] == SettingsRecord(1, BASE, {})


JSON = {"Content-Type": "application/json"}


async def test_rate_and_burst_are_judged_together(port: Port) -> None:
    """Section 4: burst >= a quarter of a second of the rate, as in the file."""
    assert (await port.ask("PATCH", ROOM, json={"drain_rate": "1000/s", "burst": 250}))[0] == 200
    assert (await port.ask("PATCH", ROOM, json={"burst": None}))[0] == 422
    assert (await port.ask("PATCH", ROOM, json={"burst": None, "drain_rate": None}))[0] == 200


@pytest.mark.parametrize("tags", ['"1"', '"7", "1"', "*"])
async def test_a_change_with_the_right_etag_is_taken(port: Port, tags: str) -> None:
    """RFC 9110, 13.1.1."""
    assert (await port.ask("PATCH", ROOM, json={"paused": True}, headers={"If-Match": tags}))[0] == 200


@pytest.mark.parametrize("tags", ['"0"', '"2"', 'W/"1"', "1", ""])
async def test_a_change_based_on_another_version_is_refused(port: Port, tags: str) -> None:
    """Two operators at two consoles: the second sees that there was a first."""
    status, _, headers = await port.ask("PATCH", ROOM, json={"paused": True}, headers={"If-Match": tags})
    assert (status, headers["ETag"]) == (412, '"1"')
    assert port.rooms.records["point-cashout"].overrides == {}


async def test_who_writes_in_between_is_not_overwritten(port: Port) -> None:
    """Without If-Match the patch is applied again to what is there now; with it, 412."""
    port.rooms.writes_before_mine = 2
    _, body, _ = await port.ask("PATCH", ROOM, json={"paused": True})
    assert body["overrides"] == {"paused": True, "stock": 2}
    assert body["version"] == 4
    port.rooms.writes_before_mine = 1
    assert (await port.ask("PATCH", ROOM, json={"paused": False}, headers={"If-Match": '"4"'}))[0] == 412
    port.rooms.writes_before_mine = 99
    assert (await port.ask("PATCH", ROOM, json={"paused": False}))[0] == 503


async def test_a_patch_that_changes_nothing_writes_nothing(port: Port) -> None:
    """A console that saves twice makes no second version."""
    assert (await port.ask("PATCH", ROOM, json={"paused": True}))[1]["version"] == 2
    assert (await port.ask("PATCH", ROOM, json={"paused": True}))[1]["version"] == 2
    assert (await port.ask("PATCH", ROOM, json={}))[1]["version"] == 2


async def test_every_change_is_logged_with_who_from_and_to(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    """Section 8: every change is logged with who, from, to."""
    with caplog.at_level(logging.INFO, "waitroom"):
        await port.ask("PATCH", ROOM, json={"paused": True, "stock": 10})
        await port.ask("PATCH", ROOM, json={"paused": None})
        await port.ask("PATCH", ROOM, json={"burst": 1})
        await port.ask("POST", f"{ROOM}/reset", json={"admissions": True})
        await port.ask("POST", f"{ROOM}/reports", who="bank", json={"remaining": 3})
    facts = [
        {name: getattr(record, name, None) for name in ("msg", "who", "room", "from", "to")}
        for record in caplog.records
    ]
    assert facts == [
        {"msg": "settings_changed", "who": "sre", "room": "point-cashout", "from": {"paused": False, "stock": None},
         "to": {"paused": True, "stock": 10}},
        {"msg": "settings_changed", "who": "sre", "room": "point-cashout", "from": {"paused": True},
         "to": {"paused": False}},
        {"msg": "room_reset", "who": "sre", "room": "point-cashout", "from": None, "to": None},
        {"msg": "room_reported", "who": "bank", "room": "point-cashout", "from": None, "to": None},
    ]  # fmt: skip
    assert all(token not in caplog.text for token in TOKENS.values())


# --- reset and reports ------------------------------------------------------------------------------------------------


async def test_a_reset_raises_the_epoch_and_voids_admissions_if_asked(port: Port) -> None:
    """Section 2: a reset voids every older ticket, and admission, if asked."""
    assert (await port.ask("POST", f"{ROOM}/reset"))[1] == {"room": "point-cashout", "epoch": 2}
    assert port.rooms.voided == []
    assert (await port.ask("POST", f"{ROOM}/reset", json={"admissions": True}))[1]["epoch"] == 3
    assert port.rooms.voided == ["point-cashout"]


@pytest.mark.parametrize("body", [{"admissions": "true"}, {"admissions": 1}, {"admision": True}, [], True])
async def test_a_reset_that_is_not_understood_does_nothing(port: Port, body: object) -> None:
    """It cannot be undone: a misspelled word must not pass for a default."""
    assert (await port.ask("POST", f"{ROOM}/reset", json=body))[0] == 422
    assert not port.rooms.epochs


async def test_a_report_releases_subjects_and_lowers_the_stock(port: Port) -> None:
    """Section 8: for banks behind an edge."""
    status, _, _ = await port.ask("POST", f"{ROOM}/reports", who="bank", json={"remaining": 7, "released": SUBJECTS})
    assert status == 204
    await port.ask("POST", f"{ROOM}/reports", who="bank", json={"released": SUBJECTS[:1]})
    assert port.rooms.reports == [
        ("point-cashout", 7, [bytes([n]) * 16 for n in range(3)]),
        ("point-cashout", None, [bytes(16)]),
    ]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"remaining": -1}, {"#/remaining"}),
        ({"remaining": True}, {"#/remaining"}),
        ({"remaining": "7", "released": ["x"]}, {"#/remaining", "#/released"}),
        ({"released": SUBJECTS[0]}, {"#/released"}),
        ({"released": [None]}, {"#/released"}),
        ({"released": [SUBJECTS[0], SUBJECTS[1].upper() + "x"]}, {"#/released"}),
        ({"released": [SUBJECTS[0]] * (RELEASED_MAX + 1)}, {"#/released"}),
        ({"remainning": 3}, {"#/remainning"}),
    ],
)
async def test_a_faulty_report_takes_nothing(port: Port, body: object, pointers: set[str]) -> None:
    """All or nothing here, too."""
    status, answer, _ = await port.ask("POST", f"{ROOM}/reports", who="bank", json=body)
    assert status == 422
    assert {error["pointer"] for error in answer["errors"]} == pointers
    assert port.rooms.reports == []


# --- what can go wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"stock": NaN}', b"[" * 60_000, b"paused=true"])
async def test_a_body_that_is_no_json_is_refused(port: Port, body: bytes) -> None:
    """Bad input, always a clear answer, no 500."""
    status, _, headers = await port.ask("PATCH", ROOM, data=body, headers=JSON)
    assert (status, headers["Content-Type"]) == (400, "application/problem+json")


async def test_a_form_is_no_json(port: Port) -> None:
    """Forms are what other sites' pages can send without asking."""
    assert (await port.ask("PATCH", ROOM, data={"paused": "true"}))[0] == 415
    assert (await port.ask("PATCH", ROOM, data=b"{}", headers={"Content-Type": "text/plain"}))[0] == 415


@pytest.mark.parametrize("kind", ["application/merge-patch+json", "application/json; charset=utf-8"])
async def test_both_names_of_a_merge_patch_are_taken(port: Port, kind: str) -> None:
    """RFC 7396 has a media type of its own; few clients send it."""
    headers = {"Content-Type": kind}
    assert (await port.ask("PATCH", ROOM, data=b'{"paused": true}', headers=headers))[0] == 200


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(port: Port, is_chunked: bool) -> None:
    """Style 8: a limit on everything, whatever Content-Length says."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 1000 + 1):
            yield b" " * 1000

    body: Any = pieces() if is_chunked else b" " * (BODY_BYTES_MAX + 1)
    assert (await port.ask("PATCH", ROOM, data=body, headers=JSON))[0] == 413
    assert (await port.ask("PATCH", ROOM, data=b"{}".ljust(BODY_BYTES_MAX), headers=JSON))[0] == 200


async def test_a_body_that_does_not_come_is_not_waited_for(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """Style 11: every network await has a deadline."""
    monkeypatch.setattr("gateway.web.operator.BODY_DEADLINE_S", 0.05)
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    assert (await port.ask("PATCH", ROOM, data=pieces(), headers=JSON))[0] == 408


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", ROOM, None),
        ("PATCH", ROOM, {"paused": True}),
        ("POST", f"{ROOM}/reset", {}),
        ("POST", f"{ROOM}/reports", {}),
    ],
)
async def test_without_redis_it_says_so(port: Port, method: str, path: str, body: object) -> None:
    """Section 9: unreachable is an answer, not an error; what gateways know is still shown."""
    port.rooms.is_reachable = False
    status, problem, headers = await port.ask(method, path, json=body)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "Redis" in problem["detail"]
    status, listed, _ = await port.ask("GET", "/api/rooms")
    assert status == 200
    assert all(room["stale"] for room in listed["rooms"])
