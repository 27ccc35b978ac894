"""A room as one gateway sees it, over real HTTP: what operators open again, who comes back at once, what is counted."""

from __future__ import annotations

import pytest

from gateway.scrape import render
from tests.conftest import RedisServer
from tests.web.gatewayfixture import QUICK, House, OpenHouse, house_opener, protecting, until

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


def ended(house: House, room_id: str) -> float:
    body, _ = render(house.gateway.metrics.collect(), "")
    (line,) = [one for one in body.decode().splitlines() if f'ended_total{{reason="reset",room="{room_id}"}}' in one]
    return float(line.split()[-1])
