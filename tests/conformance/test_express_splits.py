"""Requests that are answered before they are parsed, between others that are not: however cut, each has its answer, in order."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final

import pytest

from gateway.model import Room
from tests.conformance.client import Answer, answers_in
from tests.conformance.line import Line
from tests.web.gatewayfixture import House, OpenHouse, house_opener, protecting, until
from tests.web.test_express import poll, watched

open_house = pytest.fixture(house_opener)
OPEN: Final = b"GET /open/a HTTP/1.1\r\nHost: bank.example\r\n\r\n"
POST: Final = b"POST /open/b HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 60\r\n\r\n" + OPEN.ljust(60)
PLACE: Final = b'"number":1,'  # of a status
SIDE_BY_SIDE: Final = 12
DEADLINE_S: Final = 15.0


async def scheduled(open_house: OpenHouse) -> tuple[House, Room, str]:
    """A house whose room opens later, so that nobody is called however long the test takes; and a ticket that its board knows."""
    room = protecting("express", opens_at_s=int(time.time()) + 3600)
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.join(room)
    await until(lambda: house.queue(room).board is not None and house.queue(room).board.knows(1, 1))
    (ticket,) = visitor.cookies.values()
    return house, room, ticket


def get(room: Room, path: str) -> bytes:
    return f"GET /_waitroom/{room.id}/{path} HTTP/1.1\r\nHost: bank.example\r\n\r\n".encode()


def whole_answers(line: Line) -> list[Answer]:
    return [one for one in answers_in(bytes(line.got), (), is_ended=False, is_reset=False) if one.is_whole]


async def answered(house: House, pieces: Sequence[bytes], count: int) -> list[bytes]:
    """The bodies of the answers to what is sent in these pieces, each on its own; every answer is a whole 200."""
    _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", house.gateway.ports[0])
    try:
        for piece in pieces:
            await line.send(piece)
            await asyncio.sleep(0.002)
        async with asyncio.timeout(DEADLINE_S):
            while len(found := whole_answers(line)) < count and not line.is_ended:
                await line.more(DEADLINE_S)
    finally:
        line.reset()
    assert [one.status for one in found] == ["200"] * count
    return [one.body for one in found]


async def tried(house: House, stream: bytes, cuts: Sequence[Sequence[int]], marks: Sequence[bytes]) -> None:
    """Send the stream cut in each of these ways; every answer bears its mark."""
    for first in range(0, len(cuts), SIDE_BY_SIDE):
        ways = cuts[first : first + SIDE_BY_SIDE]
        pieces = [[stream[a:b] for a, b in zip((0, *way), (*way, len(stream)), strict=True)] for way in ways]
        for way, bodies in zip(
            ways, await asyncio.gather(*(answered(house, one, len(marks)) for one in pieces)), strict=True
        ):
            wrong = [(mark, body) for mark, body in zip(marks, bodies, strict=True) if mark not in body]
            assert wrong == [], f"cut at {way}"


async def test_any_two_pieces_are_answered_in_order(open_house: OpenHouse) -> None:
    """Promise 10: cut behind every byte; a body that looks like a request is none."""
    house, room, ticket = await scheduled(open_house)
    fast = watched(house)
    stream = poll(room, ticket) + OPEN + get(room, "board") + POST + poll(room, ticket)
    marks = (PLACE, b"the bank", b'"next_number"', b"the bank", PLACE)
    await tried(house, stream, [(at,) for at in range(1, len(stream))], marks)
    assert fast, "the express way was taken, too"
    assert {target for _, target, _ in house.bank.requests} == {"/open/a", "/open/b"}
    assert len(house.bank.requests) == 2 * (len(stream) - 1)


async def test_many_pieces_are_answered_in_order(open_house: OpenHouse) -> None:
    """Promise 10: pieces that are whole requests go the express way between those that do not."""
    house, room, ticket = await scheduled(open_house)
    fast = watched(house)
    parts = (get(room, "board"), OPEN, poll(room, ticket), POST, get(room, ""), OPEN, poll(room, ticket))
    marks = (
        b'"next_number"',
        b"the bank",
        PLACE,
        b"the bank",
        b"<!doctype html>",
        b"the bank",
        b"waiting",
    )
    stream, chance = b"".join(parts), random.Random(20)
    borders = [sum(map(len, parts[:count])) for count in range(1, len(parts))]
    cuts = [sorted({*chance.sample(borders, 3), *chance.sample(range(1, len(stream)), 3)}) for _ in range(60)]
    await tried(house, stream, [borders, *cuts], marks)
    assert fast
