"""Who begins in a turn of the loop, who is held back, who is shed, and in which order: told without sockets and without time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gateway.web import turns
from gateway.web.turns import (
    AT_ONCE_MAX,
    BYTES_MAX,
    COUNTED_MAX,
    JOINS_MAX,
    OTHERS_S,
    REFUSED_MAX,
    SLICE,
    SLICE_ALONE,
    TURN_MAX,
    Flow,
    Turns,
)

CROWD, JOIN, INSIDE, CALM, OTHER, UNTOLD = "sale crowd", "sale joins", "sale inside", "calm crowd", "not protected", ""


@dataclass(eq=False)
class Asker:
    """One connection, and what became of its request."""

    bytes_of: bytes
    fate: list[str] = field(default_factory=list)
    story: list[Asker] = field(default_factory=list)
    flow: Flow | None = None

    def go_on(self, data: bytes) -> None:
        assert data == self.bytes_of
        self.fate.append("begun")
        self.story.append(self)

    def refuse(self, data: bytes, answer: bytes) -> None:
        assert (data, answer) == (self.bytes_of, b"503")
        self.fate.append("refused")
        self.story.append(self)


class Loop:
    """A loop of which each turn is asked for."""

    def __init__(self) -> None:
        self.turn = 0.0
        self.due: list[Callable[[], None]] = []
        self.refused = 0
        self.flows = {name: Flow(name) for name in (CROWD, INSIDE, CALM, OTHER, UNTOLD)}
        self.flows[JOIN] = Flow(JOIN, self._refusal)
        self.turns = Turns(self._flow_of, self.due.append, lambda: self.turn)
        self.story: list[Asker] = []  # in the order of what became of them

    def _flow_of(self, data: bytes) -> Flow:
        return self.flows[data.decode()]

    def _refusal(self, _data: bytes) -> bytes:
        self.refused += 1
        return b"503"

    def ask(self, flow: str, count: int = 1) -> list[Asker]:
        askers = [Asker(flow.encode(), story=self.story) for _ in range(count)]
        for one in askers:
            one.flow = self.turns.hold(one, one.bytes_of) if self.turns.is_beyond() else None
            if one.flow is None:
                one.go_on(one.bytes_of)
        return askers

    def next_turn(self) -> list[Asker]:
        """What it brought to an end."""
        before = len(self.story)
        self.turn += 0.001
        due, self.due[:] = list(self.due), []
        for call in due:
            call()
        return self.story[before:]


def fates(askers: list[Asker]) -> Counter[str]:
    return Counter(one.fate[0] if one.fate else "held" for one in askers)


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_a_gateway_without_a_flood_holds_nothing_back(loop: Loop) -> None:
    """Promise 15: what one loop can do in a moment is not sorted, and no turn is asked for."""
    for _ in range(5):
        assert fates(loop.ask(CROWD, TURN_MAX)) == {"begun": TURN_MAX}
        loop.next_turn()
    assert loop.due == []
    for _ in range(5 * TURN_MAX // (COUNTED_MAX - 1)):
        assert fates(loop.ask(CROWD, COUNTED_MAX - 1)) == {"begun": COUNTED_MAX - 1}
        loop.next_turn()


def test_turns_are_told_apart_by_the_loop_and_not_by_time(loop: Loop) -> None:
    """Promise 12: uvloop's clock goes on within a turn, and on a slow machine faster than requests begin."""
    for _ in range(TURN_MAX):
        assert fates(loop.ask(CROWD)) == {"begun": 1}
        loop.turn += 1.0
    assert fates(loop.ask(CROWD, 2 * AT_ONCE_MAX)) == {"begun": AT_ONCE_MAX, "held": AT_ONCE_MAX}


def test_a_flood_begins_a_few_a_turn_and_everybody_elses_at_once(loop: Loop) -> None:
    """Promise 12: the flood's sockets are all ready before the quiet room's, which go before it."""
    flood = loop.ask(CROWD, 320)
    assert fates(flood) == {"begun": TURN_MAX + AT_ONCE_MAX, "held": 320 - TURN_MAX - AT_ONCE_MAX}
    for flow in (CALM, OTHER, INSIDE):
        assert fates(loop.ask(flow, AT_ONCE_MAX)) == {"begun": AT_ONCE_MAX}
    for _ in range(5):
        assert len(loop.next_turn()) == SLICE
        assert fates(loop.ask(CROWD, 20)) == {"held": 20}
        assert fates(loop.ask(CALM, AT_ONCE_MAX)) == {"begun": AT_ONCE_MAX}


def test_a_flow_is_served_in_order_and_nobody_twice(loop: Loop) -> None:
    """Held back is not forgotten: each goes on once, the oldest first, and then the loop rests."""
    flood = loop.ask(CROWD, 100)
    flood += loop.ask(CROWD, 50)
    while loop.due:
        loop.next_turn()
    assert loop.story == flood
    assert all(one.fate == ["begun"] for one in flood)
    assert len(loop.turns) == 0
    assert fates(loop.ask(CROWD, TURN_MAX)) == {"begun": TURN_MAX}


def test_flows_take_turns(loop: Loop) -> None:
    """Promise 12: two floods and a third that came last have equal parts of every turn."""
    for flow, count in ((CROWD, 400), (JOIN, 400), (CALM, 200)):
        loop.ask(flow, count)
    loop.story.clear()
    for _ in range(9):
        assert len({one.bytes_of for one in loop.next_turn()}) == 1, "joins of one turn are one call to Redis"
    assert set(Counter(one.bytes_of for one in loop.story).values()) == {3 * SLICE}


def test_a_turn_goes_on_to_the_next_flow_where_one_has_too_little(loop: Loop) -> None:
    """Many small floods fill a turn as one does."""
    loop.ask(CROWD, TURN_MAX)
    for flow in (CROWD, JOIN, CALM, OTHER):
        loop.ask(flow, AT_ONCE_MAX + SLICE // 4)
    assert len(loop.next_turn()) == SLICE
    assert len(loop.turns) == 0


def test_a_flood_alone_has_longer_turns_until_somebody_comes(loop: Loop) -> None:
    """Promise 12 costs the flood only while there is somebody whom it is for."""
    loop.ask(CROWD, 100 * SLICE_ALONE)
    assert len(loop.next_turn()) == SLICE_ALONE
    loop.ask(CALM)
    while loop.turn < OTHERS_S:
        assert len(loop.next_turn()) == SLICE
    loop.turn += OTHERS_S
    assert len(loop.next_turn()) == SLICE_ALONE


def test_new_joins_are_shed_the_newest_first_while_the_oldest_get_in(loop: Loop) -> None:
    """Issue 4, overload: prebuilt refusals, some a turn, until no more than the limit are held back."""
    joins = loop.ask(JOIN, TURN_MAX + AT_ONCE_MAX + JOINS_MAX + 2 * SLICE_ALONE + 3 * REFUSED_MAX)
    held = [one for one in joins if not one.fate]
    for turn in range(3):
        done = loop.next_turn()
        refused = [one for one in done if one.fate == ["refused"]]
        assert refused == held[: -turn * REFUSED_MAX or None][: -REFUSED_MAX - 1 : -1][:REFUSED_MAX]
        assert [one for one in done if one.fate == ["begun"]] == held[turn * SLICE_ALONE : (turn + 1) * SLICE_ALONE]
    while loop.due:
        loop.next_turn()
    assert fates(joins)["held"] == 0
    assert loop.refused == fates(joins)["refused"] > 0


@pytest.mark.parametrize("flow", [CROWD, INSIDE, OTHER])
def test_nothing_but_new_joins_is_shed(loop: Loop, flow: str) -> None:
    """Issue 4, overload: never admitted traffic, nor a poll, however much is held back and whatever is shed meanwhile."""
    others = loop.ask(flow, 4 * JOINS_MAX)
    joins = loop.ask(JOIN, 2 * JOINS_MAX)
    while loop.due:
        loop.next_turn()
    assert fates(others) == {"begun": 4 * JOINS_MAX}
    assert fates(joins)["refused"] > 0


def test_a_flood_of_refusals_leaves_the_loop_its_work(loop: Loop) -> None:
    """Who is refused and comes again at once does not keep the others from their turns."""
    crowd = loop.ask(CROWD, 200)
    joins = loop.ask(JOIN, 3 * JOINS_MAX)
    for _ in range(50):
        done = loop.next_turn()
        assert len(done) <= SLICE_ALONE + REFUSED_MAX
        joins += loop.ask(JOIN, len(done))
    assert fates(crowd) == {"begun": 200}
    assert fates(joins)["begun"] >= 25 * SLICE


def test_who_goes_away_is_forgotten(loop: Loop) -> None:
    """A client that leaves frees its place and its bytes."""
    flood = loop.ask(CROWD, TURN_MAX + AT_ONCE_MAX + 2)
    for one in flood[-2:]:
        assert one.flow is not None
        loop.turns.forget(one.flow, one)
    assert (len(loop.turns), loop.turns._bytes) == (0, 0)
    loop.next_turn()
    assert fates(flood[-2:]) == {"held": 2}
    assert loop.due == []


def test_the_rest_of_a_request_is_added_to_it(loop: Loop) -> None:
    """A body in a segment of its own belongs to what is held back."""
    *_, last = loop.ask(CROWD, TURN_MAX + AT_ONCE_MAX + 1)
    more = b" and more"
    assert last.flow is not None
    assert loop.turns.add(last.flow, last, more)
    last.bytes_of += more
    loop.next_turn()
    assert last.fate == ["begun"]
    assert loop.turns._bytes == 0


def test_bytes_held_back_are_bounded(loop: Loop) -> None:
    """Beyond the bound requests begin, as they would have without anybody who holds them back."""
    *_, last = loop.ask(CROWD, TURN_MAX + AT_ONCE_MAX + 1)
    assert last.flow is not None
    assert loop.turns.is_full(BYTES_MAX)
    assert not loop.turns.is_full(turns.ONE_BYTES_MAX)
    more = bytes(BYTES_MAX - len(last.bytes_of))
    loop.turns.add(last.flow, last, more)
    assert loop.turns.is_full(1)
    assert fates(loop.ask(CROWD, 10)) == {"begun": 10}
    assert loop.turns.forget(last.flow, last) == last.bytes_of + more
    assert not loop.turns.is_full(BYTES_MAX)


def test_what_begins_with_more_than_is_kept_of_one_begins_at_once(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read may bring that much."""
    monkeypatch.setattr(turns, "ONE_BYTES_MAX", len(CROWD) - 1)
    assert fates(loop.ask(CROWD, 100)) == {"begun": 100}


def test_one_that_fails_does_not_end_the_turns_of_the_others(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever one request brings up, nobody waits for ever."""
    flood = loop.ask(CROWD, 80)
    first = next(one for one in flood if not one.fate)

    def fail(_data: bytes) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(first, "go_on", fail)
    with pytest.raises(RuntimeError, match="planted"):
        loop.next_turn()
    while loop.due:
        loop.next_turn()
    assert fates([one for one in flood if one is not first]) == {"begun": 79}


def test_the_limits_fit_one_another() -> None:
    """A slice is no more than a turn without a flood, and refusals are no more than answers."""
    assert turns.SLICE <= turns.TURN_MAX <= turns.SLICE_ALONE
    assert turns.REFUSED_MAX <= turns.SLICE
    assert turns.AT_ONCE_MAX <= turns.SLICE


def test_a_long_body_is_read_no_further_while_it_is_held_back(loop: Loop) -> None:
    """Issue 4, overload: what one connection may have here is bounded, too."""
    *_, last = loop.ask(CROWD, TURN_MAX + AT_ONCE_MAX + 1)
    assert last.flow is not None
    assert loop.turns.add(last.flow, last, bytes(turns.ONE_BYTES_MAX - len(last.bytes_of)))
    assert not loop.turns.add(last.flow, last, b"x")
