"""A room as one gateway sees it, over real HTTP: what operators open again, who comes back at once, what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from gateway.scrape import render
from tests.conftest import RedisServer
from tests.web.gatewayfixture import QUICK, SHUT, House, OpenHouse, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)


async def test_a_sold_out_room_opens_at_the_figure_it_had(open_house: OpenHouse, valkey: RedisServer) -> None:
    """Section 8: an operator who names the stock is newer than the upstream's report; at every gateway within 1 s."""
    room = protecting("reopen", stock=500)
    house = await open_house(room, gateways=2)
    await house.post(room, "reports", {"remaining": 0})
    await house.state("sold_out", room)
    await house.patch(room, paused=True)
    await house.patch(room, paused=False)
    assert house.queue(room).settings.stock == 0, "that was about something else"
    url = f"http://127.0.0.1:{house.gateways[1].ports[1]}/api/rooms/{room.id}"
    async with house.session.patch(url, json={"stock": 500}) as answer:
        assert (await answer.json())["stock_in_force"] == 500
    await until(lambda: house.queue(room).settings.stock == 500, 1.0)
    async with house.session.get(url.removesuffix(f"/{room.id}")) as answer:
        assert [one["stock_in_force"] for one in (await answer.json())["rooms"]] == [500]
    assert (await house.visitor().join(room)).status == 201


async def test_who_comes_back_right_after_a_release_enters_anew(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 8: the release that still waits for its batch must not give the new entry the session that it ends."""
    monkeypatch.setattr("gateway.drain.RELEASES_S", 60.0)  # the loop does not get to it
    room = protecting("again", drain_rate=QUICK)
    house = await open_house(room)
    visitor = house.visitor(Accept="application/json")
    for _ in range(3):
        await visitor.enter(room, "k" * 22)
        house.bank.headers = {"Waitroom-Release": "1"}
        assert (await visitor.get(f"/{room.id}/")).status == 200
        house.bank.headers = {}
    await visitor.enter(room, "k" * 22)
    assert (await visitor.get(f"/{room.id}/")).status == 200


async def test_a_slot_is_never_free_while_what_was_sold_in_it_counts_as_left(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 8: an upstream that reports what is left as it sells is never oversold, whenever its answers arrive."""
    monkeypatch.setattr("gateway.drain.RELEASES_S", 60.0)  # the loop does not get to it
    room = protecting("sold", stock=100)
    queue = (await open_house(room)).queue(room)
    lower_stock, release = queue.store.lower_stock, queue.store.release
    left, released = 100, 0

    def sell(one: int) -> None:
        queue.note_remaining(99 - one)
        queue.release_soon(one.to_bytes(16, "big"), 0)

    async def tell(remaining: int) -> None:
        nonlocal left
        if remaining > 90:
            sell(100 - remaining)  # one more answer arrives meanwhile
        await lower_stock(remaining)
        left = remaining

    async def free(ids: Sequence[bytes], entered_at_s: Sequence[int]) -> int:
        nonlocal released
        released += len(ids)
        assert left + released <= 100
        freed: int = await release(ids, entered_at_s)
        return freed

    monkeypatch.setattr(queue.store, "lower_stock", tell)
    monkeypatch.setattr(queue.store, "release", free)
    sell(0)
    await queue.flush_releases()
    assert (left, released) == (90, 10)


async def test_those_whom_a_reset_ends_are_counted(open_house: OpenHouse) -> None:
    """Section 11: ended_total by reason: places in the line, and leases where the reset voids them."""
    room = protecting("ended", drain_rate=QUICK, paused=True)
    house = await open_house(room)
    for i in range(3):
        await house.visitor().join(room, f"{i:022}")
    await house.post(room, "reset", {})
    assert ended(house, room.id) == 3
    await house.patch(room, paused=False)
    await house.visitor().enter(room)
    await house.post(room, "reset", {"admissions": True})
    assert ended(house, room.id) == 4


async def test_who_was_let_in_after_the_last_board_counts_when_it_is_lost(
    open_house: OpenHouse, valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: no board tells of the last entries; the gateways that let them in do, whichever of them heals."""
    monkeypatch.setattr("gateway.drain.BOARD_S", 60.0)  # only the first one is read
    room = protecting("unseen", active_max=5)
    house = await open_house(room, gateways=2)
    queues = [house.queue(room, gateway) for gateway in house.gateways]
    await until(lambda: all(queue.board is not None for queue in queues))
    for i in range(4):
        await house.visitor(house.gateways[i % 2]).enter(room)
    assert [queue.board.census.active for queue in queues] == [0, 0]
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        client.delete(*client.keys(f"waitroom:{{{room.id}}}:*"))
    for queue in queues:
        await queue.heal()
    await queues[0].census()
    await queues[0].read_board()
    assert queues[0].board.census.active == 4


async def test_used_tickets_stay_used_when_gateway_and_redis_are_lost_at_once(
    open_house: OpenHouse, valkey: RedisServer, tmp_path: Path
) -> None:
    """Promise 4: the state file knows which were used; who still waits finds the place again."""
    room = protecting("used")
    house = await open_house(room)
    used, waiting = house.visitor(Accept="application/json"), house.visitor()
    await used.join(room)
    ticket = dict(used.cookies)
    await until_answer(lambda: used.claim(room), lambda answer: answer.status == 200)
    await house.patch(room, paused=True)
    number = (await waiting.join(room)).json["number"]
    await until(lambda: house.queue(room).memory.highest_number == number)
    await house.stop(house.gateway)
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        client.delete(*client.keys(f"waitroom:{{{room.id}}}:*"))
    await house.start()
    used.port = waiting.port = house.gateway.ports[0]
    used.cookies = ticket
    again = await until_answer(lambda: used.claim(room), lambda answer: answer.status != 202)
    assert again.status == 410
    assert (await waiting.see(room))["number"] == number


async def test_a_count_of_an_older_board_does_not_prolong_the_hold(
    open_house: OpenHouse, valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: two gateways read their last boards at different times; the hold waits for those of the newer one only."""
    monkeypatch.setattr("gateway.drain.BOARD_S", 60.0)  # only the first one is read by itself
    room = protecting("hold")
    house = await open_house(room, gateways=2)
    older, newer = (house.queue(room, gateway) for gateway in house.gateways)
    await until(lambda: older.board is not None and newer.board is not None)
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        client.delete(*client.keys(f"waitroom:{{{room.id}}}:*"))
        older.memory = replace(older.memory, highest_number=12, passed=3, places=9, clock_us=1)
        newer.memory = replace(newer.memory, highest_number=12, passed=5, places=7, clock_us=1)
        for queue in (newer, older):
            await queue.heal()
        await older.census()
        await older.read_board()
        await older.heal()
        assert client.hmget(f"waitroom:{{{room.id}}}:pace", "passed", "reseat_goal") == [b"5", b"7"]


async def test_a_gateway_that_starts_during_a_hold_names_the_cause(open_house: OpenHouse, valkey: RedisServer) -> None:
    """Section 6: no position grows without a cause, also at a gateway that did not see what was lost."""
    room = protecting("late-start", drain_rate=SHUT)
    house = await open_house(room)
    line = [house.visitor() for _ in range(12)]
    for visitor in line:
        await visitor.join(room)
    await until(lambda: house.queue(room).memory.highest_number == len(line))
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        client.delete(*client.keys(f"waitroom:{{{room.id}}}:*"))
    await house.state("recovering", room)
    second = await house.start()
    await until(lambda: house.queue(room, second).board is not None)
    line[-1].port = second.ports[0]
    told = await line[-1].see(room)
    assert (told["state"], told["cause"]["code"]) == ("waiting", "recovered")


def ended(house: House, room_id: str) -> float:
    body, _ = render(house.gateway.metrics.collect(), "")
    (line,) = [one for one in body.decode().splitlines() if f'ended_total{{reason="reset",room="{room_id}"}}' in one]
    return float(line.split()[-1])
