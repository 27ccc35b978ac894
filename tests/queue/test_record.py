"""The file that a gateway writes its events to: whole lines, whatever happens to the file meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.queue.record import RecordFile, read_file
from tests.rules.recorded import lived

EVENTS = lived().events


@pytest.fixture
def lost() -> list[str]:
    return []


def test_several_writers_share_a_file(tmp_path: Path, lost: list[str]) -> None:
    """The workers of a gateway: every line is one write, so none is torn by another."""
    file = tmp_path / "audit.jsonl"
    writers = [RecordFile(file, lost.append) for _ in range(3)]
    for i, event in enumerate(EVENTS):
        writers[i % 3].write("cashout", event)
    for writer in writers:
        writer.close()
    told = read_file(file)
    assert (told.rooms["cashout"], told.strange_lines, told.is_cut_short) == (EVENTS, 0, False)
    assert file.stat().st_mode & 0o777 == 0o600
    assert lost == []


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path, lost: list[str]) -> None:
    """logrotate: what comes after the move is in the new file, and together they are the record."""
    file, old = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    writer = RecordFile(file, lost.append)
    writer.write("cashout", EVENTS[0])
    file.rename(old)
    writer.write("cashout", EVENTS[1])
    file.unlink()
    writer.write("cashout", EVENTS[2])
    writer.close()
    assert read_file(old).rooms["cashout"] == EVENTS[:1]
    assert read_file(file).rooms["cashout"] == EVENTS[2:3]


def test_a_line_that_a_crash_cut_short_takes_no_other_with_it(tmp_path: Path, lost: list[str]) -> None:
    """The next one begins on a line of its own."""
    file = tmp_path / "audit.jsonl"
    writer = RecordFile(file, lost.append)
    for event in EVENTS[:2]:
        writer.write("cashout", event)
    writer.close()
    os.truncate(file, file.stat().st_size - 20)
    assert read_file(file).is_cut_short
    RecordFile(file, lost.append).write("cashout", EVENTS[2])
    told = read_file(file)
    assert told.rooms["cashout"] == [EVENTS[0], EVENTS[2]]
    assert (told.strange_lines, told.is_cut_short) == (1, False)


def test_what_cannot_be_written_is_counted_and_writing_goes_on_by_itself(tmp_path: Path, lost: list[str]) -> None:
    """A folder that is gone, then is back: each event between is told of, and no call fails."""
    folder = tmp_path / "audit"
    writer = RecordFile(folder / "audit.jsonl", lost.append)
    writer.write("cashout", EVENTS[0])
    writer.write("cashout", EVENTS[1])
    folder.mkdir()
    writer.write("cashout", EVENTS[2])
    writer.close()
    assert lost == ["cashout", "cashout"]
    assert read_file(folder / "audit.jsonl").rooms["cashout"] == EVENTS[2:3]
