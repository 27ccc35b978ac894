"""What a gateway remembers of spent numbers, and how much of it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from gateway.model import Memory, SettingsRecord
from gateway.queue import spent
from gateway.queue.spent import PIECE, Spent
from gateway.queue.statefile import StateFile


def test_every_number_added_is_found_again_and_no_other() -> None:
    """Promise 4: a number that was spent here is told to a Redis that lost it, and no number that was not."""
    dice, memory = Random(1), Spent(10_000)
    added = {dice.randrange(1, 50_000) for _ in range(3_000)} | {PIECE - 1, PIECE, PIECE + 1}
    for number in [*added, *added]:
        memory.add(number)
    assert set(memory) == added
    assert len(memory) == len(added) == len(list(memory))
    assert all((number in memory) == (number in added) for number in range(50_001))


def test_the_oldest_numbers_are_forgotten_and_the_newest_kept() -> None:
    """A limit on everything: no more than so many numbers, whatever their order."""
    memory = Spent(5 * PIECE)
    for number in range(20 * PIECE):
        memory.add(number)
        assert len(memory) <= 5 * PIECE
    assert set(memory) == set(range(16 * PIECE, 20 * PIECE)) or set(memory) == set(range(15 * PIECE, 20 * PIECE))


def test_numbers_far_apart_cost_no_more_than_the_pieces_allowed() -> None:
    """A limit on everything: leavers all over a long line do not take a piece each for ever."""
    memory = Spent(1_000_000)
    for number in range(2 * spent.PIECES_MAX):
        memory.add(number * PIECE)
    assert len(memory) == spent.PIECES_MAX
    assert 0 not in memory
    assert (2 * spent.PIECES_MAX - 1) * PIECE in memory


def test_a_cleared_memory_is_empty() -> None:
    """A reset voids the numbers of the epoch before."""
    memory = Spent(10)
    memory.add(7)
    memory.clear()
    assert 7 not in memory
    assert not len(memory)
    assert list(memory) == []


def test_what_a_state_file_keeps_comes_back_with_what_was_added_meanwhile() -> None:
    """Promise 4: a used number is used, whoever remembered it."""
    before, after = Spent(100), Spent(100)
    for number in (1, 5_000, 1_023):
        before.add(number)
    after.add(1)
    after.add(2)
    after.recall(before.pieces())
    assert sorted(after) == [1, 2, 1_023, 5_000]
    assert len(after) == 4


@pytest.mark.parametrize(
    "kept", [{"-1": "1"}, {"1": "0"}, {"0": "1" + "0" * 256}, {"x": "1"}, {"1": "y"}, {"2097152": "1"}, 7]
)
def test_a_state_file_with_numbers_that_are_none_counts_as_none(tmp_path: Path, kept: object) -> None:
    """Promise 4: Redis would refuse them at each try to heal."""
    StateFile(tmp_path, "sale").save(Memory(), SettingsRecord(0, {}, {}), {0: 6})
    assert StateFile(tmp_path, "sale").load() == (Memory(), None, {0: 6})
    file = tmp_path / "sale.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"spent": kept}))
    assert StateFile(tmp_path, "sale").load() is None
