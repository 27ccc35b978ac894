"""A room on a real server whose clock the test owns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest

from gateway.model import Contact, Memory, Room, SettingsRecord
from gateway.queue.connect import Connection, open_redis
from gateway.queue.store import RoomStore
from gateway.rules.pacing import as_document
from tests.conftest import RedisServer, make_room

START_US = 1_800_000_000_000_000
_rooms = count(1)


class Scene:
    """A room, its store, and a clock that moves only when told to, in steps a running gateway would make."""

    def __init__(self, store: RoomStore) -> None:
        self.store = store
        self.store.now_us = START_US
        self.room = store.room

    async def open(self, memory: Memory | None = None) -> None:
        await self.store.heal(memory or Memory(), self.record())

    def record(self, version: int = 0) -> SettingsRecord:
        return SettingsRecord(version, as_document(self.room.settings), {})

    def advance(self, seconds: float) -> None:
        assert self.store.now_us is not None
        self.store.now_us += int(seconds * 1e6)

    async def run(self, seconds: float, *, step_s: float = 0.1) -> None:
        """Let time pass as with a live gateway: ticks and upkeep every 100 ms."""
        for _ in range(round(seconds / step_s)):
            self.advance(step_s)
            await self.beat()

    async def beat(self) -> None:
        while await self.store.upkeep():
            pass
        while True:
            ticked = await self.store.tick()
            if ticked.is_early or ticked.due_us > 0:
                return

    async def join(self, *ids: bytes) -> list[int]:
        return [standing.number for standing in await self.store.check_in([Contact(one) for one in ids])]


def ident(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
async def connection(each_redis: RedisServer) -> AsyncIterator[Connection]:
    opened = await open_redis(each_redis.url, "state")
    yield opened
    await opened.close()


@pytest.fixture
def make_scene(connection: Connection) -> Callable[..., Scene]:
    def make(**changes: object) -> Scene:
        room: Room = make_room(f"room-{next(_rooms)}", **changes)
        return Scene(RoomStore(connection, room))

    return make


@pytest.fixture
async def scene(make_scene: Callable[..., Scene]) -> Scene:
    made = make_scene()
    await made.open()
    return made
