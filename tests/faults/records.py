"""What gateways and Redis wrote down during a fault test, judged by the checker that `waitroom audit check` is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway.queue.record import read_file
from gateway.rules.audit import TITLES, Judged, judge, merge
from gateway.rules.events import entered, parse
from tests.faults.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Record:
    """Of one room: the union of the stream, as far as this Redis has it, and of all gateways' files."""

    judged: Judged
    entered: frozenset[str]  # ids in hex

    def said(self) -> str:
        """For the output of a test that failed."""
        judged = self.judged
        return f"{sum(judged.kinds.values())} events, {judged.verdict.name}, gaps {judged.gaps}, left out {judged.left_out}"

    def unknown(self, subjects: Iterable[str]) -> list[str]:
        """Who came in and is not in the record: nobody may be, unless an event is known to be missing."""
        return [] if self.judged.gaps else [one for one in subjects if one and UUID(one).hex not in self.entered]


def record_of(client: Any, room: str, files: Sequence[Path]) -> Record:
    """`client`: any of redis-py's. A file that is not there belongs to a gateway that caused nothing."""
    told = [read_file(file).rooms.get(room, []) for file in files if file.exists()]  # before the stream, which goes on
    stream = [parse(fields[b"e"]) for _, fields in client.xrange(f"waitroom:{{{room}}}:audit")]
    merged = merge(stream, *told)
    return Record(judge(merged), frozenset(one for event in merged.events for one in entered(event)))


def check_record(
    ledger: Ledger, record: Record, subjects: Iterable[str], *, is_whole: bool, others: Sequence[Record] = ()
) -> None:
    """A row for each promise that the record proves, and what is not in it; `is_whole`: no server died with its answers."""
    judged, known = record.judged, list(subjects)
    entries = judged.entries.total()
    tries = {1: entries, 2: entries, 3: judged.kinds["call"] + judged.kinds["claim"], 4: judged.kinds["join"]}
    found = [one for each in (record, *others) for one in each.judged.violations]
    for promise, title in TITLES.items():
        ledger.check(
            promise, f"{title}, by the record", tries[promise], [one for one in found if one.promise == promise]
        )
    if is_whole:
        ledger.check(4, "events missing from the record", sum(judged.kinds.values()), judged.gaps)
    conflicts = [seq for each in (record, *others) for seq in each.judged.conflicts]
    ledger.check(4, "events of one number with two stories", sum(judged.kinds.values()), conflicts)
    ledger.check(4, "entries that are not in the record", len(known), record.unknown(known))
