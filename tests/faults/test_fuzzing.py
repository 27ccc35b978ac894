"""A hundred thousand odd requests before a real gateway, others each time: nobody gets in, and nothing is sent twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.scene import SEED, replayed
from tests.fuzz.search import started

CASES = int(os.environ.get("WAITROOM_CASES", "100000"))  # five minutes on a small machine
ROUND = 20_000  # a search of its own, since what hypothesis remembers of one grows


@pytest.mark.faults
def test_a_hundred_thousand_requests_get_past_no_promise(tmp_path: Path) -> None:
    """Promises 9, 10 and 13: targets, headers, cookies, tokens and bodies, from the seed that is printed."""
    with started(tmp_path) as search:
        for number in range(-(-CASES // ROUND)):
            with replayed(SEED):
                search.go(min(ROUND, CASES), SEED + number)
