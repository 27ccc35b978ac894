"""What a run is judged by, as tables: places, admissions, told times, and the last words."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.demo.figures import DoorPass
from locustfiles.figures import Admission, Count, Figures, Lost, Place, Seat, Told, Wait, last_words, told_by
from locustfiles.waiting import Answer, Outcome

LEASED = Answer(200, {"waitroom-lease": "60"}, {})
HELD = Answer(429, {"waitroom-state": "waiting"}, {})


@pytest.mark.parametrize(
    ("statuses", "lost"),
    [
        ([{"number": 9, "position": 3}, {"number": 9, "position": 2}, {"number": 9, "position": 0}], None),
        ([{"number": 9, "position": 3}, {"number": 9, "position": 3}], None),
        ([{"number": 9}, {"number": 10}], Lost.NUMBER),
        ([{"number": None, "provisional": True}, {"number": 9, "position": 3}], None),
        ([{"number": 9, "position": 3}, {"number": None, "state": "admitted"}], None),
        ([{"number": 9, "position": 3}, {"number": 9, "position": 4}], Lost.POSITION),
        ([{"number": 9, "position": 3}, {"number": 9, "position": None}, {"number": 9, "position": 4}], Lost.POSITION),
        ([{"position": 3}, {"position": 4, "cause": {"code": "recovered"}}], None),
        ([{"position": 3, "stale": True}, {"position": 4, "stale": True}], None),
        ([{"position": 3, "stale": True}, {"position": 4, "stale": False}], Lost.POSITION),
        ([{"position": 3}, {"position": 4, "stale": True}], Lost.POSITION),
        # Of two gateways: an older picture says nothing, and the newer one still counts.
        ([{"position": 3, "as_of": "10.250Z"}, {"position": 4, "as_of": "10.000Z"}], None),
        ([{"position": 3, "as_of": "10.250Z"}, {"position": 4, "as_of": "10.250Z"}], Lost.POSITION),
        (
            [
                {"position": 3, "as_of": "10.250Z"},
                {"position": 4, "as_of": "10.000Z"},
                {"position": 4, "as_of": "10.500Z"},
            ],
            Lost.POSITION,
        ),
    ],
)
def test_a_place_is_lost_where_its_number_changes_or_its_position_grows(
    statuses: list[dict[str, Any]], lost: Lost | None
) -> None:
    """Promises 4 and 5; docs/http.md says which growth has a reason."""
    place = Place(Seat())
    found = [place.note(status) for status in statuses]
    assert found == [None] * (len(statuses) - 1) + [lost]


def test_tabs_share_their_number_and_not_their_positions() -> None:
    """Promise 4: answers to several tabs overtake each other, so positions are compared within one."""
    seat = Seat()
    one, other = Place(seat), Place(seat)
    assert one.note({"number": 9, "position": 3}) is None
    assert other.note({"number": 9, "position": 5}) is None
    assert other.note({"number": 10, "position": 5}) is Lost.NUMBER


@pytest.mark.parametrize(
    ("noted", "answer", "asked_s", "is_wrong"),
    [
        ([], HELD, 101, False),  # never admitted
        ([LEASED], HELD, 101, True),
        ([LEASED], Answer(200, {"waitroom-state": "waiting"}, {}), 101, True),
        ([LEASED], Answer(403, {}, {}), 101, True),
        ([LEASED], Answer(429, {}, {}), 101, True),
        ([LEASED, LEASED], HELD, 101, True),
        ([LEASED], Answer(200, {}, {}), 101, False),
        ([LEASED], Answer(502, {}, {}), 101, False),  # a failure, counted as one
        ([LEASED], HELD, 158, True),
        ([LEASED], HELD, 159.5, False),  # about to lapse, or lapsed
        ([LEASED], HELD, 161, False),
        ([LEASED], HELD, 99, False),  # sent by another tab before this one was let in
        ([LEASED, Answer(200, {"waitroom-lease": "0"}, {})], HELD, 101, False),  # released by the bank
    ],
)
def test_who_is_admitted_is_wrongly_refused(
    noted: list[Answer], answer: Answer, asked_s: float, is_wrong: bool
) -> None:
    """Promise 7, and 11: a lease of a minute, noted at second 100."""
    admission = Admission()
    for each in noted:
        admission.note(each, 100)
    assert admission.is_wrongly_refused(answer, asked_s) is is_wrong


@pytest.mark.parametrize(
    ("body", "until_s"),
    [
        ({"state": "admitted", "now": "2026-11-22T08:04:02Z", "lease_until": "2026-11-22T08:14:02.000Z"}, 605.0),
        ({"state": "admitted", "now": "2026-11-22T08:04:02Z", "lease_until": None}, 5.0),
        ({"state": "waiting", "now": "2026-11-22T08:04:02Z", "lease_until": "2026-11-22T08:14:02.000Z"}, 0.0),
    ],
)
def test_a_grant_says_until_when(body: dict[str, Any], until_s: float) -> None:
    admission = Admission()
    admission.note(Answer(200, {}, body), 5)
    assert admission.until_s == until_s


@pytest.mark.parametrize(
    ("eta", "told"),
    [({"p50_s": 17, "p90_s": 25.5}, Told(4, 17, 25.5)), (None, None), ({"p50_s": None, "p90_s": 1}, None)],
)
def test_a_told_time_is_remembered_with_its_moment(eta: Any, told: Told | None) -> None:
    assert told_by({"eta": eta}, 4) == told


def test_the_last_words_say_all_figures() -> None:
    counts: dict[str, int] = {
        Count.ARRIVED: 10,
        Count.ENTERED: 7,
        Outcome.SERVED: 6,
        Outcome.LEFT: 1,
        Outcome.TURNED_AWAY: 1,
    }
    counts |= {Count.TOLD: 4, Count.BY_P50: 2, Count.BY_P90: 3}
    figures = Figures(counts, {Wait.UNTIL_ENTRY: (3.2, 8.0)}, [[DoorPass(1, 0, 1)]], 0.04)
    rows = dict(figures.rows())
    assert rows["still under way"] == "2"
    assert rows["wait until entry"] == "p50 3.2 s, p90 8.0 s"
    assert rows["wait told as p50"] == "nobody"
    assert rows["entered by the told p50"] == "50% of 4"
    assert rows["entered by the told p90"] == "75% of 4"
    assert rows["wrongly refused"] == rows["lost places"] == "0"
    assert rows["overtaken at the door"] == "0 of 1 claims seen"
    assert all(name in last_words(figures) for name in rows)


@pytest.mark.parametrize(("lag_s", "overtaken"), [(0.0, 1), (2.0, 0)])
def test_who_stood_at_the_door_while_a_higher_number_went_in_was_overtaken(lag_s: float, overtaken: int) -> None:
    """Promise 3, as far as the crowd's clocks can tell: what its own lag could have made is not held against the door."""
    here = [DoorPass(1, 0.0, 3.0), DoorPass(2, 0.0, 1.5)]
    assert Figures({}, {}, [here], lag_s).overtaken == overtaken
    assert Figures({}, {}, [[seen] for seen in here], lag_s).overtaken == 0  # on two machines nobody can say
