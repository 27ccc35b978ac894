"""What the fault tests checked, how often, and what they found broken: the rows of the table at the end of `make faults`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

SHOWN: Final = 5  # of what was found broken, in a failure
HEAD: Final = ("promise", "fault", "checked", "tries", "broken")


@dataclass(frozen=True, slots=True)
class Row:
    promise: str
    fault: str
    checked: str
    tries: int
    broken: int


@dataclass(slots=True)
class Ledger:
    """One test's rows. A check of nothing counts as broken: it would hold whatever happened."""

    fault: str = ""
    rows: list[Row] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def check(self, promise: int, checked: str, tries: int, broken: Iterable[object] = ()) -> None:
        """`tries` chances to break the promise were looked at; `broken` are those that did."""
        wrong = list(broken) if tries > 0 else ["nothing was tried"]
        self.rows.append(Row(str(promise), self.fault, checked, tries, len(wrong)))
        if wrong:
            shown = "; ".join(str(one) for one in wrong[:SHOWN])
            self.found.append(f"promise {promise}, {checked}: {len(wrong)} of {tries}: {shown}")

    def settle(self) -> None:
        """Raises AssertionError with all that is broken, not with the first."""
        assert self.rows, "nothing was checked"
        assert not self.found, "\n".join([f"{self.fault}:", *self.found])


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of one table, by promise and fault, and what they add up to."""
    ordered = sorted(rows, key=lambda row: (int(row.promise) if row.promise.isdigit() else 99, row.fault, row.checked))
    cells = [HEAD, *((row.promise, row.fault, row.checked, f"{row.tries:,}", f"{row.broken:,}") for row in ordered)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    total = ("", "", "all", f"{sum(row.tries for row in rows):,}", f"{sum(row.broken for row in rows):,}")
    return [
        "  ".join(
            cell.rjust(width) if column > 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in [*cells, total]
    ]
