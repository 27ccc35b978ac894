"""Status, board and page: what a visitor is told in every state, and what everybody may read."""

from __future__ import annotations

import time
from dataclasses import replace

import jsonschema
import pytest

from gateway.model import Rate, Ticket
from gateway.web.openapi import board_schema
from tests.web.gatewayfixture import SHUT, OpenHouse, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)
BOARD = jsonschema.Draft202012Validator(board_schema())


async def test_a_waiting_place_is_told_in_full(open_house: OpenHouse) -> None:
    """Section 8: number, position, people ahead, expected time as a range, when to ask again."""
    room = protecting("status", drain_rate=Rate(6, "h"), burst=2)
    house = await open_house(room)
    visitors = [house.visitor() for _ in range(30)]
    for visitor in visitors:
        await visitor.join(room)
    await until(lambda: house.queue(room).board.census.waiting > 5 and house.queue(room).board.knows(30, 1))
    place = await visitors[-1].see(room)
    assert (place["room"], place["state"], place["room_state"]) == (room.id, "waiting", "queueing")
    assert place["number"] == 30
    assert place["ahead"] == place["position"] - 1
    assert 1 <= place["position"] <= place["waiting"]
    assert 1 <= place["eta"]["p50_s"] <= place["eta"]["p90_s"]
    assert 30_000 <= place["poll_after_ms"] <= 39_000
    assert 0 <= place["progress"] < 1
    assert place["claim_in_ms"] is place["lease_until"] is place["cause"] is None
    assert place["stale"] is place["provisional"] is False


async def test_a_called_place_has_position_zero_and_a_window(open_house: OpenHouse) -> None:
    """Section 8: `position` 0, `claim_in_ms` within the claim window."""
    room = protecting("status", drain_rate=SHUT, burst=2, paused=False)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    await until(lambda: house.queue(room).board.census.passed >= 1)
    place = await visitor.see(room)
    assert (place["state"], place["position"], place["ahead"]) == ("called", 0, 0)
    assert 0 < place["claim_in_ms"] <= room.claim_window_s * 1000
    assert 5000 <= place["poll_after_ms"] <= 6500
    assert place["progress"] == 1.0
    assert place["eta"] is None


async def test_a_turn_that_nobody_can_take_has_no_window(open_house: OpenHouse) -> None:
    """Section 8: `claim_in_ms` is null while the room is paused, and back when it is not."""
    room = protecting("status", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    await until(lambda: house.queue(room).board.census.passed >= 1)
    assert (await visitor.see(room))["claim_in_ms"] > 0
    await house.patch(room, paused=True)
    await house.state("paused", room)
    held = await visitor.see(room)
    assert (held["state"], held["room_state"], held["claim_in_ms"]) == ("called", "paused", None)
    await house.patch(room, paused=False)
    await house.state("queueing", room)
    assert (await visitor.see(room))["claim_in_ms"] > 0


async def test_an_admitted_visitor_has_a_status_with_the_admission_alone(open_house: OpenHouse) -> None:
    """Section 8: 200, `admitted`, with the end of the lease; polling may stop."""
    room = protecting("status")
    house = await open_house(room)
    visitor = house.visitor()
    entered = await visitor.enter(room)
    assert list(visitor.cookies) == [f"__Host-waitroom-admission-{room.id}"]
    for place in (entered.json, await visitor.see(room)):
        assert (place["state"], place["poll_after_ms"], place["position"]) == ("admitted", None, None)
        assert place["lease_until"] > place["now"]


async def test_a_place_given_up_is_ended_and_none_at_all_is_404(open_house: OpenHouse) -> None:
    """Section 8: 200 `ended` with its cause; 404 problem without a valid token."""
    room = protecting("status", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    kept = dict(visitor.cookies)
    await visitor.ask("DELETE", f"/_waitroom/{room.id}/ticket")
    assert visitor.cookies == {}
    none = await visitor.get(f"/_waitroom/{room.id}/status")
    assert (none.status, none.json["type"]) == (404, "no-ticket")
    visitor.cookies = kept
    ended = await visitor.see(room)
    assert (ended["state"], ended["poll_after_ms"]) == ("ended", None)
    assert ended["cause"]["code"] == "admission-ended"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"paused": True}, "paused"),
        ({"stock": 0}, "sold_out"),
        ({"message": {"ko": "점검 중", "en": "Maintenance"}}, "queueing"),
    ],
)
async def test_every_state_of_the_room_reaches_those_who_wait(
    open_house: OpenHouse, changes: dict[str, object], state: str
) -> None:
    """Section 8: `room_state` and `message` in every status, by the contract's schema."""
    room = protecting("status", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    await house.patch(room, **changes)
    await house.state(state, room)
    place = await visitor.see(room)
    assert place["room_state"] == state
    if "message" in changes:
        assert place["message"]["texts"] == changes["message"]
    board = (await visitor.get(f"/_waitroom/{room.id}/board")).json
    BOARD.validate(board)
    assert board["room_state"] == state
    assert board["message"] == place["message"]


async def test_a_scheduled_room_counts_the_time_until_it_opens(open_house: OpenHouse) -> None:
    """Section 8, incident `point_cashout`: joined before it opens, expected after, called by nobody before."""
    opens_at_s = int(time.time()) + 600
    room = protecting("soon", opens_at_s=opens_at_s)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    await house.state("scheduled", room)
    place = await visitor.see(room)
    assert (place["state"], place["room_state"]) == ("waiting", "scheduled")
    assert 590 <= place["eta"]["p50_s"] <= 602
    board = (await visitor.get(f"/_waitroom/{room.id}/board")).json
    assert board["opens_at"].startswith("20")
    assert (await visitor.claim(room)).status == 202


async def test_a_position_never_grows(open_house: OpenHouse) -> None:
    """Section 6: not while others leave in a clump, join behind or are called, and not from the join on."""
    room = protecting("grow", drain_rate=Rate(20, "s"), burst=5, paused=True)  # nobody is called while the crowd joins
    house = await open_house(room, gateways=2)
    crowd = [house.visitor(house.gateways[i % 2]) for i in range(160)]
    shown: dict[int, list[int]] = {}
    for i, visitor in enumerate(crowd):
        shown[i] = [(await visitor.join(room)).json["position"]]
    for visitor in crowd[30:75]:
        await visitor.ask("POST", f"/_waitroom/{room.id}/leave")
    await house.patch(room, paused=False)
    end = time.monotonic() + 1.5  # six boards
    while time.monotonic() < end:
        for i in range(80, 160, 7):
            place = await crowd[i].see(room)
            assert place["cause"] is None
            shown[i].append(place["position"])
    for positions in shown.values():
        assert positions == sorted(positions, reverse=True)
    assert shown[157][-1] < shown[157][0] - 40


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://app.example"}])
async def test_a_board_that_errs_upwards_is_not_believed(open_house: OpenHouse, headers: dict[str, str]) -> None:
    """Section 6: what was told once is not taken back, by the prebuilt answers nor by the others."""
    room = protecting("errs", drain_rate=SHUT, burst=2, origins=("https://app.example",))
    house = await open_house(room)
    visitors = [house.visitor() for _ in range(20)]
    for visitor in visitors:
        await visitor.join(room)
    queue = house.queue(room)
    await until(lambda: queue.board.census.passed > 0 and queue.board.knows(20, 1))
    before = await visitors[-1].see(room, headers)
    ranks = replace(queue.board.ranks, ranks=tuple(rank + 7 for rank in queue.board.ranks.ranks))
    queue.board = replace(queue.board, ranks=ranks, earlier=ranks)
    assert queue.board.position(20) == before["position"] + 7
    after = await visitors[-1].see(room, headers)
    assert after["position"] == before["position"]


async def test_the_board_is_for_everybody_and_may_be_cached(open_house: OpenHouse) -> None:
    """Sections 6 and 8: public, one second, at most 64 ranks, no token needed, none set."""
    room = protecting("board", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    for _ in range(150):
        await house.visitor().join(room)
    await until(lambda: house.queue(room).board.census.waiting > 130)
    answer = await house.visitor().get(f"/_waitroom/{room.id}/board")
    BOARD.validate(answer.json)
    assert answer.headers["Cache-Control"] == "public, max-age=1"
    assert not answer.cookies
    board = answer.json
    assert (board["next_number"], board["epoch"], board["room_state"]) == (151, 1, "queueing")
    assert 30 < len(board["ranks"]) <= 64
    assert board["ranks"] == sorted(board["ranks"])
    assert (await house.visitor().ask("HEAD", f"/_waitroom/{room.id}/board")).status == 200


async def test_the_page_is_the_same_for_all_and_may_be_cached(open_house: OpenHouse) -> None:
    """Section 8: it tells nothing of who asks, so an edge may answer a flood with it."""
    room = protecting("page")
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.enter(room)
    pages = [
        await visitor.get(f"/_waitroom/{room.id}/?return_to=/x"),
        await house.visitor().get(f"/_waitroom/{room.id}/", {"Accept-Language": "ko"}),
    ]
    assert pages[0].body == pages[1].body
    for page in pages:
        assert page.status == 200
        assert page.headers["Cache-Control"].startswith("public, max-age=")
        assert not page.cookies
        assert "Vary" not in page.headers
    bare = await visitor.get(f"/_waitroom/{room.id}")
    assert (bare.status, bare.headers["Location"]) == (308, f"/_waitroom/{room.id}/")


async def test_only_status_marks_presence(open_house: OpenHouse) -> None:
    """Section 6: the board and the page, which edges cache, say nothing of who is still there."""
    room = protecting("marks", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitors = [house.visitor() for _ in range(20)]
    for visitor in visitors:
        await visitor.join(room)
    await until(lambda: house.queue(room).board.knows(20, 1))
    queue = house.queue(room)
    marked: list[int] = []
    queue.mark = marked.append
    await visitors[-1].get(f"/_waitroom/{room.id}/board")
    await visitors[-1].get(f"/_waitroom/{room.id}/")
    assert marked == []
    await visitors[-1].see(room)
    assert marked == [20]


async def test_a_ticket_past_half_of_its_life_is_issued_again(open_house: OpenHouse) -> None:
    """Section 7: by status; the number and the time of joining stay."""
    room = protecting("again", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room, "k" * 22)
    desk = house.gateway._desks[room.id]
    name, text = next(iter(visitor.cookies.items()))
    now_s = desk.now_s()
    ticket = desk.keyring.read_ticket(text, room.id, now_s)
    assert isinstance(ticket, Ticket)
    old = replace(ticket, issued_at_s=now_s - 700, expires_at_s=now_s + 500, joined_at_s=now_s - 700)
    visitor.cookies = {name: desk.keyring.mint_ticket(old)}
    place = await visitor.see(room)
    fresh = desk.keyring.read_ticket(visitor.cookies[name], room.id, now_s)
    assert isinstance(fresh, Ticket)
    assert fresh.expires_at_s >= now_s + 2 * room.absence_max_s
    assert (fresh.number, fresh.joined_at_s) == (place["number"], old.joined_at_s)
    quiet = await until_answer(lambda: visitor.get(f"/_waitroom/{room.id}/status"), lambda answer: answer.status == 200)
    assert not quiet.cookies
