"""Instant entry: who visits an idle room is let in with the request itself, and who only looks at it is not."""

from __future__ import annotations

import asyncio

import pytest

from gateway.model import Rate, Room
from tests.web.gatewayfixture import APP, NAVIGATION, SHUT, House, OpenHouse, house_opener, protecting, until

open_house = pytest.fixture(house_opener)


def active(house: House, room: Room) -> int:
    census = house.queue(room).board.census
    return int(census.active)


async def test_a_navigation_enters_an_idle_room_in_the_same_request(open_house: OpenHouse) -> None:
    """Section 4: the bank's own answer, with the admission; later requests pass with that alone."""
    room = protecting("idle")
    house = await open_house(room)
    await house.idle(room)
    visitor = house.visitor()
    first = await visitor.open(f"/{room.id}/offer")
    assert (first.status, first.body) == (200, b"the bank")
    assert 0 < int(first.headers["Waitroom-Lease"]) <= room.session_s
    assert list(visitor.cookies) == [f"__Host-waitroom-admission-{room.id}"]
    assert first.headers["Cache-Control"] == "private, no-store"
    again = await visitor.get(f"/{room.id}/data.json")
    assert again.status == 200
    assert not again.cookies
    assert house.bank.last["Waitroom-Subject"] == house.bank.requests[0][2]["Waitroom-Subject"]


async def test_an_app_enters_at_once_and_keeps_its_admission_itself(open_house: OpenHouse) -> None:
    """Section 7: `Waitroom-Transport: header` gets the admission in a header, and no cookie."""
    room = protecting("idle")
    house = await open_house(room)
    await house.idle(room)
    app = house.visitor()
    first = await app.ask("POST", f"/{room.id}/api", APP, data=b"{}")
    assert first.status == 200
    assert not first.cookies
    assert first.headers["Cache-Control"] == "private, no-store"
    admission = first.headers["Waitroom-Admission"]
    again = await app.get(f"/{room.id}/api", {**APP, "Waitroom-Admission": admission})
    assert again.status == 200
    assert "Waitroom-Admission" not in house.bank.last


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", NAVIGATION),
        ("OPTIONS", APP),
        ("GET", APP | {"Range": "bytes=0-9"}),
        ("GET", NAVIGATION | {"Sec-Purpose": "prefetch;prerender"}),
        ("GET", NAVIGATION | {"Purpose": "prefetch"}),
        ("GET", {"Accept": "*/*"}),
        ("POST", NAVIGATION),
    ],
)
async def test_what_is_no_visit_never_enters_at_once(
    open_house: OpenHouse, method: str, headers: dict[str, str]
) -> None:
    """Section 4: HEAD, OPTIONS, Range and prefetches take no slot."""
    room = protecting("idle")
    house = await open_house(room)
    await house.idle(room)
    answer = await house.visitor().ask(method, f"/{room.id}/", headers)
    assert answer.status == 429
    assert not answer.cookies
    assert house.bank.requests == []


async def test_a_network_gets_twenty_slots_until_one_comes_back(open_house: OpenHouse) -> None:
    """Section 4: 20 unconfirmed entries a network; one that is used again makes room for another."""
    room = protecting("idle")
    house = await open_house(room, trusted_proxies=("127.0.0.1/32",))
    await house.idle(room)
    visitors = [house.visitor(**{"X-Forwarded-For": f"192.0.2.{i}"}) for i in range(21)]
    statuses = [(await visitor.open(f"/{room.id}/")).status for visitor in visitors]
    assert statuses == [200] * 20 + [429]
    elsewhere = house.visitor(**{"X-Forwarded-For": "198.51.100.1"})
    assert (await elsewhere.open(f"/{room.id}/")).status == 200
    assert (await visitors[0].get(f"/{room.id}/")).status == 200
    assert (await visitors[20].open(f"/{room.id}/")).status == 200


async def test_a_networks_credit_comes_back_with_the_slots_that_lapsed(open_house: OpenHouse) -> None:
    """Section 4: slots that lapsed after 30 s count no longer, else one monitor would shut out its whole network."""
    room = protecting("idle")
    house = await open_house(room)
    await house.idle(room)
    networks, clock = house.gateway._desks[room.id].networks, house.queue(room).clock
    for _ in range(20):
        assert (await house.visitor().open(f"/{room.id}/")).status == 200
    assert not networks.has_credit("127.0.0", clock.monotonic())
    assert not networks.has_credit("127.0.0", clock.monotonic() + 29)
    assert networks.has_credit("127.0.0", clock.monotonic() + 31)


async def test_an_unused_entry_gives_its_slot_back_and_a_used_one_keeps_it(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2, section 4: the slot lapses unless the admission comes back once; the admission stays good."""
    monkeypatch.setattr("gateway.queue.store.UNCONFIRMED_US", 1_200_000)
    room = protecting("idle", session_s=60)
    house = await open_house(room)
    await house.idle(room)
    monitor, person = house.visitor(), house.visitor()
    await monitor.open(f"/{room.id}/")
    await person.open(f"/{room.id}/")
    await until(lambda: active(house, room) == 2)
    assert (await person.get(f"/{room.id}/")).status == 200
    await until(lambda: active(house, room) == 1)
    assert (await monitor.get(f"/{room.id}/")).status == 200  # good all the same, and it takes a slot again
    await until(lambda: active(house, room) == 2)


async def test_nobody_enters_at_once_past_somebody_who_waits(open_house: OpenHouse) -> None:
    """Promise 3: a room with a line is not idle."""
    room = protecting("busy", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    for _ in range(20):
        await house.visitor().join(room)
    assert (await house.visitor().open(f"/{room.id}/")).status == 429
    assert house.bank.requests == []


async def test_a_ticket_holder_enters_under_its_ticket_which_is_spent(open_house: OpenHouse) -> None:
    """Promise 4: one place, one entry: with the instant entry the place is used."""
    room = protecting("idle", drain_rate=Rate(1000, "s"), burst=1000, paused=True)
    house = await open_house(room)
    await house.state("paused", room)
    visitor = house.visitor()
    joined = await visitor.join(room, "k" * 22)
    ticket = visitor.cookies[f"__Host-waitroom-ticket-{room.id}"]
    number = joined.json["number"]
    await until(lambda: house.queue(room).board.census.passed >= number)
    await house.patch(room, paused=False)
    await house.idle(room)
    entered = await visitor.open(f"/{room.id}/")
    assert entered.status == 200
    assert list(visitor.cookies) == [f"__Host-waitroom-admission-{room.id}"]
    await until(lambda: house.queue(room).board.census.below == 0)
    await house.post(room, "reports", {"released": [house.bank.last["Waitroom-Subject"]]})
    replay = house.visitor()
    replay.cookies = {f"__Host-waitroom-ticket-{room.id}": ticket}
    assert (await replay.claim(room)).status == 410
    assert (await replay.see(room))["state"] == "ended"


async def test_the_cap_holds_for_instant_entries(open_house: OpenHouse) -> None:
    """Promise 2: no entry while active leases >= active_max, of forty who come at the same moment."""
    room = protecting("cap", active_max=5)
    house = await open_house(room, trusted_proxies=("127.0.0.1/32",))
    await house.idle(room)
    visitors = [house.visitor(**{"X-Forwarded-For": f"10.{i}.0.1"}) for i in range(40)]
    answers = await asyncio.gather(*(visitor.open(f"/{room.id}/") for visitor in visitors))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 35


async def test_one_admission_has_sixteen_requests_in_flight(open_house: OpenHouse) -> None:
    """Section 4: a shared admission is no battering ram; the seventeenth is told to wait for one to end."""
    from aiohttp import web

    room = protecting("ram")
    house = await open_house(room)
    await house.idle(room)
    visitor = house.visitor()
    await visitor.open(f"/{room.id}/")
    go = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await go.wait()
        return web.Response(text="slow")

    house.bank.requests.clear()
    house.bank.play = slow
    under_way = [asyncio.create_task(visitor.get(f"/{room.id}/{i}")) for i in range(16)]
    await until(lambda: len(house.bank.requests) == 16)
    refused = await visitor.get(f"/{room.id}/17")
    assert (refused.status, refused.json["type"]) == (429, "overloaded")
    go.set()
    assert [answer.status for answer in await asyncio.gather(*under_way)] == [200] * 16
    assert (await visitor.get(f"/{room.id}/18")).status == 200
