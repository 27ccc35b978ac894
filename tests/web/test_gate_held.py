"""What somebody gets who may not pass yet: the page in its place, or a problem document that says how to join."""

from __future__ import annotations

import pytest

from gateway.model import RoomState
from tests.web.gatewayfixture import NAVIGATION, SHUT, OpenHouse, house_opener, protecting

open_house = pytest.fixture(house_opener)


async def test_a_navigation_gets_the_waiting_page_in_place(open_house: OpenHouse) -> None:
    """Promise 9, section 8: 429 with Retry-After and Waitroom-State, not to be stored, and nothing is joined."""
    room = protecting("held", drain_rate=SHUT)
    house = await open_house(room)
    visitor = house.visitor()
    answer = await visitor.open(f"/{room.id}/offer?a=1")
    assert answer.status == 429
    assert answer.headers["Waitroom-State"] == "waiting"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert room.id in answer.text
    assert not answer.cookies
    assert house.bank.requests == []
    assert (await visitor.get(f"/_waitroom/{room.id}/board")).json["next_number"] in {1, None}


async def test_a_head_navigation_gets_the_head_of_the_page(open_house: OpenHouse) -> None:
    """Section 8: HEAD is answered like GET, without the body."""
    room = protecting("held", drain_rate=SHUT)
    house = await open_house(room)
    visitor = house.visitor()
    got = await visitor.open(f"/{room.id}/")
    head = await visitor.ask("HEAD", f"/{room.id}/", NAVIGATION)
    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["Content-Length"] == str(len(got.body))
    assert head.headers["Waitroom-State"] == "waiting"


@pytest.mark.parametrize("status", [200, 202, 429, 503])
async def test_the_room_says_which_status_the_page_has(open_house: OpenHouse, status: int) -> None:
    """Section 8: `queueing_status` is the page's; what is no navigation gets 429 whatever it says."""
    room = protecting("held", drain_rate=SHUT, queueing_status=status)
    house = await open_house(room)
    assert (await house.visitor().open(f"/{room.id}/")).status == status
    assert (await house.visitor().get(f"/{room.id}/")).status == 429


async def test_a_form_that_was_sent_is_told_that_nothing_was_sent(open_house: OpenHouse) -> None:
    """Promise 9, section 8: a navigation by POST gets a page of its own, and the bank nothing."""
    room = protecting("held", drain_rate=SHUT)
    house = await open_house(room)
    posted = await house.visitor().ask("POST", f"/{room.id}/pay", NAVIGATION, data=b"amount=1")
    shown = await house.visitor().open(f"/{room.id}/pay")
    assert posted.status == 429
    assert "data-posted" in posted.text
    assert "data-posted" not in shown.text
    assert house.bank.requests == []


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Accept": "application/json"}),
        ("GET", NAVIGATION | {"X-Requested-With": "XMLHttpRequest"}),
        ("GET", NAVIGATION | {"Range": "bytes=0-9"}),
        ("GET", {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x" * 22 + "=="}),
        ("HEAD", {}),
        ("OPTIONS", {"Accept": "text/html"}),
        ("DELETE", {"Accept": "text/html"}),
        ("POST", {"Accept": "application/json"}),
        ("PROPFIND", {}),
    ],
)
async def test_anything_else_gets_a_problem_that_says_how_to_join(
    open_house: OpenHouse, method: str, headers: dict[str, str]
) -> None:
    """Promise 9, section 8: 429 application/problem+json with Retry-After, Waitroom-Room and the join link."""
    room = protecting("held", drain_rate=SHUT)
    house = await open_house(room)
    answer = await house.visitor().ask(method, f"/{room.id}/x", headers)
    assert answer.status == 429
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Waitroom-Room"] == room.id
    assert answer.headers["Link"] == f'</_waitroom/{room.id}/ticket>; rel="waitroom-join"'
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Cache-Control"] == "no-store"
    if method != "HEAD":
        assert answer.json["type"] == "admission-required"
        assert answer.json["status"] == 429
        assert answer.json["room"] == room.id
    assert house.bank.requests == []


async def test_a_paused_room_admits_nobody_and_says_so(open_house: OpenHouse) -> None:
    """Section 8: newcomers included; the problem names the state."""
    room = protecting("held", paused=True)
    house = await open_house(room)
    await house.state(RoomState.PAUSED, room)
    assert (await house.visitor().open(f"/{room.id}/")).status == 429
    assert (await house.visitor().get(f"/{room.id}/")).json["room_state"] == "paused"
    assert house.bank.requests == []
