"""The record of a run: what several processes wrote is read back whole, in order of time."""

from __future__ import annotations

from pathlib import Path

import pytest

from locustfiles.record import HELD, Asked, Record, Visit, read_record

EARLY = Asked(10.5, "page", HELD, 3.2)
LATE = Asked(12.5, "pay", "503", 1_000.0)
SERVED = Visit("Patient", 9.0, "served", 11.0, 12.0, 7, 9.5, 3, 5, 10.0, 10.5)
UNDER_WAY = Visit("App", 8.0)


def test_what_processes_wrote_in_turn_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "record"
    first, second = Record(path), Record(path)
    first.began(8.0)
    first.asked(LATE)
    second.asked(EARLY)
    second.visited(SERVED)
    second.flush()
    first.visited(UNDER_WAY)
    first.close()
    second.close()
    with path.open() as lines:
        recorded = read_record(lines)
    assert recorded.began_s == 8.0
    assert recorded.requests == [EARLY, LATE]
    assert recorded.visits == [UNDER_WAY, SERVED]


@pytest.mark.parametrize("line", ["[]", '["left", 1]', "{}"])
def test_a_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no line of a record"):
        read_record([line])
