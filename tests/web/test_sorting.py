"""Whose a request is, told from its first bytes: for order and shedding only, never for what it may do."""

from __future__ import annotations

import pytest

from gateway.web.sorting import Sorting
from tests.web.gatewayfixture import House, OpenHouse, house_opener, protecting

open_house = pytest.fixture(house_opener)
HEAD = "{line} HTTP/1.1\r\nHost: bank.example\r\n{fields}\r\n"


def sorting_of(house: House) -> Sorting:
    found = getattr(house.gateway._listeners[0]._flow_of, "__self__", None)
    assert isinstance(found, Sorting)
    return found


async def test_a_head_says_whose_it_is(open_house: OpenHouse) -> None:
    """Promise 12: rooms, and within a room newcomers, the crowd and who is inside, each in a flow of its own."""
    room, origins = protecting("sorted"), protecting("origins", origins=("https://app.example",))
    house = await open_house(room, origins)
    sorter, name = sorting_of(house), room.id
    told = {
        ("POST /_waitroom/{}/ticket", ""): "joins",
        ("POST /_waitroom/{}/ticket", "Content-Length: 2\r\n"): "joins",
        ("POST /_waitroom/{}/ticket?a", ""): "crowd",
        ("GET /_waitroom/{}/status", ""): "crowd",
        ("GET /_waitroom/{}/board?a=b", ""): "crowd",
        ("GET /_waitroom/{}/", ""): "crowd",
        ("DELETE /_waitroom/{}/ticket", ""): "crowd",
        ("POST /_waitroom/{}/admission", ""): "inside",
        ("GET /_waitroom/{}/renew?return_to=/", "Waitroom-Admission: x\r\n"): "inside",
        ("GET /{}/", ""): "crowd",
        ("GET /{}/", "Sec-Fetch-Mode: navigate\r\n"): "crowd",
        ("GET /{}/", "Cookie: __Host-waitroom-admission-{}=x\r\n"): "inside",
        ("POST /{}/pay", "waitroom-admission: x\r\n"): "inside",
        ("GET /{}/?q=" + "x" * 5_000, ""): "crowd",
    }
    for (line, fields), part in told.items():
        data = HEAD.format(line=line.format(name), fields=fields.format(name)).encode()
        assert sorter.flow_of(data) is getattr(sorter.rooms[name], part), data


async def test_only_a_newcomers_join_may_be_refused(open_house: OpenHouse) -> None:
    """Issue 4, overload: not who has a place or an admission, nor whose answer is a page or says which origins may read it."""
    room, origins = protecting("sorted"), protecting("origins", origins=("https://app.example",))
    sorter = sorting_of(await open_house(room, origins))
    refusal = sorter.rooms[room.id].joins.refusal
    assert refusal is not None
    line = f"POST /_waitroom/{room.id}/ticket"
    for field in (
        f"Cookie: a=b; __Host-waitroom-ticket-{room.id}=x",
        f"Cookie: __Host-waitroom-admission-{room.id}=x",
        "WAITROOM-TICKET: x",
        "waitroom-admission: x",
        "Accept: text/html",
    ):
        assert refusal(HEAD.format(line=line, fields=f"{field}\r\n").encode()) is None, field
    assert (refusal(HEAD.format(line=line, fields="Accept: */*\r\n").encode()) or b"").startswith(b"HTTP/1.1 503 ")
    assert sorter.rooms[origins.id].joins.refusal is None
    for flows in sorter.rooms.values():
        assert flows.crowd.refusal is None
        assert flows.inside.refusal is None


async def test_what_is_no_rooms_shares_no_rooms_turns(open_house: OpenHouse) -> None:
    """Promise 12: unprotected routes are one flow; what has no whole head, and may be anything, another."""
    room = protecting("sorted")
    sorter = sorting_of(await open_house(room))
    for line in ("GET /free", "GET /_waitroom/health", "GET /_waitroom/nobody/status"):
        assert sorter.flow_of(HEAD.format(line=line, fields="").encode("latin-1")) is sorter.other
    whole = HEAD.format(line=f"GET /{room.id}/", fields="").encode()
    for data in (whole[:-1], whole[:30], b"\xff" * 40, b"\r\n", b"G", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n"):
        assert sorter.flow_of(data) is sorter.untold
    join = f"POST /_waitroom/{room.id}/ticket HTTP/1.1".encode()
    for data in (join + b"2", join + b"\r", join + b"\r\nHost: bank.example\r\n"):
        assert sorter.flow_of(data) is sorter.untold, "half a head may yet say that it is no newcomer's"
    refusal = sorter.rooms[room.id].joins.refusal
    assert refusal is not None
    assert refusal(join + b"\r\nHost: bank.example\r\n") is None


@pytest.mark.timeout(20)
async def test_no_head_is_dear_to_sort(open_house: OpenHouse) -> None:
    """Promise 12: judging whose a request is must not cost more than answering it. Blanks before a bare CR took hours."""
    sorter = sorting_of(await open_house(protecting("sorted")))
    for blanks in (b" " * 60_000, b"\t " * 30_000):
        assert sorter.flow_of(b"GET / HTTP/1.1\r\nHost:" + blanks + b"\rx\r\n\r\n") is sorter.untold
    assert sorter.flow_of(b"GET / HTTP/1.1\r\nHost: \t bank.example \r\n\r\n") is sorter.other
    for odd in (
        "GET /" + "/;a%252F.." * 40,
        "GET /%2e/",
        "GET http://bank.example/",
        "GET /" + "x" * 600,
        "GET /\x00",
        "*",
    ):
        assert sorter.flow_of(HEAD.format(line=odd, fields="").encode()) is sorter.untold
