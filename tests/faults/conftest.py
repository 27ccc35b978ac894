"""Gives each fault test its ledger, and prints all of them as one table when the run ends."""

from __future__ import annotations

from collections.abc import Generator
from inspect import getdoc

import pytest

from tests.faults.ledger import Ledger, Row, table
from tests.test_promises import numbers_in

LEDGER = pytest.StashKey[Ledger]()
ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Of this test; its name is the fault's until the test says better."""
    made = Ledger(title(request.node))
    request.node.stash[LEDGER] = made
    return made


def title(item: pytest.Item) -> str:
    return item.name.removeprefix("test_").replace("_", " ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    is_long = item.get_closest_marker("faults") is not None
    if is_long and (report.when == "call" or report.failed):
        item.config.stash.setdefault(ROWS, []).extend(rows_of(item, report))
    return report


def rows_of(item: pytest.Item, report: pytest.TestReport) -> list[Row]:
    """What the test wrote down; one that failed with a clean ledger, or has none, stands as a whole."""
    kept = item.stash.get(LEDGER, None)
    rows = kept.rows if kept is not None and report.when == "call" else []
    if rows and (report.passed or any(row.broken for row in rows)):
        return rows
    promises = sorted(numbers_in(getdoc(getattr(item, "function", None)) or ""))
    whole = Row(", ".join(map(str, promises)) or "-", title(item), "the test as a whole", 1, int(report.failed))
    return [*rows, whole]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("promises under fault")
        for line in table(rows):
            terminalreporter.write_line(line)
