"""Hypothesis before a running gateway: draws batches of requests by seed, and shrinks what breaks a promise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hypothesis
import uvloop
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import redis_server
from tests.fuzz.cases import CHOICES
from tests.fuzz.run import Run, opened

BATCH: Final = 20  # an example costs a millisecond by itself
# At least one case in so many must come to this: a run in which nobody passes keeps every promise and proves none.
PROVED: Final = {
    "admitted": 60,
    "unprotected": 20,
    "bypassed": 300,
    "answered": 20,
    "cut short": 100,
    "with a cookie": 100,
    "links": 50,
    "cross-site": 500,
    "repeated": 5000,
    "claimed": 10_000,
}


@dataclass(frozen=True, slots=True)
class Search:
    """A gateway in a loop that stands still between batches."""

    run: Run
    runner: asyncio.Runner

    def try_all(self, choices: Sequence[bytes]) -> None:
        self.runner.run(self.run.try_all(choices))

    def go(self, cases: int, seed: int) -> None:
        """So many cases of that seed; raises what broke a promise, with the plainest case that does."""
        one = st.binary(min_size=CHOICES, max_size=CHOICES)

        @hypothesis.seed(seed)
        @settings(
            max_examples=-(-cases // BATCH),
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(st.lists(one, min_size=BATCH, max_size=BATCH))
        def try_all(choices: Sequence[bytes]) -> None:
            self.try_all(choices)

        try_all()
        tally = self.run.tally
        assert tally["cases"] >= cases
        assert not {kind: tally[kind] for kind, one_in in PROVED.items() if tally[kind] < cases // one_in}, tally
        assert tally["asked anew"] <= cases // 100, tally


@contextmanager
def started(folder: Path) -> Iterator[Search]:
    server = redis_server("valkey")
    server.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            stack = AsyncExitStack()
            try:
                yield Search(runner.run(stack.enter_async_context(opened(server.url, folder))), runner)
            finally:
                runner.run(stack.aclose())
    finally:
        server.remove()
