"""Claiming, leaving and renewing: a turn is kept until it is used, a place is given up once, a lease comes fresh."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.errors import Unreachable
from gateway.model import Rate
from tests.web.gatewayfixture import (
    APP,
    SHUT,
    STATUS,
    OpenHouse,
    house_opener,
    protecting,
    until,
    until_answer,
)

open_house = pytest.fixture(house_opener)


async def test_a_claim_admits_once_and_its_retry_gets_the_same_admission(open_house: OpenHouse) -> None:
    """Promise 4: 200 `admitted`, the ticket spent; a lost answer is asked for again and costs no second entry."""
    room = protecting("claim")
    house = await open_house(room, gateways=2)
    visitor = house.visitor()
    await visitor.join(room, "k" * 22)
    ticket = dict(visitor.cookies)
    first = await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200)
    STATUS.validate(first.json)
    assert first.json["state"] == "admitted"
    assert list(visitor.cookies) == [f"__Host-waitroom-admission-{room.id}"]
    retry = house.visitor(house.gateways[1])
    retry.cookies = dict(ticket)
    assert (await retry.claim(room)).status == 200
    assert (await retry.get(f"/{room.id}/")).status == 200
    await until(lambda: house.queue(room).board.census.entries == 1)
    assert house.queue(room).board.census.active == 1
    await house.post(room, "reports", {"released": [house.bank.last["Waitroom-Subject"]]})
    retry.cookies = dict(ticket)
    ended = await retry.claim(room)
    STATUS.validate(ended.json)
    assert (ended.status, ended.json["state"]) == (410, "ended")


async def test_a_claim_that_redis_did_not_answer_tells_a_place_that_is_marked_stale(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8: this gateway's board may be older than that of the one which called; without the mark the place would grow."""
    room = protecting("claim", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitors = [house.visitor() for _ in range(20)]
    for visitor in visitors:
        await visitor.join(room)
    await until(lambda: house.queue(room).board.knows(20, 1))

    async def in_vain(*_: object) -> None:
        raise Unreachable("the reply was lost")

    monkeypatch.setattr(house.queue(room), "claim", in_vain)
    answer = await visitors[-1].claim(room)
    STATUS.validate(answer.json)
    assert (answer.status, answer.json["state"], answer.json["stale"]) == (202, "waiting", True)
    assert (await visitors[-1].see(room))["stale"] is False  # a poll asks the board alone
    await until(lambda: house.queue(room).board.census.passed > 0)
    monkeypatch.setattr(house.queue(room), "check_in", in_vain)
    assert (await visitors[0].see(room))["stale"] is True


async def test_a_claim_before_the_turn_is_told_to_come_back(open_house: OpenHouse) -> None:
    """Section 8: 202 with Retry-After and the place as it is."""
    room = protecting("claim", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitors = [house.visitor() for _ in range(20)]
    for visitor in visitors:
        await visitor.join(room)
    await until(lambda: house.queue(room).board.knows(20, 1))
    early = await visitors[-1].claim(room)
    STATUS.validate(early.json)
    assert (early.status, early.json["state"]) == (202, "waiting")
    assert int(early.headers["Retry-After"]) >= 1
    assert early.json["position"] > 1
    assert not early.cookies


async def test_a_claim_of_a_place_newer_than_the_board_is_told_what_its_join_was(open_house: OpenHouse) -> None:
    """Section 6: a board answers for the numbers it knows. Told the place of its last one, a script that claims at once would
    see its position grow at the next gateway.
    """
    room = protecting("claim", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    for _ in range(20):
        await house.visitor().join(room)
    await until(lambda: house.queue(room).board.knows(20, 1))
    unknown = 0
    for _ in range(30):
        visitor = house.visitor()
        joined = (await visitor.join(room)).json
        unknown += not house.queue(room).board.knows(joined["number"], 1)
        told = (await visitor.claim(room)).json["position"]
        assert told == joined["position"]
    assert unknown > 0


async def test_a_claim_that_the_door_refuses_is_held_and_keeps_its_turn(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 4: held up to 10 s, then 202 with the turn kept; the door opens, and the next claim enters."""
    monkeypatch.setattr("gateway.queue.claims.HOLD_S", (0.6, 0.6))
    room = protecting("held", paused=True)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    await until(lambda: house.queue(room).board.census.passed >= 1)
    began = time.monotonic()
    held = await visitor.claim(room)
    assert 0.4 < time.monotonic() - began < 3
    STATUS.validate(held.json)
    assert (held.status, held.json["state"], held.json["room_state"]) == (202, "called", "paused")
    waiting = asyncio.create_task(visitor.claim(room))
    await house.patch(room, paused=False)
    answer = await waiting
    if answer.status == 202:
        answer = await visitor.claim(room)
    assert answer.status == 200


async def test_a_claim_before_the_turn_is_not_called_because_the_bank_is_down(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 4: while the upstream takes nobody, claims wait here, and the door, which knows who was called, is not asked."""
    monkeypatch.setattr("gateway.queue.claims.HOLD_S", (0.2, 0.2))
    room = protecting("down", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitors = [house.visitor() for _ in range(40)]
    for visitor in visitors:
        await visitor.join(room)
    await until(lambda: house.queue(room).board.knows(40, 1))
    monkeypatch.setattr("gateway.web.upstream.Upstreams.is_healthy", lambda _self, _name: False)
    await until(lambda: house.queue(room).claims.is_shut)
    told = [(await visitor.claim(room)).json for visitor in (visitors[0], visitors[-1])]
    assert [(each["state"], each["position"] == 0) for each in told] == [("called", True), ("waiting", False)]


async def test_a_claim_that_is_broken_off_gives_its_turn_at_the_door_back(open_house: OpenHouse) -> None:
    """Promise 6: who has gone blocks nobody; its own retry finds the turn again."""
    room = protecting("gone", paused=True)
    house = await open_house(room)
    first, second = house.visitor(), house.visitor()
    await first.join(room)
    await second.join(room)
    await until(lambda: house.queue(room).board.census.passed >= 2)
    claim = asyncio.create_task(first.claim(room))
    await until(lambda: len(house.queue(room).claims) == 1)
    await asyncio.sleep(0.1)
    claim.cancel()
    await until(lambda: len(house.queue(room).claims) == 0)
    await house.patch(room, paused=False)
    began = time.monotonic()
    assert (await second.claim(room)).status == 200
    assert time.monotonic() - began < 1.9, "not after the 2 s in which an abandoned hold lapses"
    assert (await first.claim(room)).status == 200


async def test_the_lowest_number_enters_first_over_all_gateways(open_house: OpenHouse) -> None:
    """Promise 3: of the claims at the door, whichever gateway holds them and whoever came first."""
    room = protecting("order", drain_rate=Rate(60, "s"), burst=15, paused=True)
    house = await open_house(room, gateways=2)
    visitors = [house.visitor(house.gateways[i % 2]) for i in range(40)]
    numbers = {}
    for visitor in visitors:
        numbers[visitor] = (await visitor.join(room)).json["number"]
    await until(lambda: house.queue(room).board.census.passed >= 40)
    entered: list[int] = []

    async def claim(index: int) -> None:
        await until_answer(lambda: visitors[index].claim(room), lambda answer: answer.status == 200)
        entered.append(numbers[visitors[index]])

    claims = [asyncio.create_task(claim(index)) for index in reversed(range(40))]
    await until(lambda: house.queue(room).board.census.held == 40)
    await house.patch(room, paused=False)
    await asyncio.gather(*claims)
    late = [max(entered[:at], default=0) - number for at, number in enumerate(entered)]
    assert max(late) <= 15, f"{entered}: no more out of order than the answers of one pass"
    assert sorted(entered[:15]) == list(range(1, 16))


async def test_a_place_is_given_up_once_and_for_all(open_house: OpenHouse) -> None:
    """Section 8: DELETE and POST .../leave answer 204, drop the cookie, and may be repeated."""
    room = protecting("leave", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    for method, path in (("DELETE", "ticket"), ("POST", "leave")):
        visitor = house.visitor()
        await visitor.join(room)
        kept = dict(visitor.cookies)
        gone = await visitor.ask(method, f"/_waitroom/{room.id}/{path}")
        assert (gone.status, gone.body) == (204, b"")
        assert "Max-Age=0" in gone.cookies[0]
        visitor.cookies = dict(kept)
        assert (await visitor.ask(method, f"/_waitroom/{room.id}/{path}")).status == 204
        visitor.cookies = dict(kept)
        assert (await visitor.claim(room)).status == 410
    assert (await house.visitor().ask("DELETE", f"/_waitroom/{room.id}/ticket")).status == 204
    await until(lambda: house.queue(room).board.census.left == 2)


@pytest.mark.parametrize(
    ("return_to", "location"),
    [
        ("/points/?a=1", "/points/?a=1"),
        ("/%ED%8F%AC%22?a=1%2520b", "/%ED%8F%AC%22?a=1%20b"),  # in a header a URI is spelled in ASCII
        (None, "entry"),
        ("//evil.example/", "entry"),
        ("/\\evil.example", "entry"),
        ("https://evil.example/", "entry"),
        ("/a%0d%0aSet-Cookie:x=1", "entry"),
        ("/" + "a" * 1100, "entry"),
    ],
)
async def test_renew_gives_a_fresh_admission_and_leads_back(
    open_house: OpenHouse, return_to: str | None, location: str
) -> None:
    """Section 8: 303, and `return_to` never leads to another host."""
    room = protecting("renew")
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.enter(room)
    query = "" if return_to is None else "?return_to=" + return_to.replace("?", "%3F").replace("\\", "%5C")
    answer = await visitor.get(f"/_waitroom/{room.id}/renew{query}")
    assert answer.status == 303
    assert answer.headers["Location"] == (room.entry if location == "entry" else location)
    assert answer.cookies[0].startswith(f"__Host-waitroom-admission-{room.id}=ey")
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await visitor.get(f"/{room.id}/")).status == 200


async def test_renew_without_an_admission_sets_nothing(open_house: OpenHouse) -> None:
    """Promise 9: back to be held; a renewal is no way in."""
    room = protecting("renew", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    answer = await visitor.get(f"/_waitroom/{room.id}/renew?return_to=/{room.id}/")
    assert (answer.status, answer.cookies) == (303, [])
    assert (await visitor.open(f"/{room.id}/")).status == 429


async def test_an_app_walks_the_whole_way_without_cookies(open_house: OpenHouse) -> None:
    """Section 7: tokens in bodies and headers, from the problem document to the bank."""
    room = protecting("app", paused=True)
    house = await open_house(room)
    app = house.visitor(**APP)
    await house.state("paused", room)
    turned = await app.get(f"/{room.id}/api")
    assert turned.status == 429
    join_url = turned.headers["Link"].partition(">")[0].removeprefix("<")
    joined = await app.ask("POST", join_url, json={"key": "k" * 22})
    STATUS.validate(joined.json)
    app.headers["Waitroom-Ticket"] = joined.json["ticket"]
    await house.patch(room, paused=False)
    admitted = await until_answer(lambda: app.claim(room), lambda answer: answer.status == 200)
    STATUS.validate(admitted.json)
    app.headers["Waitroom-Admission"] = admitted.json["admission"]
    assert (await app.get(f"/{room.id}/api")).body == b"the bank"
    assert app.cookies == {}
    again = await app.claim(room)
    assert (again.status, again.json["state"]) == (200, "admitted")
