"""Fills a room's line past HTTP, straight through the scripts, as gateways do it: a million in half a minute."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.errors import Unreachable
from gateway.model import Contact, Room, Standing, Ticket
from gateway.queue.connect import open_redis
from gateway.queue.store import RoomStore
from gateway.rules.tokens import Keyring

SEAT_BATCH: Final = 250
MARK_BATCH: Final = 500
OPEN_S: Final = 15.0
LIFE_S: Final = 7200
EXPECTED_S: Final = 3600


class Line(NamedTuple):
    """Who stands in a room: ids in the order of their numbers, which follow each other from `first` on."""

    room: str
    ids: list[bytes]
    first: int
    epoch: int

    def tickets(self, keyring: Keyring, places: Iterable[int]) -> list[str]:
        """Of these places, counted from 0, as the gateway would have signed them now."""
        now_s = int(time.time())
        return [
            keyring.mint_ticket(
                Ticket(self.room, self.ids[at], self.first + at, self.epoch, now_s, now_s, now_s + LIFE_S, EXPECTED_S)
            )
            for at in places
        ]


async def seat(url: str, room: Room, count: int) -> Line:
    connection = await open_redis(url, ".")
    store = RoomStore(connection, room)
    line: Line | None = None
    try:
        for start in range(0, count, SEAT_BATCH):
            batch = [secrets.token_bytes(16) for _ in range(min(SEAT_BATCH, count - start))]
            standings = await _check_in(store, batch)
            line = line or Line(room.id, [], standings[0].number, standings[0].epoch)
            assert standings[0].number == line.first + len(line.ids), "somebody else joins"
            line.ids.extend(batch)
    finally:
        await connection.close()
    assert line is not None, "nobody was to be seated"
    return line


async def mark(url: str, room: Room, count: int) -> None:
    """The first `count` places as heard from, as polls of their owners would."""
    connection = await open_redis(url, ".")
    store = RoomStore(connection, room)
    for start in range(1, count + 1, MARK_BATCH):
        await store.mark(range(start, min(start + MARK_BATCH, count + 1)))
    await connection.close()


async def _check_in(store: RoomStore, ids: list[bytes]) -> list[Standing]:
    """Asked again while the room is made, or held by its first heal, or Redis has no turn: the same places are found."""
    until_s = time.monotonic() + OPEN_S
    while True:
        try:
            standings = await store.check_in([Contact(one) for one in ids])
            if all(standing.number for standing in standings):
                return standings
        except Unreachable:
            pass
        assert time.monotonic() < until_s, "the room did not open"
        await asyncio.sleep(0.1)
