"""The judge of a record: everything that may be wrong with one is found, and what is right is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import PERMIT_UNITS
from gateway.rules.allowance import Windows
from gateway.rules.audit import Verdict, check, judge, merge, violations
from gateway.rules.events import SHAPES, Event, NotAnEvent, line, parse, read_line
from tests.rules.recorded import RATE, Record, lived


def test_a_life_without_a_fault_is_kept() -> None:
    """Promises 1 to 4: no false alarm, and the figures are those of the life."""
    judged = lived().judged()
    assert judged.violations == []
    assert judged.verdict is Verdict.KEPT
    assert (judged.first, judged.last, judged.gaps) == (1, len(lived().events), [])
    assert judged.entries == {"claim": 8, "instant": 1}
    assert judged.bypassed == {"static": 7, "10.0.0.0/8": 1}


# --- promise 1 -------------------------------------------------------------------------------------------------------


def crowded(record: Record, count: int) -> None:
    """So many numbers join and are called, and none has entered."""
    record.made()
    record.join(1, *range(1, count + 1))
    record.call(0, count)


def test_the_burst_may_enter_at_once_and_not_one_more() -> None:
    """Promise 1: rate x W + burst, to the last unit."""
    for count, broken in ((5, []), (6, [1])):
        record = Record()
        crowded(record, 10)
        record.claim(*range(1, count + 1))
        assert record.broken() == broken


def test_a_window_is_found_wherever_it_begins() -> None:
    """Promise 1: after a long quiet time, in the middle of a steady flow, the sixth beyond 10/s x 0.1 s + 5 is one too many."""
    record = Record()
    crowded(record, 40)
    for number in range(1, 21):
        record.wait(0.1).claim(number)
    record.claim(21, 22, 23, 24)
    assert record.broken() == []
    record.wait(0.05)
    record.claim(25)
    assert record.broken() == [1]


def test_a_changing_rate_counts_by_its_integral() -> None:
    """Promise 1: half a second at 10/s and half a second at 40/s allow 25 beside the burst."""
    for count, broken in ((25, []), (26, [1])):
        record = Record()
        record.limits["burst"] = 50
        crowded(record, 80)
        record.claim(*range(1, 51))
        record.wait(0.5)
        record.limits["rate"] = 4 * RATE
        record.tell("settings", **record.limits, stock=-1, version=2)
        record.wait(0.5)
        record.claim(*range(51, 51 + count))
        assert record.broken() == broken


def test_a_lowered_burst_holds_for_windows_that_begin_after_it() -> None:
    """Promise 1: the largest burst set in the window counts, and in no other."""
    record = Record()
    crowded(record, 40)
    record.limits["burst"] = 2
    record.tell("settings", **record.limits, stock=-1, version=2)
    record.wait(60)
    record.claim(1, 2, 3)
    assert record.broken() == [1]


def test_a_burst_that_was_larger_within_the_window_counts() -> None:
    """Promise 1: what entered while more was allowed is no violation afterwards."""
    record = Record()
    crowded(record, 40)
    record.claim(1, 2, 3, 4, 5)
    record.limits["burst"] = 2
    record.tell("settings", **record.limits, stock=-1, version=2)
    record.wait(0.2)
    record.claim(6, 7)
    assert record.broken() == []


def test_a_step_back_of_redis_time_is_no_violation_by_itself() -> None:
    """Promise 1: windows across the step are judged by the room's clock, which it does not move."""
    record = Record()
    crowded(record, 40)
    record.claim(1, 2, 3, 4, 5)
    record.wait(0.5, redis_s=-30)
    record.claim(6, 7, 8, 9, 10)
    judged = record.judged()
    assert (judged.violations, judged.steps_back) == ([], 1)


def test_a_room_clock_that_stands_earns_nothing() -> None:
    """Promise 1: a stall of which the clock knows nothing gives no credit on it."""
    record = Record()
    crowded(record, 40)
    record.claim(1, 2, 3, 4, 5)
    record.wait(0, redis_s=30)
    record.claim(6)
    assert record.broken() == [1]


def test_entries_into_a_paused_room_and_limits_that_nobody_set_are_found() -> None:
    """Promise 1: the door goes by what operators set."""
    record = Record()
    crowded(record, 10)
    record.tell("settings", **record.limits, paused=1, stock=-1, version=2)
    record.claim(1)
    assert record.broken() == [1]
    record = Record()
    crowded(record, 10)
    record.claim(1, rate=2 * RATE)
    assert record.broken() == [1]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 300_000), st.integers(0, 4), st.sampled_from([None, (18_000, 3), (36_000, 2), (36_000, 6)])
        ),
        max_size=12,
    )
)
def test_the_worst_window_is_that_of_all_windows(steps: list[tuple[int, int, tuple[int, int] | None]]) -> None:
    """Promise 1, against the definition itself: every window, its integral, and the largest burst set in it."""
    windows, limits = Windows(), [(0, (36_000, 5))]  # since when
    windows.limit(36_000, 5)
    at_us, entries, worst, expected = 0, [], -1e9, -1e9
    for wait_us, count, change in steps:
        at_us += wait_us
        windows.move(at_us)
        if change is not None:
            windows.limit(*change)
            limits.append((at_us, change))
        if count:
            entries.append((at_us, len(limits), count))
            worst = max(worst, windows.enter(count))
            expected = max(expected, *(_excess(limits, entries, first) for first in range(len(entries))))
    assert worst == pytest.approx(expected)


def _excess(limits: list[tuple[int, tuple[int, int]]], entries: list[tuple[int, int, int]], first: int) -> float:
    """Of the window from an entry to the last one; a change at its very start has happened or not as it did for the entry."""
    from_us, known, _ = entries[first]
    until_us = entries[-1][0]
    ends = [since_us for since_us, _ in limits[1:]] + [until_us]
    units = sum(
        rate * max(0, min(end, until_us) - max(since_us, from_us))
        for (since_us, (rate, _)), end in zip(limits, ends, strict=True)
    )
    burst = max(burst for i, (_, (_, burst)) in enumerate(limits) if i >= known - 1)
    return sum(count for _, _, count in entries[first:]) - units / PERMIT_UNITS - burst


# --- promise 2 -------------------------------------------------------------------------------------------------------


def test_an_entry_above_the_cap_is_found() -> None:
    """Promise 2: the last free slot may be taken, and no other."""
    for active, broken in ((99, []), (100, [2])):
        record = Record()
        crowded(record, 10)
        record.claim(1, active=active)
        assert record.broken() == broken


def test_a_door_that_counts_too_few_slots_is_found() -> None:
    """Promise 2: what the record knows to be taken must be among what the door counted."""
    record = Record()
    crowded(record, 10)
    record.claim(1, 2, 3)
    record.wait(1)
    record.claim(4, active=2)
    record.wait(10)
    record.tell("stock", left=1)
    assert record.broken() == [2]


def test_a_slot_that_had_lapsed_was_rightly_not_counted() -> None:
    """Promise 2: upkeep tells of it a moment later, with the time it ended."""
    record = Record()
    record.made()
    record.enter(1, 2)
    record.wait(30)
    ended_us = record.clock_us
    record.wait(0.05)
    record.enter(3, active=0)
    record.tell("upkeep", first=1, lapsed_at_us=[ended_us, ended_us], lapsed_ids=[1, 2])
    record.wait(10)
    record.tell("stock", left=1)
    assert record.broken() == []


def test_who_came_back_takes_a_slot_again() -> None:
    """Promise 2: an admission that outlived its slot counts once it is used."""
    record = Record()
    record.made()
    record.enter(1)
    record.wait(31)
    record.tell("upkeep", first=1, lapsed_at_us=[record.clock_us], lapsed_ids=[1])
    record.tell("back", back_ids=[1])
    record.wait(1)
    record.enter(2, active=0)
    record.wait(10)
    record.tell("stock", left=1)
    assert record.broken() == [2]


# --- promise 3 -------------------------------------------------------------------------------------------------------


def test_calls_go_up_from_where_the_cursor_stands() -> None:
    """Promise 3: a call out of order, and a cursor that jumped, are found."""
    record = Record()
    record.made()
    record.join(1, *range(1, 9))
    record.call(0, 4, [1, 3, 2])
    assert record.broken() == [3]
    record = Record()
    record.made()
    record.join(1, *range(1, 9))
    record.call(0, 4)
    record.call(2, 6)
    assert record.broken() == [3]


def test_the_lowest_at_the_door_enters_first() -> None:
    """Promise 3: a lower claim that stood there and kept no permit was overtaken, also in another batch."""
    record = Record()
    crowded(record, 9)
    record.claim(arrived=[4])
    record.wait(0.1)
    record.claim(5)
    assert record.broken() == [3]
    record = Record()
    crowded(record, 9)
    record.claim(arrived=[4])
    record.wait(0.1)
    record.claim(5, reserved=[4])
    record.claim(4, arrived=[])
    assert record.broken() == []
    record = Record()
    crowded(record, 9)
    record.claim(2, 1)
    assert record.broken() == [3]


def test_who_is_replaced_at_the_door_stands_there_no_more_by_that_number() -> None:
    """Promise 3: its older ticket goes on from its next call, of which nobody is told as come."""
    record = Record()
    crowded(record, 9)
    record.claim(arrived=[5])
    record.tell("join", seated=[20], seated_ids=[5], replaced=[5])
    record.wait(0.1)
    record.claim(6)
    assert 3 not in record.broken()


def test_only_a_claim_that_nobody_tries_may_be_overtaken() -> None:
    """Promise 3: half a second after it came at the earliest; who withdrew is not overtaken."""
    for wait_s, broken in ((0.4, [3]), (0.6, [])):
        record = Record()
        crowded(record, 9)
        record.claim(arrived=[4])
        record.wait(wait_s)
        record.claim(5, aside=[4])
        assert record.broken() == broken
    record = Record()
    crowded(record, 9)
    record.claim(arrived=[4])
    record.claim(5, gone_ids=[4])
    assert record.broken() == []


def test_nobody_enters_uncalled_or_past_the_line() -> None:
    """Promise 3: a number above the cursor at the door, an instant entry while somebody waits."""
    record = Record()
    record.made()
    record.join(1, 1, 2, 3)
    record.call(0, 1)
    record.claim(2)
    assert record.broken() == [3]
    record = Record()
    record.made()
    record.join(1, 1, 2, 3)
    record.call(0, 2)
    record.enter(9)
    assert record.broken() == [3]
    record = Record()
    record.made()
    record.enter(9, ahead=1)
    assert record.broken() == [3]


def test_nobody_enters_during_the_hold_after_a_loss() -> None:
    """Promise 3, after a loss: those who were there before get their time to be heard from."""
    record = Record()
    crowded(record, 9)
    record.seq += 9_999
    record.made(had=0, known=3, lost=1, next=10_010, passed=9, hold_us=120_000_000)
    record.wait(1)
    record.join(10_010, 77)
    assert record.broken() == [3]


# --- promise 4 -------------------------------------------------------------------------------------------------------


def _joined() -> Record:
    record = Record()
    crowded(record, 5)
    return record


PLACES: dict[str, Callable[[Record], Record]] = {
    "a number given twice": lambda record: record.join(5, 9),
    "a key that gets a second place": lambda record: record.join(6, 3),
    "a number used twice": lambda record: record.claim(1).claim(1, entered_ids=[8], arrived_ids=[8]),
    "a ticket used twice": lambda record: record.claim(1).enter(8, tickets=[1]),
    "an entry under another's number": lambda record: record.claim(1, entered_ids=[2]),
    "a second entry while the slot lasts": lambda record: (
        record.claim(1).join(6, 1).call(5, 6).claim(6, entered_ids=[1], arrived_ids=[1])
    ),
    "a spent number seated again": lambda record: record.claim(1).tell("join", first=6, seated=[1], seated_ids=[1]),
    "one number for two": lambda record: record.tell("join", first=6, seated=[2], seated_ids=[9]),
    "a spent place given up": lambda record: record.claim(1).tell("leave", places=[1], tickets=[1], left_ids=[1]),
    "numbers that go on too low after a loss": lambda record: record.made(known=3, lost=1, next=4, passed=5),
}


@pytest.mark.parametrize("fault", PLACES)
def test_what_breaks_one_key_one_place_one_entry_is_found(fault: str) -> None:
    """Promise 4: each of these is told, and without it nothing is."""
    record = _joined()
    assert record.broken() == []
    PLACES[fault](record)
    assert record.broken() == [4]


def test_an_older_ticket_takes_the_place_and_the_newer_number_is_used_up() -> None:
    """Promise 4: a place that is replaced is one place; its other number is spent."""
    record = _joined()
    record.tell("heal", known=3, next=10_004, passed=5, **record.limits)
    record.join(10_004, 2)
    record.tell("join", first=10_005, seated=[2], seated_ids=[2], replaced=[10_004])
    assert record.broken() == []
    record.claim(10_004, arrived=[], entered_ids=[2])
    assert 4 in record.broken()


def test_an_old_ticket_may_be_seated_before_its_use_is_known_again_and_never_used() -> None:
    """Promise 4: after a loss each gateway tells which numbers were spent, the first of them a moment before the others."""
    record = Record()
    crowded(record, 9)
    record.claim(1)
    before = record.seq
    record.seq += 10_000
    record.made(known=before, lost=1, next=20_000, passed=9)
    record.tell("join", seated=[1], seated_ids=[1])
    assert record.broken() == []
    record.wait(130)
    record.claim(1)
    assert 4 in record.broken()


# --- what is missing ---------------------------------------------------------------------------------------------------


def test_a_gap_cannot_be_judged_and_raises_no_false_alarm() -> None:
    """Promises 1 to 4: whatever single event is missing, the rest is not blamed for it, and the gap is named."""
    whole = lived().events
    for missing in whole[1:-1]:
        judged = check([event for event in whole if event is not missing])
        assert judged.violations == []
        assert judged.gaps == [(missing.seq, missing.seq)]
        assert judged.verdict is Verdict.UNDECIDED


def test_a_record_may_begin_anywhere() -> None:
    """A stream is cut at its end: what is left is judged, and no event is called missing."""
    whole = lived().events
    for first in range(len(whole)):
        judged = check(whole[first:])
        assert (judged.verdict, judged.gaps) == (Verdict.KEPT, [])


def test_a_broken_promise_outweighs_a_gap() -> None:
    record = _joined()
    record.seq += 5
    record.claim(1, active=100)
    assert record.judged().verdict is Verdict.BROKEN


def test_what_a_heal_leaves_out_is_no_gap_but_what_it_knew_of_is() -> None:
    """Promise 4: numbers it proves were given are missed; those it jumps over were never told to anybody."""
    record = Record()
    record.made()
    record.seq = 10_005
    record.made(known=6, lost=1, next=10_000)
    judged = record.judged()
    assert (judged.gaps, judged.left_out) == ([(2, 6)], [(7, 10_005)])
    record = Record()
    record.made()
    record.seq = 10_000
    record.made(known=1, lost=1, next=10_000)
    judged = record.judged()
    assert (judged.gaps, judged.left_out, judged.verdict) == ([], [(2, 10_000)], Verdict.KEPT)


def test_sources_are_merged_by_number_and_two_stories_are_told() -> None:
    """A stream and files tell the same event twice; two masters, or a room that began anew, tell two of one number."""
    whole = lived().events
    judged = check(whole[::2], whole[1::2], whole[:9])
    assert (judged.verdict, judged.last) == (Verdict.KEPT, len(whole))
    other = replace(whole[3], clock_us=whole[3].clock_us + 1)
    merged = merge(whole, [other])
    assert merged.conflicts == [other.seq]
    assert judge(merged).verdict is Verdict.UNDECIDED


def test_nothing_cannot_be_judged() -> None:
    assert check().verdict is Verdict.UNDECIDED
    assert list(violations([])) == []


def test_violations_come_as_they_are_found() -> None:
    """For tests of others: an iterator over any iterable of events."""
    record = _joined()
    record.claim(1, active=100)
    (one,) = violations(iter(record.events))
    assert (one.promise, one.seq) == (2, record.seq)
    assert str(one).startswith(f"promise 2 (cap), event {record.seq}, 2027-01-15T08:00:00.000000Z: ")


# --- how events are written ----------------------------------------------------------------------------------------------


def test_an_event_survives_its_line() -> None:
    for event in lived().events:
        assert read_line(line("cashout", event)) == ("cashout", event)


ONE, OTHER, THIRD = b"aaaaaaaaaaaaaaaa", b"b;b c;d; \n\x00\xff;; b", b"cccccccccccccccc"
TOLD = b"claim 12 1800000000000000 61000000 1 36000 5 100 3 600000000;7 9;7;;;" + ONE + OTHER + ONE + THIRD


def test_what_a_script_tells_is_read_whatever_bytes_an_id_has() -> None:
    event = parse(TOLD)
    assert event == Event(
        12,
        "claim",
        1_800_000_000_000_000,
        61_000_000,
        1,
        {"rate": 36_000, "burst": 5, "active_max": 100, "active": 3, "lease_us": 600_000_000},
        {"arrived": (7, 9), "entered": (7,), "reserved": (), "aside": ()},
        {"arrived": (ONE.hex(), OTHER.hex()), "entered": (ONE.hex(),), "gone": (THIRD.hex(),)},
    )
    assert parse(b"settings 3 1 2 1 36000 5 100 0 -1 2;sre; the 2nd").text == "sre; the 2nd"
    assert set(SHAPES) >= {"join", "call", "claim", "enter", "release", "heal", "settings", "bypass"}


@pytest.mark.parametrize("length", range(len(TOLD)))
def test_a_text_that_is_cut_short_is_no_other_event(length: int) -> None:
    """At every byte: refused, or it is plain that what stands there is less."""
    try:
        event = parse(TOLD[:length])
    except NotAnEvent:
        return
    assert event.ids["gone"] == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"{}",
        b"[]",
        b"nonsense",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"room":"a","seq":"1","kind":"stock","at_us":1,"clock_us":1,"epoch":1,"left":1}',
        b'{"room":"a","seq":1,"kind":"dance","at_us":1,"clock_us":1,"epoch":1}',
        b'{"room":7,"seq":1,"kind":"stock","at_us":1,"clock_us":1,"epoch":1,"left":1}',
        b'{"room":"a","seq":1,"kind":["stock"],"at_us":1,"clock_us":1,"epoch":1,"left":1}',
        b'{"room":"a","seq":1,"kind":"release","at_us":1,"clock_us":1,"epoch":1,"freed":1,"released_ids":["zz"]}',
        b'{"room":"a","seq":1,"kind":"join","at_us":1,"clock_us":1,"epoch":1,"first":1,"count":2}',
    ],
)
def test_foreign_lines_are_refused_with_a_sentence(text: bytes) -> None:
    with pytest.raises(NotAnEvent, match="line"):
        read_line(text)
