"""The lease of an admission: it slides while it is used, ends at session_max, and outlives Redis."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from aiohttp import web

from gateway.model import Admission, Room
from tests.web.gatewayfixture import APP, House, OpenHouse, Visitor, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)


def aged(house: House, room: Room, age_s: int, entered_s: int | None = None) -> Visitor:
    """A visitor who entered so long ago."""
    desk = house.gateway._desks[room.id]
    now_s = desk.now_s()
    _, fresh = desk.new_admission(bytes([age_s % 256]) * 16, desk.now_s())
    old = replace(
        fresh,
        issued_at_s=now_s - age_s,
        entered_at_s=now_s - (entered_s if entered_s is not None else age_s),
        expires_at_s=now_s - age_s + room.session_s,
    )
    visitor = house.visitor(Accept="application/json")
    visitor.cookies = {desk.admission_cookie: desk.keyring.mint_admission(old)}
    return visitor


async def test_past_half_life_the_lease_is_extended_and_then_the_admission_renewed(open_house: OpenHouse) -> None:
    """Section 4: a touch with the next batch, a fresh admission with the first request after Redis confirmed it."""
    room = protecting("lease", session_s=60)
    house = await open_house(room)
    await house.idle(room)
    visitor = aged(house, room, 31)
    before = dict(visitor.cookies)
    first = await visitor.get(f"/{room.id}/")
    assert (first.status, first.cookies) == (200, [])
    assert 27 <= int(first.headers["Waitroom-Lease"]) <= 29
    await until(lambda: house.queue(room).board.census.active == 1)
    renewed = await until_answer(lambda: visitor.get(f"/{room.id}/"), lambda answer: bool(answer.cookies))
    assert int(renewed.headers["Waitroom-Lease"]) >= 59
    assert renewed.headers["Cache-Control"] == "private, no-store"
    assert visitor.cookies != before
    assert (await visitor.get(f"/{room.id}/")).cookies == []


async def test_before_half_life_nothing_is_set_off(open_house: OpenHouse) -> None:
    """Promise 15: an admitted request costs no Redis command of its own."""
    room = protecting("lease", session_s=60)
    house = await open_house(room)
    await house.idle(room)
    visitor = aged(house, room, 20)
    for _ in range(5):
        assert (await visitor.get(f"/{room.id}/")).cookies == []
    assert house.queue(room)._touches == {}


async def test_no_renewal_goes_beyond_session_max(open_house: OpenHouse) -> None:
    """Section 4: sliding ends `session_max` after the entry, whatever is used."""
    room = protecting("lease", session_s=60, session_max_s=100)
    house = await open_house(room)
    await house.idle(room)
    visitor = aged(house, room, 40, entered_s=70)
    await visitor.get(f"/{room.id}/")
    renewed = await until_answer(lambda: visitor.get(f"/{room.id}/"), lambda answer: bool(answer.cookies))
    assert 27 <= int(renewed.headers["Waitroom-Lease"]) <= 30
    over = aged(house, room, 61, entered_s=120)
    assert (await over.get(f"/{room.id}/")).status == 429


async def test_a_place_claimed_twice_does_not_begin_a_new_session(open_house: OpenHouse) -> None:
    """Promise 4: who keeps the ticket and claims again gets the same session, not another `session_max`."""
    room = protecting("lease", session_s=60, session_max_s=60)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room, "k" * 22)
    ticket = dict(visitor.cookies)
    await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200)
    desk = house.gateway._desks[room.id]
    entered = desk.keyring.read_admission(visitor.cookies[desk.admission_cookie], room.id, desk.now_s())
    assert isinstance(entered, Admission)
    await asyncio.sleep(2.1)
    visitor.cookies = ticket
    again = await visitor.claim(room)
    assert again.status == 200
    renewed = desk.keyring.read_admission(visitor.cookies[desk.admission_cookie], room.id, desk.now_s())
    assert isinstance(renewed, Admission)
    assert renewed.entered_at_s <= entered.entered_at_s + 1
    assert renewed.expires_at_s <= entered.expires_at_s + 1


async def test_a_websocket_holds_its_lease(open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4: open WebSockets touch theirs, so the slot is not given to another under them."""
    monkeypatch.setattr("gateway.web.exchange.ALIVE_S", 0.3)
    room = protecting("socket", session_s=2)
    house = await open_house(room)
    await house.idle(room)

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    house.bank.play = echo
    visitor = house.visitor()
    await visitor.enter(room, "k" * 22)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    url = f"http://127.0.0.1:{house.gateway.ports[0]}/{room.id}/ws"
    async with house.session.ws_connect(url, headers={"Host": "bank.example", "Cookie": cookie}) as socket:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            await socket.send_str("ping")
            assert (await socket.receive(timeout=2)).data == "ping"
            await asyncio.sleep(0.1)
        assert house.queue(room).board.census.active == 1
    await until(lambda: house.queue(room).board.census.active == 0)


async def test_an_app_gets_its_renewed_admission_in_a_header(open_house: OpenHouse) -> None:
    """Section 7: who sends the admission as a header gets the fresh one so, and no cookie."""
    room = protecting("lease", session_s=60)
    house = await open_house(room)
    await house.idle(room)
    old = next(iter(aged(house, room, 31).cookies.values()))
    app = house.visitor(**APP, **{"Waitroom-Admission": old})
    assert (await app.get(f"/{room.id}/")).status == 200
    renewed = await until_answer(lambda: app.get(f"/{room.id}/"), lambda answer: "Waitroom-Admission" in answer.headers)
    assert not renewed.cookies
    fresh = house.visitor(**APP, **{"Waitroom-Admission": renewed.headers["Waitroom-Admission"]})
    assert (await fresh.get(f"/{room.id}/")).status == 200
