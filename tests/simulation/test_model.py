"""Model and server driven alike by hypothesis: whatever order things happen in, promises 1 to 5 hold after every step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.conftest import RedisServer
from tests.simulation.crowd import DirectConnection
from tests.simulation.scenes import walk
from tests.simulation.twin import GATEWAYS, SETTINGS, VISITORS, Twin

EXAMPLES = 25  # quick, and the same on every machine; `tests/faults` tries others, and many

visitor = st.integers(0, VISITORS - 1)
visitors = st.lists(visitor, min_size=1, max_size=10, unique=True)
gateway = st.integers(0, GATEWAYS - 1)


class RoomMachine(RuleBasedStateMachine):
    """The calls of several gateways in any order; `is_lost` runs a call twice, as after an answer that got lost."""

    connection: DirectConnection

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(self.connection)

    @rule(who=visitors, gateway=gateway, is_lost=st.booleans())
    def join(self, who: list[int], gateway: int, *, is_lost: bool) -> None:
        self.twin.join(who, gateway=gateway, is_lost=is_lost)

    @rule(who=visitor, which=st.integers(-1, 1), gateway=gateway, is_lost=st.booleans())
    def show_ticket(self, who: int, which: int, gateway: int, *, is_lost: bool) -> None:
        self.twin.show_ticket(who, which, gateway=gateway, is_lost=is_lost)

    @rule(who=visitors, withdrawn=st.lists(visitor, max_size=2), gateway=gateway, is_lost=st.booleans())
    def claim(self, who: list[int], withdrawn: list[int], gateway: int, *, is_lost: bool) -> None:
        self.twin.claim(who, gateway=gateway, withdrawn=tuple(withdrawn), is_lost=is_lost)

    @rule(who=visitor, with_ticket=st.booleans(), is_lost=st.booleans())
    def enter(self, who: int, *, with_ticket: bool, is_lost: bool) -> None:
        self.twin.enter(who, with_ticket=with_ticket, is_lost=is_lost)

    @rule(who=visitor, is_lost=st.booleans())
    def leave(self, who: int, *, is_lost: bool) -> None:
        self.twin.leave(who, is_lost=is_lost)

    @rule(who=visitor)
    def touch(self, who: int) -> None:
        self.twin.touch(who)

    @rule(who=visitor)
    def release(self, who: int) -> None:
        self.twin.release(who)

    @rule(which=st.integers(0, len(SETTINGS) - 1), is_lost=st.booleans())
    def change(self, which: int, *, is_lost: bool) -> None:
        self.twin.change(which, is_lost=is_lost)

    @rule(void_admissions=st.booleans(), is_lost=st.booleans())
    def reset(self, *, void_admissions: bool, is_lost: bool) -> None:
        self.twin.reset(void_admissions=void_admissions, is_lost=is_lost)

    @rule(is_back=st.booleans())
    def flush(self, *, is_back: bool) -> None:
        self.twin.flush()
        if is_back:
            self.twin.come_back()
            self.twin.run(25)

    @rule(steps=st.integers(1, 15), is_down=st.booleans())
    def run_on(self, steps: int, *, is_down: bool) -> None:
        self.twin.run(steps, is_down=is_down)

    @rule(steps=st.integers(10, 60))
    def run_long(self, steps: int) -> None:
        self.twin.run(steps, step_us=500_000)

    @rule(by_us=st.sampled_from((-3_600_000_000, -5_000_000, 500_000, 2_000_000, 3_600_000_000)))
    def stall(self, by_us: int) -> None:
        self.twin.stall(by_us)

    def teardown(self) -> None:
        """The record of each example, by the checker that `waitroom audit check` is."""
        self.twin.audit()

    @invariant()
    def places_are_the_models(self) -> None:
        self.twin.compare()


@pytest.fixture(scope="module")
def direct(valkey: RedisServer) -> Iterator[DirectConnection]:
    connection = DirectConnection(valkey.url)
    connection.delete("waitroom:*")  # other tests' rooms of the same name, with their credit
    yield connection
    connection.delete("waitroom:*")
    connection.shut()


def test_no_order_of_events_breaks_a_promise(direct: DirectConnection) -> None:
    """Promises 1 to 5: rate, cap, order, one key one place one entry, and no place lost, over gateways, losses and retries."""
    RoomMachine.connection = direct
    profile = settings(
        max_examples=EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(RoomMachine, settings=profile)


def test_long_walks_keep_the_promises(direct: DirectConnection) -> None:
    """Promises 1 to 5, over walks longer than hypothesis would make them, which must have seen entries and losses."""
    twins = [walk(direct, seed, 300) for seed in range(3)]
    assert sum(len(twin.model.history.entries) for twin in twins) > 60
    assert max(twin.model.next for twin in twins) > 10_000, "a flush made a gap"
