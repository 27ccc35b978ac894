"""The waiting page in place of a protected URL, from the bytes: as the usual way answers, and only where that is sure."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from itertools import product

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.model import Bypass, Match, Room
from tests.web.gatewayfixture import SHUT, Answer, House, OpenHouse, house_opener, protecting
from tests.web.test_express import watched

open_house = pytest.fixture(house_opener)
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}
HTML = {"Accept": "text/html,*/*;q=0.8"}


async def held(open_house: OpenHouse, **room_keys: object) -> tuple[House, Room]:
    """A house whose one room is not idle."""
    room = protecting("arrivals", drain_rate=SHUT, burst=2, **room_keys)
    house = await open_house(room)
    for _ in range(12):  # more than the caller wants at hand
        await house.visitor().join(room)
    await house.state("queueing", room)
    return house, room


async def asked(house: House, path: str, headers: Mapping[str, str], *, is_usual: bool) -> Answer:
    """Byte for byte; the usual way is gone for a field that makes it no plain request, and nothing else of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gateway.ports[0])
    fields = {"Host": "bank.example", **headers} | ({"TE": "trailers"} if is_usual else {})
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    found: CIMultiDict[str] = CIMultiDict()
    for line in rest:
        found.add(*line.split(": ", 1))
    body = await reader.readexactly(int(found["Content-Length"]))
    writer.close()
    return Answer(int(first.split()[1]), CIMultiDictProxy(found), body)


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    fields = {name.lower(): value for name, value in answer.headers.items() if name != "Date"}
    return answer.status, fields, answer.body


@pytest.mark.parametrize("path", ["/ROOM/", "/ROOM/deep/er.html?utm=a%20b&c", "/ROOM"])
@pytest.mark.parametrize("headers", [NAVIGATION, HTML, NAVIGATION | HTML, HTML | {"Cookie": "a=b; session=x"}])
async def test_the_page_in_place_is_the_same_both_ways(
    open_house: OpenHouse, path: str, headers: dict[str, str]
) -> None:
    """Section 8: a navigation gets the waiting page, its URL stays; and it reaches no upstream (promise 9)."""
    house, room = await held(open_house)
    answered, path = watched(house), path.replace("ROOM", room.id)
    express = await asked(house, path, headers, is_usual=False)
    assert len(answered) == 1
    assert express.status == room.queueing_status
    assert told(express) == told(await asked(house, path, headers, is_usual=True))
    assert len(answered) == 1
    assert house.bank.requests == []


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        *(
            (name, True)
            for name in ("gzip, br", "deflate, gzip", "GZIP", "x-gzip", "br;q=0.5, gzip;q=0.9", "gzip ; Q=1")
        ),
        *(
            (name, False)
            for name in (None, "br", "identity", "*", "notgzip", "gzip;q=0", "gzip; Q=0.0", "gzip" + "," * 300)
        ),
    ],
)
async def test_who_takes_gzip_gets_it_and_nobody_stores_it(
    open_house: OpenHouse, accepted: str | None, is_packed: bool
) -> None:
    """A third of the bytes for the flood; what is stored by edges, the page under its own URL, has one form."""
    house, room = await held(open_house)
    headers = HTML if accepted is None else HTML | {"Accept-Encoding": accepted}
    for is_usual in (False, True):
        answer = await asked(house, room.entry, headers, is_usual=is_usual)
        assert answer.headers.get("Content-Encoding") == ("gzip" if is_packed else None)
        assert (gzip.decompress(answer.body) if is_packed else answer.body).startswith(b"<!doctype html>")
        assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Accept-Encoding", "no-store")
    own = await asked(house, f"/_waitroom/{room.id}/", headers, is_usual=False)
    assert "Content-Encoding" not in own.headers


OTHERS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/ROOM/", {}),
    ("GET", "/ROOM/", {"Accept": "application/json"}),
    ("GET", "/ROOM/", HTML | {"Sec-Fetch-Site": "same-origin"}),
    ("GET", "/ROOM/", NAVIGATION | {"Sec-Fetch-Mode": "no-cors"}),
    ("GET", "/ROOM/", HTML | {"Range": "bytes=0-1"}),
    ("GET", "/ROOM/", HTML | {"X-Requested-With": "x"}),
    ("GET", "/ROOM/", HTML | {"Upgrade": "websocket", "Connection": "Upgrade"}),
    ("GET", "/ROOM/", HTML | {"Cookie": "__Host-waitroom-admission-ROOM=x"}),
    ("GET", "/ROOM/", HTML | {"Waitroom-Ticket": "x"}),
    ("GET", "/ROOM/", HTML | {"Waitroom-Admission": "x"}),
    ("GET", "/ROOM/", HTML | {"Host": "other.example"}),
    ("GET", "/ROOM/%2e%2e/open", HTML),
    ("GET", "/ROOM//x", HTML),
    ("GET", "/ROOM/한", HTML),
    ("GET", "/open", HTML),
    ("HEAD", "/ROOM/", HTML),
    ("POST", "/ROOM/", HTML),
]


@pytest.mark.parametrize(("method", "path", "headers"), OTHERS)
async def test_what_might_be_answered_otherwise_goes_the_usual_way(
    open_house: OpenHouse, method: str, path: str, headers: dict[str, str]
) -> None:
    """Promise 9: the express way never judges what has two readings, tokens, or another kind of answer."""
    house, room = await held(open_house)
    answered, path = watched(house), path.replace("ROOM", room.id)
    headers = {name: value.replace("ROOM", room.id) for name, value in headers.items()}
    await house.visitor().ask(method, path, headers)
    assert answered == []


async def test_an_idle_room_is_entered_not_waited_for(open_house: OpenHouse) -> None:
    """Section 4, Instant entry: a navigation enters in the same request."""
    room = protecting("arrivals")
    house = await open_house(room)
    await house.idle(room)
    answered = watched(house)
    assert (await house.visitor().get(room.entry, HTML)).text == "the bank"
    assert answered == []


async def test_what_a_rule_lets_past_is_passed(open_house: OpenHouse) -> None:
    """Section 8: bypass rules hold for navigations, too."""
    house, room = await held(
        open_house, bypass=(Bypass("terms", path="/terms"),), match=(Match("/terms"), Match("/t/*"))
    )
    answered = watched(house)
    assert (await house.visitor().get("/terms", HTML)).text == "the bank"
    assert answered == []
    assert (await house.visitor().get("/t/", HTML)).status == room.queueing_status
    assert len(answered) == 1


async def test_rules_on_addresses_are_the_usual_ways(open_house: OpenHouse) -> None:
    """A bypass by address depends on who asks, which bytes alone do not say."""
    house, room = await held(open_house, bypass=(Bypass("office", source="127.0.0.0/8"),))
    answered = watched(house)
    assert (await house.visitor().get(room.entry, HTML)).text == "the bank"
    assert answered == []


async def test_every_mix_of_what_makes_a_navigation_means_the_same_both_ways(open_house: OpenHouse) -> None:
    """The navigation rule is written twice, for fields as text and as bytes: here they are held together."""
    house, room = await held(open_house)
    answered = watched(house)
    pages = 0
    modes = (None, "navigate", "cors", "Navigate", "")
    accepts = (None, "text/html", "TEXT/HTML;q=0.1", "*/*", "application/xhtml+xml")
    for mode, accept, site in product(modes, accepts, (None, "none")):
        named = {"Sec-Fetch-Mode": mode, "Accept": accept, "Sec-Fetch-Site": site}
        headers = {name: value for name, value in named.items() if value is not None}
        before = len(answered)
        found, expected = [await asked(house, room.entry, headers, is_usual=usual) for usual in (False, True)]
        is_page = expected.headers["Content-Type"].startswith("text/html")
        pages += is_page
        assert told(found) == told(expected), headers
        assert len(answered) - before == is_page, headers
    assert 10 < pages < 40
