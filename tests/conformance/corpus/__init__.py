"""The cases by what they try: request lines, fields, framing, semantics, connections, answers; `CASES` has all of them."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import Case
from tests.conformance.corpus import answers, bodies, connections, fields, framing, lines, semantics

CASES: Final[tuple[Case, ...]] = (
    *lines.CASES,
    *fields.CASES,
    *framing.CASES,
    *bodies.CASES,
    *semantics.CASES,
    *connections.CASES,
    *answers.CASES,
)
assert len({case.name for case in CASES}) == len(CASES), "a name is given twice"
