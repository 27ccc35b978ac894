"""Two and three gateways on one Redis: one line, one door, one meter, and none of them needed."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right

import pytest
import redis

from gateway.model import Rate, Room
from tests.conftest import RedisServer
from tests.web.gatewayfixture import (
    QUICK,
    House,
    OpenHouse,
    Visitor,
    house_opener,
    protecting,
    until,
    until_answer,
)

open_house = pytest.fixture(house_opener)


def entries_s(valkey: RedisServer, room: Room) -> list[float]:
    """When each admission that holds a slot was granted, on the room's own clock."""
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        leases = client.zrange(f"waitroom:{{{room.id}}}:active", 0, -1, withscores=True)
    return sorted(float(end_us) / 1e6 - room.session_s for _, end_us in leases)


def assert_never_above(times_s: list[float], rate_s: float, burst: int) -> None:
    """Promise 1 over every window that begins with an entry: no other window can hold more."""
    for first, start_s in enumerate(times_s):
        for last in range(first, len(times_s)):
            width_s = times_s[last] - start_s
            assert last - first + 1 <= rate_s * width_s + burst + 1e-3, (first, last, width_s)


async def walk(visitor: Visitor, room: Room, key: str) -> int:
    """Join and claim until let in; answers the number."""
    joined = await visitor.join(room, key)
    number: int = joined.json["number"]
    await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200, 20)
    return number


async def test_three_gateways_together_never_let_in_more_than_the_rate(
    open_house: OpenHouse, valkey: RedisServer
) -> None:
    """Promises 1 and 6: every window of every width, by the leases in Redis; and the door is not idle meanwhile."""
    rate_s, burst, count = 120, 30, 300
    room = protecting("rate", drain_rate=Rate(rate_s, "s"), burst=burst)
    house = await open_house(room, gateways=3)
    await house.idle(room)
    visitors = [house.visitor(house.gateways[i % 3]) for i in range(count)]
    numbers = await asyncio.gather(*(walk(visitor, room, f"{i:022}") for i, visitor in enumerate(visitors)))
    assert sorted(numbers) == list(range(1, count + 1))
    times_s = entries_s(valkey, room)
    assert len(times_s) == count
    assert_never_above(times_s, rate_s, burst)
    ideal_s = (count - burst) / rate_s
    assert times_s[-1] - times_s[0] <= ideal_s * 1.25 + 0.5, "the door was idle"
    crowded = max(bisect_right(times_s, start + 0.5) - i for i, start in enumerate(times_s))
    assert crowded > rate_s * 0.5 * 0.8


async def test_a_gateway_that_dies_costs_nobody_the_place(open_house: OpenHouse) -> None:
    """Promise 5: with tickets, claims under way and admissions of the dead one, everybody is served by the others."""
    room = protecting("death", paused=True)
    house = await open_house(room, gateways=3)
    dead = house.gateways[0]
    visitors = [house.visitor(house.gateways[i % 3]) for i in range(30)]
    numbers = [(await visitor.join(room, f"{i:022}")).json["number"] for i, visitor in enumerate(visitors)]
    await until(lambda: house.queue(room, dead).board.census.passed >= 3)
    held = asyncio.create_task(visitors[0].claim(room))
    await until(lambda: len(house.queue(room, dead).claims) == 1)
    await house.kill(dead)
    await asyncio.gather(held, return_exceptions=True)
    for visitor in visitors[::3]:
        visitor.port = house.gateway.ports[0]
    assert [(await visitor.see(room))["number"] for visitor in visitors] == numbers
    await house.patch(room, paused=False)
    answers = await asyncio.gather(
        *(until_answer(lambda v=v: v.claim(room), lambda answer: answer.status == 200, 15) for v in visitors)  # type: ignore[misc]
    )
    assert len(answers) == 30
    for visitor in visitors:
        visitor.port = house.gateways[1].ports[0]
        assert (await visitor.get(f"/{room.id}/")).status == 200
    await until(lambda: house.queue(room).board.census.entries == 30)


async def test_a_change_reaches_every_gateway_within_a_second_and_survives_them(open_house: OpenHouse) -> None:
    """Section 8: the door obeys at once, every answer says so within 1 s, and a restart does not undo it."""
    room = protecting("change", drain_rate=QUICK)
    house = await open_house(room, gateways=2)
    await house.idle(room)
    began = time.monotonic()
    await house.patch(room, house.gateways[0], paused=True, message={"en": "soon"}, drain_rate="7/s", burst=9)
    other = house.queue(room, house.gateways[1])
    await until(lambda: bool(other.settings.paused), 1.0)
    assert time.monotonic() - began < 1.0
    for gateway in house.gateways:
        visitor = house.visitor(gateway)
        assert (await visitor.open(f"/{room.id}/")).status == 429
        place = (await visitor.join(room)).json
        assert (place["room_state"], place["message"]["texts"]) == ("paused", {"en": "soon"})
    assert other.settings.drain_rate == Rate(7, "s")
    for gateway in list(house.gateways):
        await house.stop(gateway)
    await house.start()
    await house.state("paused", room)
    assert house.queue(room).settings.burst == 9
    await house.patch(room, paused=None, message=None)
    await until(lambda: not house.queue(room).settings.paused)
    assert house.queue(room).settings.message == {}


async def test_one_visitor_meets_all_gateways_and_keeps_one_place(open_house: OpenHouse) -> None:
    """Promises 4 and 5: every step at another gateway, which has never seen the visitor."""
    room = protecting("roam", drain_rate=Rate(1000, "s"), burst=1000)
    house = await open_house(room, gateways=3)
    visitor = house.visitor()
    ports = [gateway.ports[0] for gateway in house.gateways]
    numbers: set[int] = set()
    for port in ports:
        visitor.port = port
        numbers.add((await visitor.join(room, "k" * 22)).json["number"])
        numbers.add((await visitor.see(room))["number"])
    assert len(numbers) == 1
    visitor.port = ports[1]
    await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200)
    for port in ports:
        visitor.port = port
        assert (await visitor.get(f"/{room.id}/")).status == 200
        assert (await visitor.see(room))["state"] == "admitted"


async def test_a_rolling_restart_loses_nobody(open_house: OpenHouse) -> None:
    """Promise 11: gateways are replaced one by one while people join, ask and enter; no request of theirs fails."""
    room = protecting("rolling", drain_rate=Rate(300, "s"), burst=75)
    house = await open_house(room, gateways=2, stop_grace_s=0.2)
    failed: list[str] = []
    done: list[int] = []

    async def person(index: int) -> None:
        visitor = house.visitor(pick(house, index))
        number = (await visitor.join(room, f"{index:022}")).json["number"]
        while True:
            visitor.port = pick(house, index).ports[0]
            answer = await visitor.claim(room)
            if answer.status == 200:
                break
            if answer.status != 202:
                failed.append(f"{index}: {answer}")
            await asyncio.sleep(0.02)
        done.append(number)

    people = [asyncio.create_task(person(i)) for i in range(200)]
    for _ in range(2):
        await house.start(stop_grace_s=0.2)
        old = house.gateways.pop(0)  # the balancer has taken it out: readiness ends with the signal
        await old.stop()
    await asyncio.gather(*people)
    assert failed == []
    assert sorted(done) == list(range(1, 201))


def pick(house: House, index: int):  # type: ignore[no-untyped-def]
    return house.gateways[index % len(house.gateways)]
