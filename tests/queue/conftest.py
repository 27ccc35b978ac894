"""A room on a real server whose clock the test owns, and several gateways before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count

import pytest

from gateway.model import ClaimTry, Code, Contact, Memory, SettingsRecord, Standing, Touch
from gateway.queue.connect import Connection, open_redis
from gateway.queue.scripts import KEY_NAMES
from gateway.queue.store import Healing, RoomStore
from gateway.rules.board import Census
from gateway.rules.pacing import as_document
from tests.conftest import RedisServer, make_room

START_US = 1_800_000_000_000_000
START_S = START_US // 1_000_000
_rooms = count(1)


class Scene:
    """A room, the stores of its gateways, and a clock that moves only when told to, in steps a running gateway would make.

    Visitor n is `ident(n)`; where they join in order, visitor n holds number n.
    """

    def __init__(self, connection: Connection, *, gateways: int = 1, room_id: str = "", **changes: object) -> None:
        self.connection = connection
        self.room = make_room(room_id or f"room-{next(_rooms)}", **changes)
        self.stores = [RoomStore(connection, self.room) for _ in range(gateways)]
        self.store = self.stores[0]
        self.epoch = 1
        self.set_clock(START_US)

    def set_clock(self, now_us: int) -> None:
        self.now_us = now_us
        for store in self.stores:
            store.now_us = now_us

    def advance(self, seconds: float) -> None:
        self.set_clock(self.now_us + round(seconds * 1e6))

    def record(self, version: int = 0, **overrides: object) -> SettingsRecord:
        return SettingsRecord(version, as_document(self.room.settings), overrides)

    async def open(self, memory: Memory | None = None, record: SettingsRecord | None = None) -> Healing | None:
        return await self.store.heal(memory or Memory(), record or self.record())

    async def run(
        self, seconds: float, *, step_s: float = 0.1, present: Sequence[int] = (), claiming: Sequence[int] = ()
    ) -> None:
        """Let time pass as with a live gateway: ticks and upkeep every step, `present` heard from every 10 s, claims held."""
        for step in range(round(seconds / step_s)):
            self.advance(step_s)
            if present and step % round(10 / step_s) == 0:
                await self.store.mark(present)
            if claiming:
                await self.claim(*claiming)
            await self.beat()

    async def beat(self) -> None:
        while (await self.store.upkeep()).is_more:
            pass
        while True:
            ticked = await self.store.tick()
            if ticked.is_early or ticked.due_us > 0:
                return

    async def join(self, *visitors: int) -> list[Standing]:
        return await self.store.check_in([Contact(ident(one)) for one in visitors])

    async def find(self, *numbers: int, epoch: int = 0) -> list[Standing]:
        """Check in with tickets: visitor n shows number n."""
        return await self.store.check_in([Contact(ident(one), one, epoch or self.epoch) for one in numbers])

    async def claim(self, *numbers: int, gateway: int = 0, epoch: int = 0, withdrawn: bool = False) -> list[Standing]:
        tries = [ClaimTry(ident(one), one, epoch or self.epoch, withdrawn) for one in numbers]
        return await self.stores[gateway].claim(tries)

    async def granted(self, *numbers: int, gateway: int = 0) -> list[int]:
        return [one.number for one in await self.claim(*numbers, gateway=gateway) if one.code is Code.ADMITTED]

    async def leave(self, *numbers: int) -> list[bool]:
        left = await self.store.leave([Contact(ident(one), one, self.epoch) for one in numbers])
        return [number > 0 for number in left]

    async def touch(self, *visitors: int, issued_at_s: int = START_S) -> list[int]:
        return await self.store.touch([Touch(ident(one), self.epoch, issued_at_s) for one in visitors])

    async def census(self) -> Census:
        """What the board says just now."""
        await self.connection.client.eval(
            "redis.call('PERSIST', KEYS[1]) return redis.call('HSET', KEYS[1], 'census_due', 0)", 1, self.key("pace")
        )
        await self.store.census()
        return (await self.store.read(0, 0, 0)).census

    async def places(self) -> dict[bytes, int]:
        """The queue itself, read past the scripts."""
        rows = await self.connection.client.eval(
            "return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')", 1, self.key("queue")
        )
        return {rows[i]: int(rows[i + 1]) for i in range(0, len(rows), 2)}

    async def erase(self) -> None:
        """What a flush does to this room."""
        keys = [self.key(name) for name in KEY_NAMES]
        await self.connection.client.eval("return redis.call('DEL', unpack(KEYS))", len(keys), *keys)

    async def restamp(self) -> None:
        """As after a restart or a fail-over: the data is there, the server is another."""
        await self.connection.client.eval(
            "redis.call('PERSIST', KEYS[1]) return redis.call('HSET', KEYS[1], 'run', 'another')", 1, self.key("pace")
        )

    def key(self, name: str) -> str:
        return f"waitroom:{{{self.room.id}}}:{name}"


def ident(visitor: int) -> bytes:
    return visitor.to_bytes(16, "big")


def codes(standings: list[Standing]) -> list[Code]:
    return [one.code for one in standings]


@pytest.fixture
async def connection(each_redis: RedisServer) -> AsyncIterator[Connection]:
    opened = await open_redis(each_redis.url, "state")
    yield opened
    await opened.close()


@pytest.fixture
def make_scene(connection: Connection) -> Callable[..., Scene]:
    def make(**changes: object) -> Scene:
        return Scene(connection, **changes)  # type: ignore[arg-type]  # a test names real fields

    return make


@pytest.fixture
async def scene(make_scene: Callable[..., Scene]) -> Scene:
    made = make_scene()
    await made.open()
    return made
