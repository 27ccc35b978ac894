"""Every spelling of a protected target, on the wire: the bank sees none of them without an admission (promise 9)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Bypass, Match
from tests.conftest import RedisServer
from tests.web.gatewayfixture import NAVIGATION, SHUT, House, OpenHouse, house_opener, opened, protecting

open_house = pytest.fixture(house_opener)
# What stands between, in and around the two segments: everything that some backend takes for a slash, a dot or nothing.
PIECES = (
    *("/", "//", "\\", "%2f", "%2F", "%5c", "%252f", "%255C", "/./", "/../", "/.", "/..", "%2e", "%2e%2e/", "%252e"),
    *(";a=b", ";", "?", "#", "%3f", "%23", "%00", "%20", "\t", "x", "..;/", "%c0%af", "%ef%bc%8f", "free"),
)
POINTS = ("points", "POINTS", "Points", "%70oints", "p%6fints", "%2570oints", "poin%74s", "po%69nts;x", "points;")
FRONTS = ("", "http://bank.example", "HTTP://BANK.EXAMPLE:80", "http://evil.example", "//bank.example", "http:")


@st.composite
def spellings(draw: st.DrawFn) -> str:
    pieces = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)
    names = st.sampled_from(POINTS)
    front, before, between, after = draw(st.sampled_from(FRONTS)), draw(pieces), draw(pieces), draw(pieces)
    return f"{front}{before or '/'}{draw(names)}{between or '/'}{draw(names)}{after}"


async def send_raw(house: House, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gateway.ports[0])
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()


def is_guarded(target: str) -> bool:
    """What a lenient backend would answer for a protected page: its own reading, written anew and by other means."""
    text = target
    for _ in range(3):
        text = unquote(text, "latin-1")
        path = re.sub(r";[^/]*", "", re.split(r"[?#]", text)[0].replace("\\", "/"))
        parts: list[str] = []
        for part in path.lower().split("/"):
            if part == "..":
                parts[-1:] = []
            elif part not in {"", "."}:
                parts.append(part)
        if parts[:2] == ["points", "points"]:
            return True
    return False


def test_no_spelling_of_a_protected_target_gets_past(valkey: RedisServer, tmp_path: Path) -> None:
    """Promise 9: whatever the bank received, no reading of it is a protected one; and there is always an answer."""
    room = protecting("wire", drain_rate=SHUT, match=(Match("/points/points/*"),), entry="/points/points/")
    with asyncio.Runner() as runner:
        stack = opened(valkey.url, tmp_path, [room])
        house = runner.run(stack.__aenter__())

        @settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(spellings(), st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT"]))
        def probe(target: str, method: str) -> None:
            house.bank.requests.clear()
            head = f"{method} {target} HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            answer = runner.run(send_raw(house, head.encode()))
            assert re.match(rb"HTTP/1\.[01] [2-4]\d\d ", answer), (target, answer[:60])
            for _, seen, _ in house.bank.requests:
                assert not is_guarded(urlsplit(seen).path if seen.startswith("http") else seen), (target, seen)

        try:
            probe()
            assert runner.run(send_raw(house, b"GET /free HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n"))
            assert house.bank.requests, "what is not protected does get there"
        finally:
            runner.run(stack.__aexit__(None, None, None))


@pytest.mark.parametrize("target", ["/%5fwaitroom/x", "//_waitroom/auth", "/_WAITROOM/x", "/a/../_waitroom/health"])
async def test_ways_to_our_own_prefix_that_are_not_spelled_so_are_refused(open_house: OpenHouse, target: str) -> None:
    """Section 8: `/_waitroom/` never reaches an upstream."""
    house = await open_house(protecting("ours"))
    answer = await house.visitor().get(target)
    assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert house.bank.requests == []


async def test_a_target_with_readings_in_two_rooms_is_refused(open_house: OpenHouse) -> None:
    """Section 8: 400, because nobody can say whose it is; an admission of one does not help."""
    one, two = protecting("one"), protecting("two")
    house = await open_house(one, two)
    visitor = house.visitor()
    await visitor.enter(one)
    answer = await visitor.get(f"/{one.id}/..%2f{two.id}/x")
    assert answer.status == 400
    assert house.bank.requests == []
    assert (await visitor.get(f"/{two.id}/")).status == 429, "an admission is for its own room"


async def test_bypass_rules_let_reads_past_and_nothing_else(open_house: OpenHouse) -> None:
    """Section 8: GET and HEAD, exact path or folder, plain spelling; the bank is told no subject."""
    room = protecting("bypass", drain_rate=SHUT)
    rules = (Bypass("css", path=f"/{room.id}/static/*"), Bypass("rates", path=f"/{room.id}/rates"))
    house = await open_house(replace(room, bypass=rules))
    visitor = house.visitor(Accept="application/json")
    for method in ("GET", "HEAD"):
        assert (await visitor.ask(method, f"/{room.id}/static/a.css?v=1")).status == 200
        assert (await visitor.ask(method, f"/{room.id}/rates")).status == 200
    assert not [name for name in house.bank.last if name.lower().startswith("waitroom")]
    house.bank.requests.clear()
    for method, path in (
        ("POST", "static/a.css"),
        ("OPTIONS", "static/a.css"),
        ("GET", "static/../pay"),
        ("GET", "static/%2e%2e/pay"),
        ("GET", "static//a.css"),
        ("GET", "Static/a.css"),
        ("GET", "rates/x"),
        ("GET", "rates;x"),
        ("GET", "static"),
    ):
        assert (await visitor.ask(method, f"/{room.id}/{path}")).status == 429, (method, path)
    assert house.bank.requests == []


async def test_a_source_rule_counts_trusted_hops_from_the_right(open_house: OpenHouse) -> None:
    """Section 8: the client's address by trusted proxies alone; one that says nothing has none."""
    room = protecting("source", drain_rate=SHUT)
    room = replace(room, bypass=(Bypass("office", source="203.0.113.0/24"),))
    house = await open_house(room, trusted_proxies=("127.0.0.1/32", "10.0.0.0/8"))
    cases = {
        "203.0.113.9": 200,
        "198.51.100.1, 203.0.113.9": 200,
        "198.51.100.1, 203.0.113.9, 10.1.2.3": 200,
        "203.0.113.9, 198.51.100.1": 429,
        "203.0.113.9, nonsense": 429,
        "": 429,
    }
    for forwarded, status in cases.items():
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        assert (await house.visitor().get(f"/{room.id}/", headers)).status == status, forwarded
    direct = await open_house(room)
    assert (await direct.visitor().get(f"/{room.id}/", {"X-Forwarded-For": "203.0.113.9"})).status == 429
    assert (await house.visitor().ask("GET", f"/{room.id}/", NAVIGATION)).status == 429
