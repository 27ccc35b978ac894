"""Joining: one key, one place, whatever is sent with it; and what is said when there is no place to be had."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.web.lobby import JOIN_BODY_MAX
from tests.web.gatewayfixture import SHUT, STATUS, OpenHouse, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)


async def test_a_join_takes_a_place_and_its_retry_finds_it(open_house: OpenHouse) -> None:
    """Promise 4: 201 with a ticket, then 200 with the same number, by cookie and by key."""
    room = protecting("join", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    new = await visitor.join(room, "k" * 22)
    STATUS.validate(new.json)
    assert (new.status, new.json["state"], new.json["provisional"]) == (201, "waiting", False)
    assert new.json["position"] >= 1
    assert list(visitor.cookies) == [f"__Host-waitroom-ticket-{room.id}"]
    by_cookie, by_key = await visitor.join(room), await house.visitor().join(room, "k" * 22)
    for known in (by_cookie, by_key):
        assert known.status == 200
        assert known.json["number"] == new.json["number"]
    assert (await house.visitor().join(room, "x" * 22)).json["number"] == new.json["number"] + 1


async def test_two_gateways_give_one_key_one_place(open_house: OpenHouse) -> None:
    """Promise 4: two tabs, two gateways, the same moment: one number; another key gets another."""
    room = protecting("join", drain_rate=SHUT, burst=2)
    house = await open_house(room, gateways=2)
    answers = await asyncio.gather(
        *(house.visitor(house.gateways[i % 2]).join(room, f"key-{i % 5:018}") for i in range(20))
    )
    assert sorted(answer.status for answer in answers) == [200] * 15 + [201] * 5
    numbers = [{answer.json["number"] for answer in answers[i::5]} for i in range(5)]
    assert all(len(one) == 1 for one in numbers)
    assert len(set.union(*numbers)) == 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": b""},
        {"json": {}},
        {"json": None},
        {"json": {"key": None}},
        {"json": {"other": [1, {"a": None}]}},
        {"data": b"key=abc", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"data": b"\xff\xfe", "headers": {"Content-Type": "application/octet-stream"}},
    ],
)
async def test_without_a_key_the_gateway_makes_one(open_house: OpenHouse, options: dict[str, Any]) -> None:
    """Section 4: each such join is a place of its own."""
    room = protecting("join", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    answers = [await house.visitor().ask("POST", f"/_waitroom/{room.id}/ticket", **options) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json["number"] != answers[1].json["number"]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"not json", 400),
        (b"\xff\xfe", 400),
        (b'{"key": 5}', 400),
        (b'{"key": ["k"]}', 400),
        (b'{"key": {"a": 1}}', 400),
        (b'{"key": true}', 400),
        (b'{"key": "short"}', 400),
        (b'{"key": "' + b"k" * 257 + b'"}', 400),
        (b'{"key": ' + b"9" * 4000 + b"}", 400),
        (b'{"key": 1e999}', 400),
        (b"[" * 2000 + b"]" * 2000, 400),
        (b'{"key": ' + b"[" * 2000 + b"]" * 2000 + b"}", 400),
        (b'"short"', 400),
        (b"false", 400),
        (b'{"key": "' + b"k" * JOIN_BODY_MAX + b'"}', 413),
    ],
)
async def test_a_bad_body_is_a_clear_answer(open_house: OpenHouse, body: bytes, status: int) -> None:
    """Section 8: 400 or 413 as a problem document, never a 500, and nothing is joined."""
    room = protecting("join", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    answer = await house.visitor().ask("POST", f"/_waitroom/{room.id}/ticket", JSON, data=body)
    assert (answer.status, answer.json["status"], answer.json["type"]) == (status, status, "bad-request")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not answer.cookies
    assert (await house.visitor().join(room)).json["number"] == 1


async def test_a_body_without_end_is_cut_off(open_house: OpenHouse) -> None:
    """Section 8: chunked, no length named: no more than the limit is kept."""
    room = protecting("join", drain_rate=SHUT, burst=2)
    house = await open_house(room)

    async def pieces() -> Any:
        for _ in range(50):
            yield b"k" * 1000

    answer = await house.visitor().ask("POST", f"/_waitroom/{room.id}/ticket", JSON, data=pieces())
    assert answer.status == 413


@pytest.mark.parametrize("key", ["k" * 16, "한" * 20, "\x00" * 20, "\\ud800" * 20, "k" * 256])
async def test_a_key_may_be_any_text(open_house: OpenHouse, key: str) -> None:
    """Promise 4: also text that is no Unicode, by an escape."""
    room = protecting("join", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    text = "".join(f"\\u{ord(char):04x}" for char in key) if "\\" not in key else key
    body = b'{"key": "' + text.encode() + b'"}'
    first = await house.visitor().ask("POST", f"/_waitroom/{room.id}/ticket", JSON, data=body)
    again = await house.visitor().ask("POST", f"/_waitroom/{room.id}/ticket", JSON, data=body)
    assert (first.status, again.status) == (201, 200)
    assert first.json["number"] == again.json["number"]


async def test_a_full_line_says_so_and_keeps_those_in_it(open_house: OpenHouse) -> None:
    """Section 8: 503 room-full with Retry-After; a place once taken stays."""
    room = protecting("full", drain_rate=SHUT, burst=2, waiting_max=3)
    house = await open_house(room)
    seated = [house.visitor() for _ in range(3)]
    assert [(await visitor.join(room, f"{i}" * 22)).status for i, visitor in enumerate(seated)] == [201] * 3
    full = await house.visitor().join(room)
    assert (full.status, full.json["type"], full.json["room"]) == (503, "room-full", room.id)
    assert int(full.headers["Retry-After"]) >= 1
    assert not full.cookies
    assert (await house.visitor().join(room, "1" * 22)).status == 200
    await house.state("full", room)
    assert (await seated[0].see(room))["room_state"] == "full"


async def test_a_closed_or_sold_out_room_says_409(open_house: OpenHouse) -> None:
    """Section 8: sold-out and closed, each by its name."""
    closed, sold_out = protecting("closed", closes_at_s=1_000_000), protecting("sold", stock=0)
    house = await open_house(closed, sold_out)
    for room, kind in ((closed, "closed"), (sold_out, "sold-out")):
        answer = await house.visitor().join(room)
        assert (answer.status, answer.json["type"]) == (409, kind)
        await house.state(kind.replace("-", "_"), room)
        assert (await house.visitor().open(f"/{room.id}/")).status == 429


async def test_a_gateway_takes_so_many_joins_a_second(open_house: OpenHouse) -> None:
    """Promise 12, section 4: what is over is told so at once, and Redis is not asked."""
    room = protecting("shed", drain_rate=SHUT, burst=2, joins_per_s=5)
    house = await open_house(room)
    answers = [await house.visitor().join(room) for _ in range(12)]
    statuses = [answer.status for answer in answers]
    assert statuses[:5] == [201] * 5
    assert statuses.count(503) >= 5
    shed = next(answer for answer in answers if answer.status == 503)
    assert shed.json["type"] == "room-full"
    assert int(shed.headers["Retry-After"]) >= 1
    await until_answer(lambda: house.visitor().join(room), lambda answer: answer.status == 201)


async def test_a_ticket_whose_place_was_given_up_joins_anew(open_house: OpenHouse) -> None:
    """Promise 4: an ended ticket in a cookie must not lock its bearer out for ever."""
    room = protecting("again", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    first = await visitor.join(room, "k" * 22)
    kept = dict(visitor.cookies)
    assert (await visitor.ask("DELETE", f"/_waitroom/{room.id}/ticket")).status == 204
    visitor.cookies = kept
    assert (await visitor.see(room))["state"] == "ended"
    again = await visitor.join(room, "n" * 22)
    assert again.status == 201
    assert again.json["number"] == first.json["number"] + 1
    assert (await visitor.see(room))["number"] == again.json["number"]


async def test_a_customer_has_one_place_and_only_an_edge_says_who_it_is(open_house: OpenHouse) -> None:
    """Section 4: HMAC(secret, customer), from trusted proxies alone; from anyone else the header is a claim."""
    room = protecting("customer", drain_rate=SHUT, burst=2, customer_header="X-Customer", customer_secret=b"s" * 32)
    house = await open_house(room, trusted_proxies=("127.0.0.1/32",))
    first = await house.visitor().join(room, "a" * 22, {"X-Customer": "7"})
    assert (first.status, (await house.visitor().join(room, "b" * 22, {"X-Customer": "7"})).status) == (201, 200)
    assert (await house.visitor().join(room, "a" * 22, {"X-Customer": "8"})).status == 201
    assert (await house.visitor().join(room, "a" * 22)).status == 403
    bare = await open_house(room)
    assert (await bare.visitor().join(room, "a" * 22, {"X-Customer": "7"})).status == 403


async def test_a_client_that_goes_away_does_not_spoil_the_batch(open_house: OpenHouse) -> None:
    """Promise 4: a join that was cut off is found by its retry; others of the same turn are not touched."""
    room = protecting("cut", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    joins = [asyncio.create_task(house.visitor().join(room, f"key-{i:018}")) for i in range(40)]
    await asyncio.sleep(0.005)
    for one in joins[::2]:
        one.cancel()
    await asyncio.gather(*joins, return_exceptions=True)
    retried = await asyncio.gather(*(house.visitor().join(room, f"key-{i:018}") for i in range(40)))
    assert len({answer.json["number"] for answer in retried}) == 40
    await until(lambda: house.queue(room).board.census.next == 41)
