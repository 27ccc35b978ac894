"""One request seen from outside: the id and the trace it carries, and its line in the log."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from tests.web.gatewayfixture import OpenHouse, Visitor, house_opener, protecting

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MADE = re.compile(r"[0-9a-f]{32}")
open_house = pytest.fixture(house_opener)
TRUSTED = {"makes_request_ids": True, "trusted_proxies": ("127.0.0.0/8",)}


async def test_by_default_ids_and_traces_pass_unchanged_both_ways(open_house: OpenHouse) -> None:
    """Promise 10: headers like any other, with no one added."""
    house = await open_house(protecting("id"))
    visitor = house.visitor()
    answer = await visitor.get(
        "/free", {"X-Request-Id": "what a client says", "traceparent": TRACE, "tracestate": "a=b"}
    )
    assert house.bank.last["X-Request-Id"] == "what a client says"
    assert (house.bank.last["traceparent"], house.bank.last["tracestate"]) == (TRACE, "a=b")
    assert "X-Request-Id" not in answer.headers
    await visitor.get("/free")
    assert "X-Request-Id" not in house.bank.last


async def test_what_a_trusted_proxy_calls_a_request_it_stays(open_house: OpenHouse) -> None:
    """The edge's log, the gateway's, the bank's and the visitor's answer then have one name for it."""
    room = protecting("id")
    house = await open_house(room, **TRUSTED)
    house.bank.headers = {"X-Request-Id": "the bank's own"}
    visitor = house.visitor()
    await house.idle(room)
    for target in ("/free", f"/{room.id}/"):
        answer = await visitor.get(
            target, {"X-Request-Id": "edge-7/a", "traceparent": TRACE, "Sec-Fetch-Mode": "navigate"}
        )
        assert answer.status == 200
        assert house.bank.last.getall("X-Request-Id") == ["edge-7/a"]
        assert house.bank.last["traceparent"] == TRACE
        assert answer.headers.getall("X-Request-Id") == ["edge-7/a"]


@pytest.mark.parametrize(
    ("server", "given"),
    [
        ({"makes_request_ids": True}, [("X-Request-Id", "a-client's")]),  # whom nobody trusts
        (TRUSTED, []),
        (TRUSTED, [("X-Request-Id", "x" * 129)]),
        (TRUSTED, [("X-Request-Id", 'a" status=200')]),
    ],
)
async def test_where_nobody_trusted_says_one_it_is_made(
    open_house: OpenHouse, server: dict[str, Any], given: list[tuple[str, str]]
) -> None:
    house = await open_house(protecting("id"), **server)
    answer = await house.visitor().ask("GET", "/free", given)
    (told,) = house.bank.last.getall("X-Request-Id")
    assert MADE.fullmatch(told)
    assert answer.headers.getall("X-Request-Id") == [told]
    await house.visitor().get("/free")
    assert house.bank.last["X-Request-Id"] != told


async def test_an_answer_in_place_of_a_failed_upstream_bears_it_too(open_house: OpenHouse) -> None:
    """That is the one people ask about."""
    house = await open_house(protecting("id"), **TRUSTED)
    await house.bank.close()
    answer = await house.visitor().get("/free", {"X-Request-Id": "edge-8"})
    assert (answer.status, answer.headers["X-Request-Id"]) == (502, "edge-8")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.message == "request"]


async def test_the_access_log_is_off_unless_asked_for(open_house: OpenHouse, caplog: pytest.LogCaptureFixture) -> None:
    house = await open_house(protecting("quiet"))
    with caplog.at_level(logging.INFO, "waitroom"):
        await house.visitor().get("/free")
    assert lines(caplog) == []


async def test_a_line_says_who_asked_what_and_how_it_ended(
    open_house: OpenHouse, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing of the query, which may hold names and accounts."""
    room = protecting("logged")
    house = await open_house(room, access_log=1.0, **TRUSTED)
    house.bank.status = 418
    visitor: Visitor = house.visitor()
    sent = {"X-Request-Id": "edge-9", "X-Forwarded-For": "192.0.2.7", "traceparent": TRACE}
    with caplog.at_level(logging.INFO, "waitroom"):
        await visitor.get("/free?account=1234", sent)
        await visitor.get(f"/{room.id}/data", sent)
    passed, held = lines(caplog)
    told = {name: passed[name] for name in ("kind", "method", "host", "path", "status", "client", "request_id")}
    assert told == {
        "kind": "unprotected",
        "method": "GET",
        "host": "bank.example",
        "path": "/free",
        "status": 418,
        "client": "192.0.2.7",
        "request_id": "edge-9",
    }
    assert passed["traceparent"] == TRACE
    assert passed["took_ms"] > 0
    assert (held["kind"], held["status"], held["request_id"]) == ("turned_away", 429, "")
    assert "1234" not in caplog.text


async def test_joins_claims_pages_and_places_are_logged_and_traced_as_they_were_answered(
    open_house: OpenHouse, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8: their heads are made beforehand, and looking at one must not cost its visitor the answer."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    room = protecting("looked")
    house = await open_house(room, access_log=1.0, traces=0.01)
    visitor = house.visitor()
    with caplog.at_level(logging.INFO, "waitroom"):
        answers = [
            await visitor.join(room),
            await visitor.join(room),
            await visitor.get(f"/_waitroom/{room.id}/status"),
        ]
        answers.append(await visitor.enter(room))
        answers.append(await visitor.get(f"/{room.id}/"))
        await house.patch(room, paused=True)
        await house.state("paused", room)
        answers.append(await house.visitor().open(f"/{room.id}/"))
    assert [answer.status for answer in answers] == [201, 200, 200, 200, 200, 429]
    assert {200, 201} <= {line["status"] for line in lines(caplog)}
    assert not [record for record in caplog.records if record.message == "request_failed"]


async def test_a_share_is_drawn_by_lot(open_house: OpenHouse, caplog: pytest.LogCaptureFixture) -> None:
    """Half of 200: between 60 and 140 but for one run in ten million."""
    house = await open_house(protecting("some"), access_log=0.5)
    visitor = house.visitor()
    with caplog.at_level(logging.INFO, "waitroom"):
        for _ in range(200):
            await visitor.get("/free")
    assert 60 < len(lines(caplog)) < 140
