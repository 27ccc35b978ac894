"""Owns the record of a run: a line for each request as it was answered, and one for each visit when it is over.

It is what Locust's rows cannot tell: who came when, was let in when, and what of the bank's work reached whom in which
second. Every process appends whole lines to one file. All times are the machine's monotonic clock, in seconds, which
processes of one machine share, the bank among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Final, TextIO

HELD: Final = "held"  # not failed, and not yet: the waiting page in its place, or the bank's own word before the hour


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `result` is '' when what was asked for came, HELD, or how it failed."""

    ended_s: float
    name: str
    result: str
    took_ms: float


@dataclass(slots=True)
class Visit:
    """One visit. Outcome '' is one that the end of the run cut short; what did not happen is None."""

    kind: str
    arrived_s: float
    outcome: str = ""
    entered_s: float | None = None
    ended_s: float | None = None
    number: int | None = None
    told_s: float | None = None  # when a time was first shown; then what it was
    told_p50_s: float | None = None
    told_p90_s: float | None = None
    claimed_s: float | None = None  # when the claim was sent that was granted, and when the grant came
    granted_s: float | None = None


@dataclass(slots=True)
class Recorded:
    """A whole run. `began_s` is when the crowd began to come."""

    began_s: float = 0.0
    requests: list[Asked] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)


class Record:
    """The file of one process, buffered: `flush` now and then."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._lines: list[str] = []

    def began(self, at_s: float) -> None:
        self._lines.append(json.dumps(["began", at_s]))

    def asked(self, request: Asked) -> None:
        self._lines.append(json.dumps(["asked", *astuple(request)]))

    def visited(self, visit: Visit) -> None:
        self._lines.append(json.dumps(["visit", *astuple(visit)]))

    def flush(self) -> None:
        """One write of whole lines: what other processes append never falls between."""
        lines, self._lines = self._lines, []
        if lines:
            self._file.write("\n".join(lines) + "\n")
            self._file.flush()

    def close(self) -> None:
        self.flush()
        self._file.close()


def read_record(lines: Iterable[str]) -> Recorded:
    """What all processes wrote, in order of time."""
    recorded = Recorded()
    for line in lines:
        match json.loads(line):
            case ["began", float() | int() as at_s]:
                recorded.began_s = at_s
            case ["asked", *fields]:
                recorded.requests.append(Asked(*fields))
            case ["visit", *fields]:
                recorded.visits.append(Visit(*fields))
            case other:
                raise ValueError(f"no line of a record: {other!r}")
    recorded.requests.sort(key=lambda request: request.ended_s)
    recorded.visits.sort(key=lambda visit: visit.arrived_s)
    return recorded
