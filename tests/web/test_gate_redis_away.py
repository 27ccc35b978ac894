"""Redis is lost under a live gateway: who is inside notices nothing, who waits sees the last place, nobody loses one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.model import Room
from tests.conftest import RedisServer, redis_server
from tests.web.gatewayfixture import (
    SHUT,
    Answer,
    House,
    Visitor,
    opened,
    protecting,
    until,
    until_answer,
)


@pytest.fixture
def server() -> Any:
    own = redis_server("valkey")
    own.start()
    yield own
    own.remove()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as one:
        yield one


async def line(house: House, room: Room, count: int) -> list[Visitor]:
    """So many visitors in line, all of them above the cursor but the first few."""
    visitors = [house.visitor(house.gateways[i % len(house.gateways)]) for i in range(count)]
    for i, visitor in enumerate(visitors):
        assert (await visitor.join(room, f"visitor-{i:016}")).status == 201
    await until(lambda: all(house.queue(room, one).board.knows(count, 1) for one in house.gateways))
    return visitors


async def numbers_of(room: Room, visitors: list[Visitor]) -> list[int]:
    return [(await visitor.see(room))["number"] for visitor in visitors]


def is_here(house: House, room: Room) -> bool:
    return all(house.queue(room, one).is_reachable for one in house.gateways)


async def test_admitted_visitors_never_notice(server: RedisServer, stack: AsyncExitStack, tmp_path: Path) -> None:
    """Promise 7: no error and no added wait, past half-life too, where the fresh admission comes unconfirmed."""
    room = protecting("inside", session_s=6)
    house = await stack.enter_async_context(opened(server.url, tmp_path, [room]))
    visitors = [house.visitor() for _ in range(4)]
    for visitor in visitors:
        await visitor.enter(room)
    server.kill()
    slowest_s, renewed, end = 0.0, 0, time.monotonic() + 4.5
    while time.monotonic() < end:
        for visitor in visitors:
            began = time.monotonic()
            answer = await visitor.get(f"/{room.id}/page")
            slowest_s = max(slowest_s, time.monotonic() - began)
            assert answer.status == 200
            renewed += len(answer.cookies)
        await asyncio.sleep(0.02)
    assert renewed >= len(visitors)
    assert slowest_s < 0.25
    assert (await visitors[0].get("/free")).status == 200


async def test_who_waits_sees_the_last_place_and_who_comes_is_numbered_after(
    server: RedisServer, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Promises 5 and 8, section 9: stale places, provisional tickets, and the same order when all is lost and back."""
    room = protecting("lost", drain_rate=SHUT, burst=2)
    house = await stack.enter_async_context(opened(server.url, tmp_path, [room]))
    visitors = await line(house, room, 20)
    before = [await visitor.see(room) for visitor in visitors]
    server.kill()
    await house.state("unreachable", room)
    for visitor, place in zip(visitors, before, strict=True):
        last = await visitor.see(room)
        assert (last["stale"], last["room_state"], last["number"]) == (True, "unreachable", place["number"])
        assert last["position"] is not None
        assert last["position"] <= max(1, place["position"])
        assert last["poll_after_ms"] is not None
        claimed = await visitor.claim(room)
        assert claimed.status == 202
        assert claimed.json["number"] == place["number"]
    late = [house.visitor() for _ in range(2)]
    for i, newcomer in enumerate(late):
        await asyncio.sleep(1.05 * i)  # provisional tickets know whole seconds
        assert (await newcomer.open(f"/{room.id}/")).status == 429
        joined = await newcomer.join(room, f"newcomer-{i:016}")
        assert (joined.status, joined.json["provisional"], joined.json["number"]) == (201, True, None)
        assert (await newcomer.see(room))["provisional"] is True
    server.start()
    await until(lambda: is_here(house, room))
    assert await numbers_of(room, visitors) == [place["number"] for place in before]

    async def seated() -> list[dict[str, Any]]:
        await numbers_of(room, visitors)
        return [await newcomer.see(room) for newcomer in late]

    end = time.monotonic() + 8
    places = await seated()
    while any(place["provisional"] for place in places):
        assert time.monotonic() < end, places
        assert all(place["room_state"] in {"recovering", "unreachable"} for place in places), places
        await asyncio.sleep(0.1)
        places = await seated()
    numbers = [place["number"] for place in places]
    assert numbers == sorted(numbers)
    assert numbers[0] > 20 + 9_999, "gaps, never twins"
    assert await numbers_of(room, visitors) == [place["number"] for place in before]


async def test_a_flushed_server_is_healed_and_everybody_keeps_the_order(
    server: RedisServer, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Promises 1, 3 and 5: FLUSHALL in mid-queue; what was used stays used, nobody enters during the hold."""
    room = protecting("flushed", drain_rate=SHUT, burst=2, paused=True)
    house = await stack.enter_async_context(opened(server.url, tmp_path, [room], gateways=2))
    visitors = await line(house, room, 24)
    before = await numbers_of(room, visitors)
    await visitors[23].ask("DELETE", f"/_waitroom/{room.id}/ticket")
    gone = dict(visitors[22].cookies)
    await visitors[22].ask("DELETE", f"/_waitroom/{room.id}/ticket")
    await asyncio.sleep(0.6)  # two boards: both gateways know
    other = house.queue(room, house.gateways[1])
    other.memory = replace(other.memory, highest_number=30)  # it has given more than the first one knows
    client = redis.Redis(unix_socket_path=str(server.socket))
    client.flushall()
    client.close()
    states: list[str] = []

    async def look() -> Answer:
        states.extend([(await visitor.see(room))["room_state"] for visitor in visitors[:22]])
        return await visitors[0].get(f"/_waitroom/{room.id}/board")

    def is_over(answer: Answer) -> bool:
        """Not before the loss either: one gateway may tell of the hold while the other has not read its board yet."""
        return answer.json["room_state"] == "paused" and answer.json["next_number"] != 25 and "recovering" in states

    board = await until_answer(look, is_over)
    assert 30 + 9_999 < board.json["next_number"] < 60_000, "gaps, but not one for every report"
    assert await numbers_of(room, visitors[:22]) == before[:22]
    left = house.visitor(house.gateways[0])
    left.cookies = gone
    assert (await left.see(room))["state"] == "ended"
    await until(lambda: house.queue(room).board.census.waiting + house.queue(room).board.census.below == 22)
    await until(lambda: house.queue(room).record.overrides == house.queue(room, house.gateways[1]).record.overrides)
    assert house.queue(room).settings.paused is True


async def test_a_gateway_starts_without_redis_and_recovers_by_itself(
    server: RedisServer, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Section 9: unprotected and admitted pass, newcomers are held, no claim hangs, and it all comes right."""
    room = protecting("start")
    house = await stack.enter_async_context(opened(server.url, tmp_path, [room]))
    inside, waiting = house.visitor(), house.visitor()
    await inside.enter(room)
    await house.patch(room, paused=True)
    await waiting.join(room, "k" * 22)
    number = (await waiting.see(room))["number"]
    await house.stop(house.gateway)
    server.kill()
    began = time.monotonic()
    await house.start(state_dir=f"{tmp_path}/state/0")
    assert time.monotonic() - began < 3
    for visitor in (inside, waiting):
        visitor.port = house.gateway.ports[0]
    assert (await house.visitor().get("/free")).status == 200
    assert (await inside.get(f"/{room.id}/")).status == 200
    newcomer = house.visitor()
    assert (await newcomer.open(f"/{room.id}/")).status == 429
    assert (await newcomer.join(room)).json["provisional"] is True
    began = time.monotonic()
    place, claimed = await waiting.see(room), await waiting.claim(room)
    assert time.monotonic() - began < 1
    assert (place["number"], place["stale"], claimed.status) == (number, True, 202)
    async with house.session.get(f"http://127.0.0.1:{house.gateway.ports[1]}/readyz") as ready:
        assert ready.status == 200, "else the loss of Redis would take every gateway out at once"
    server.start()
    await until(lambda: is_here(house, room), 6)
    assert (await waiting.see(room))["number"] == number
    await until(lambda: house.queue(room).settings.paused is True)


async def test_a_restart_of_the_gateway_keeps_the_line(
    server: RedisServer, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Promise 5: the tickets name the same places at the gateway that comes after."""
    room = protecting("restart", drain_rate=SHUT, burst=2)
    house = await stack.enter_async_context(opened(server.url, tmp_path, [room]))
    visitors = await line(house, room, 12)
    before = await numbers_of(room, visitors)
    await house.stop(house.gateway)
    await house.start()
    for visitor in visitors:
        visitor.port = house.gateway.ports[0]
    assert await numbers_of(room, visitors) == before
    assert (await house.visitor().join(room)).json["number"] == 13
