"""The table at the end of `make faults`: what fails, or was not tried, cannot stand there as kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger, Row, table

ROOT = Path(__file__).parents[2]
SAMPLE = '''
import pytest
pytestmark = pytest.mark.faults

def test_kept(ledger):
    """Promise 1."""
    ledger.check(1, "entries", 1200)

def test_broken_and_settled(ledger):
    """Promise 4."""
    ledger.fault = "flush"
    ledger.check(4, "numbers given twice", 10, [7, 8])
    ledger.settle()

def test_stopped_before_its_checks(ledger):
    """Promises 5 and 8."""
    ledger.check(5, "places", 3)
    raise OSError

def test_without_a_ledger():
    """Promise 6."""
'''


def test_a_check_of_nothing_is_broken() -> None:
    ledger = Ledger("flush")
    ledger.check(1, "entries", 0)
    with pytest.raises(AssertionError, match="nothing was tried"):
        ledger.settle()
    with pytest.raises(AssertionError, match="nothing was checked"):
        Ledger("flush").settle()


def test_all_that_is_broken_is_told() -> None:
    ledger = Ledger("flush")
    ledger.check(1, "entries", 5)
    ledger.settle()
    ledger.check(4, "numbers given twice", 10, [7])
    ledger.check(5, "places lost", 10, range(9))
    with pytest.raises(AssertionError) as raised:
        ledger.settle()
    assert "numbers given twice: 1 of 10: 7" in str(raised.value)
    assert "places lost: 9 of 10: 0; 1; 2; 3; 4" in str(raised.value)


def test_the_table_is_sorted_and_added_up() -> None:
    lines = table([Row("11", "b", "x", 1, 0), Row("2", "a", "y", 2_000, 3)])
    assert [line.split() for line in lines[1:]] == [
        ["2", "a", "y", "2,000", "3"],
        ["11", "b", "x", "1", "0"],
        ["all", "2,001", "3"],
    ]


def test_a_run_prints_what_its_tests_wrote_down(tmp_path: Path) -> None:
    """Whatever fails stands as broken, also where the ledger was clean until then."""
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.faults.conftest", "-m", "faults", "-c", "/dev/null"]
    done = subprocess.run(
        [*command, "-W", "ignore", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    for row in (
        "1 kept entries 1,200 0",
        "4 flush numbers given twice 10 2",
        "5 stopped before its checks places 3 0",
        "5, 8 stopped before its checks the test as a whole 1 1",
        "6 without a ledger the test as a whole 1 0",
        "all 1,215 3",
    ):
        assert row in rows, done.stdout
