"""The simulation at length: seeds that nobody has chosen, and the crowds that take minutes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import RedisServer
from tests.faults.scene import SEED, replayed
from tests.simulation.crowd import DirectConnection
from tests.simulation.scenes import walk
from tests.simulation.test_crowd import assert_served
from tests.simulation.test_model import RoomMachine

pytestmark = pytest.mark.faults

# How long it may take is up to who waits: 200 of each are five minutes on a small machine.
EXAMPLES = int(os.environ.get("WAITROOM_EXAMPLES", "200"))
STEPS = 300
# rate a second, burst, visitors, virtual seconds, the window of promise 6
CROWDS = [
    (1, 2, 2_000, 400, 60),
    (10, 10, 14_000, 260, 60),
    (50, 50, 40_000, 240, 60),
    (1_000, 1_000, 90_000, 25, 10),
    (1_000, 1_000, 240_000, 75, 60),
]


@pytest.fixture
def direct(valkey: RedisServer) -> Iterator[DirectConnection]:
    connection = DirectConnection(valkey.url)
    connection.delete("waitroom:*")  # other tests' rooms of the same name, with their credit
    yield connection
    connection.delete("waitroom:*")
    connection.shut()


def test_many_long_walks_keep_the_promises(direct: DirectConnection) -> None:
    """Promises 1 to 5: each walk has a seed of its own, counted up from the one that is printed."""
    for seed in range(SEED, SEED + EXAMPLES):
        with replayed(seed):
            walk(direct, seed, STEPS)
            direct.delete("waitroom:*")


def test_many_orders_of_events_break_no_promise(direct: DirectConnection) -> None:
    """Promises 1 to 5: what `tests/simulation` does with the same examples every time, with others each time."""
    RoomMachine.connection = direct
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with replayed(SEED) as seed:
        run_state_machine_as_test(hypothesis.seed(seed)(RoomMachine), settings=profile)


@pytest.mark.parametrize(("rate", "burst", "size", "seconds", "window_s"), CROWDS)
def test_large_crowds_are_served_at_the_rate_and_in_order(
    direct: DirectConnection, rate: int, burst: int, size: int, seconds: int, window_s: int
) -> None:
    """Promises 1, 3 and 6: to a thousand entries a second, and for minutes."""
    with replayed(SEED) as seed:
        asyncio.run(assert_served(direct, rate, burst, size, seconds, window_s, seed))
