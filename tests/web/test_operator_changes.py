"""Holds what the operator port changes (section 8): settings by merge patch, all or nothing; resets; upstreams' reports."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.model import SettingsRecord
from gateway.rules.tokens import subject_of
from gateway.web.operator import BODY_BYTES_MAX, RELEASED_MAX
from tests.web.operating import BASE, ROOM, TOKENS, Port, opened

SUBJECTS = [subject_of(bytes([n]) * 16) for n in range(3)]


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with opened() as one:
        yield one


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
        "settings": BASE | {"paused": True}, "stock_in_force": None, "board": {"room": "point-cashout", "epoch": 1},
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


async def test_naming_the_stock_is_a_change_also_at_the_same_figure(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    """Section 8: the operator says what is left, so what the upstream reported before is over; other changes leave it."""
    await port.ask("PATCH", ROOM, json={"stock": 500})
    port.rooms.reported["point-cashout"] = 0
    _, body, _ = await port.ask("PATCH", ROOM, json={"paused": True})
    assert (body["settings"]["stock"], body["stock_in_force"]) == (500, 0)
    with caplog.at_level(logging.INFO, "waitroom"):
        _, body, headers = await port.ask("PATCH", ROOM, json={"stock": 500}, headers={"If-Match": '"3"'})
    assert (body["stock_in_force"], headers["ETag"]) == (500, '"4"')
    assert caplog.records[-1].__dict__["to"] == {"stock": 500}
    status, _, _ = await port.ask("PATCH", ROOM, json={"stock": 500}, headers={"If-Match": '"3"'})
    assert status == 412, "sent again with its ETag it does nothing"
    await port.ask("PATCH", ROOM, json={"stock": None})
    port.rooms.reported["point-cashout"] = 0
    _, body, _ = await port.ask("PATCH", ROOM, json={"stock": None})
    assert (body["stock_in_force"], body["version"]) == (None, 6), "nothing to take back but the report"


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


async def test_a_fault_is_told_with_key_value_and_what_is_allowed(port: Port) -> None:
    """Promise 14's manner, in the words of `waitroom check`."""
    _, body, _ = await port.ask("PATCH", ROOM, json={"drain_rate": "1000/s"})
    assert body["errors"][0]["detail"].startswith('drain_rate = "1000/s": allowed: a burst of 250 to 1000000 at 1000/s')
    assert body["errors"][0]["detail"].endswith("(it is 50)")
    _, body, _ = await port.ask("PATCH", ROOM, json={"active_max": 0})
    assert body["errors"][0]["detail"].startswith("active_max = 0: allowed: a whole number of admissions")


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
