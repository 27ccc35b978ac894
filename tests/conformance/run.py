"""Runs the corpus before a program: what takes a time-out side by side, all else one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from tests.conformance.case import Case, Observation
from tests.conformance.client import observe
from tests.conformance.programs import OPEN, Program
from tests.conformance.upstream import Record

TRIES_MORE: Final = 2
Seen = tuple[Observation, Record, bytes]


def nobody() -> bytes:
    return b""


async def run(
    program: Program,
    cases: Iterable[Case],
    folder: bytes = OPEN,
    admit: Callable[[], bytes] = nobody,
    expected: Callable[[Case], set[str]] | None = None,
) -> dict[str, Seen]:
    """Every case by its name, placed on routes of this folder and let in by the lines that `admit` makes.

    One that was not as `expected` is tried again, alone: on a busy machine the time-outs of a second may be too short. That
    something leaked or was lost is no matter of time.
    """
    placed = [case.placed(folder, admit()) for case in cases]
    slow = [case for case in placed if case.is_slow]
    found = await asyncio.gather(*(observe(case, program.port, program.upstream) for case in slow))
    await program.upstream.settle()
    seen = {case.name: one for case, one in zip(slow, found, strict=True)}
    for case in placed:
        if not case.is_slow:
            seen[case.name] = await observe(case, program.port, program.upstream)
    for case in placed:
        for _ in range(TRIES_MORE):
            if expected is None or seen[case.name][0].text in expected(case) or seen[case.name][0].marks:
                break
            seen[case.name] = await observe(case, program.port, program.upstream)
            await program.upstream.settle()
    return seen
