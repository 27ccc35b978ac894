"""Positions from the board against the sorted set itself: how far off they are, and that they never grow."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random

import pytest

from gateway.queue.connect import open_redis
from gateway.rules.board import Board, Ranks
from tests.conftest import RedisServer
from tests.queue.conftest import Scene

PLACES = 100_000


@dataclass
class Line:
    """A long line in Redis, and the board that a gateway would have of it."""

    scene: Scene
    present: list[int] = field(default_factory=lambda: list(range(1, PLACES + 1)))
    board: Board | None = None

    async def read(self) -> Board:
        source = "return redis.call('HSET', KEYS[1], 'ranks_due', 0)"
        await self.scene.connection.client.eval(source, 1, self.scene.key("pace"))
        census = await self.scene.census()
        reading = await self.scene.store.read(0, 1, 0)
        ranks = Ranks.parse(reading.ranks)
        assert ranks.version == census.ranks
        before = self.board.ranks if self.board else None
        self.board = Board(census, ranks.under(before), before or Ranks.parse(""), self.scene.room.settings, 0.0)
        return self.board

    async def leave(self, gone: set[int]) -> None:
        going = sorted(gone & set(self.present))
        for start in range(0, len(going), 500):
            await self.scene.leave(*going[start : start + 500])
        self.present = [number for number in self.present if number not in gone]

    def rank(self, number: int, passed: int) -> int:
        """What ZRANK would say among the places above `passed`."""
        return bisect_right(self.present, number) - bisect_right(self.present, passed)


@pytest.fixture
async def line(valkey: RedisServer) -> AsyncIterator[Line]:
    connection = await open_redis(valkey.url, "state")
    scene = Scene(connection)
    await scene.open()
    for start in range(1, PLACES + 1, 500):
        await scene.join(*range(start, start + 500))
    yield Line(scene)
    await scene.erase()
    await connection.close()


def leavers(random: Random, present: list[int]) -> set[int]:
    """Some leave one by one, some in clumps: a link that was shared, a network that went down."""
    gone = set(random.sample(present, len(present) // 20))
    for _ in range(random.randint(1, 6)):
        start, length = random.randrange(len(present)), int(10 ** random.uniform(1, 3.7))
        gone |= set(present[start : start + length])
    return gone


@pytest.mark.parametrize("seed", range(2))
async def test_a_position_is_within_one_percent_and_never_grows(line: Line, seed: int) -> None:
    """Section 6: error <= max(1, 1 %) of the sorted set's own rank; a position never grows while places only leave."""
    random, shown = Random(seed), dict.fromkeys(range(1, PLACES + 1), PLACES)
    for _ in range(8):
        board = await line.read()
        sample = sorted({*line.present[:150], *random.sample(line.present, 3000), line.present[-1]})
        for number in sample:
            position, rank = board.position(number), line.rank(number, board.census.passed)
            assert abs(position - rank) <= max(1, 0.01 * rank + 0.5), f"{number}: {position}, in truth {rank}"
        watched = {number: board.position(number) for number in line.present[:: 7 + seed]}
        grown = {number: (shown[number], now) for number, now in watched.items() if now > shown[number]}
        assert not grown, f"{len(grown)} positions grew"
        shown |= watched
        await line.leave(leavers(random, line.present))


async def test_positions_do_not_grow_while_the_cursor_moves(line: Line) -> None:
    """Section 6: between boards the cursor moves on, and positions fall with it."""
    random, shown = Random(3), dict.fromkeys(range(1, PLACES + 1), PLACES)
    for _ in range(6):
        board = await line.read()
        watched = {number: board.position(number) for number in line.present[::50] if number > board.census.passed}
        assert all(now <= shown[number] for number, now in watched.items())
        shown |= watched
        await line.scene.run(1)
        await line.leave(leavers(random, line.present))
