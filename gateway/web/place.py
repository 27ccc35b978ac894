"""Makes what a visitor is told: the *status* document of a place, and the public board (`design.md` sections 6 and 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.model import Admission, Cause, Code, RoomState, Standing, Ticket, VisitorState
from gateway.rules import policy
from gateway.web.desk import Desk

PUBLIC_RANKS_MAX: Final = 64
# States in which nobody can be told when: the line does not move, or not for a reason that time alone mends.
UNTIMED: Final = frozenset({RoomState.PAUSED, RoomState.CLOSED, RoomState.SOLD_OUT, RoomState.RECOVERING})
# States in which a turn can be taken: in all others its window promises nothing.
CLAIMABLE: Final = frozenset({RoomState.IDLE, RoomState.QUEUEING, RoomState.FULL})


@dataclass(slots=True)
class Place:
    """A *status* document and the few of its facts that decide the answer around it."""

    state: VisitorState
    document: dict[str, Any]
    poll_after_ms: int | None = None
    expected_s: float | None = None


def stamp(unix_s: float) -> str:
    """RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def waiting_place(
    desk: Desk, ticket: Ticket | None, standing: Standing | None, chance: float, *, was_asked_in_vain: bool = False
) -> Place:
    """The place of somebody who holds a ticket, or has just been seated.

    With a standing, as Redis told it just now; without one, from the last board. That is marked stale when it is old, and when
    Redis was asked in vain: another gateway may have told of a newer board.
    """
    room_state, board = desk.room_state(), desk.queue.board
    number = standing.number if standing is not None and standing.number else ticket.number if ticket else 0
    position, state = _position(desk, ticket, standing, number)
    cause = None
    if ticket is not None and number and position is not None and state is VisitorState.WAITING:
        position, cause = _never_grow(desk, ticket.epoch, number, position)
    is_early = position is None and state is VisitorState.WAITING
    expected_s = None if board is None or is_early else board.expected_s(position or 0)
    if standing is not None and standing.code is Code.RECOVERING and not desk.queue.is_reachable:
        room_state = RoomState.UNREACHABLE
    opens_in_s = max(0.0, (desk.room.opens_at_s or 0) - desk.queue.clock.now_s())
    shown_s = None if expected_s is None or room_state in UNTIMED else expected_s + opens_in_s
    poll_ms = policy.poll_after_ms(expected_s if expected_s is not None else 10.0, chance)
    if state is VisitorState.CALLED:
        poll_ms = round(policy.CALLED_POLL_S * 1000 * (1 + policy.POLL_JITTER * chance))
    document = _document(desk, state, room_state, number)
    document["position"] = 0 if state is VisitorState.CALLED else position
    document["ahead"] = 0 if state is VisitorState.CALLED else None if position is None else position - 1
    document["stale"] = document["stale"] or was_asked_in_vain
    document["eta"] = _eta(desk, shown_s, state)
    document["progress"] = _progress(desk, ticket, shown_s, state)
    document["poll_after_ms"] = poll_ms
    document["provisional"] = number == 0
    if state is VisitorState.CALLED and standing is not None and room_state in CLAIMABLE:
        document["claim_in_ms"] = max(0, standing.detail // 1000)
    if cause is not None:
        document["cause"] = {"code": cause.code, "at": stamp(cause.at_s)}
    return Place(state, document, poll_ms, shown_s if state is VisitorState.WAITING else None)


def admitted_place(desk: Desk, admission: Admission) -> Place:
    document = _document(desk, VisitorState.ADMITTED, desk.room_state(), None)
    document["lease_until"] = stamp(admission.expires_at_s)
    document["progress"] = 1.0
    return Place(VisitorState.ADMITTED, document)


def ended_place(desk: Desk) -> Place:
    document = _document(desk, VisitorState.ENDED, desk.room_state(), None)
    document["cause"] = {"code": "admission-ended", "at": document["now"]}
    return Place(VisitorState.ENDED, document)


def _document(desk: Desk, state: VisitorState, room_state: RoomState, number: int | None) -> dict[str, Any]:
    """Every field of *status*, with what goes for any state."""
    board, now_s = desk.queue.board, desk.queue.clock.now_s()
    is_stale = desk.queue.is_stale()
    return {
        "room": desk.room.id,
        "state": state.value,
        "number": number or None,
        "position": None,
        "ahead": None,
        "waiting": board.census.waiting if board else None,
        "eta": None,
        "progress": None,
        "poll_after_ms": None,
        "room_state": room_state.value,
        "message": message(desk),
        "now": stamp(now_s),
        "as_of": stamp(board.census.now / 1e6 if board else now_s),
        "stale": is_stale,
        "provisional": False,
        "claim_in_ms": None,
        "lease_until": None,
        "cause": None,
    }


def message(desk: Desk) -> dict[str, Any] | None:
    """What the operators say to those who wait, and since when."""
    texts = desk.queue.settings.message
    if not texts:
        return None
    return {"texts": texts, "at": stamp(desk.message_at_s)}


def _position(
    desk: Desk, ticket: Ticket | None, standing: Standing | None, number: int
) -> tuple[int | None, VisitorState]:
    """Place among those who wait, None where none is known, and whether it was called."""
    if standing is not None:
        match standing.code:
            case Code.CALLED:
                return 0, VisitorState.CALLED
            case Code.NEW | Code.KNOWN:
                return standing.detail + 1, VisitorState.WAITING
            case _:
                return None, VisitorState.WAITING
    board = desk.queue.board
    if board is None or number == 0 or ticket is None or ticket.epoch != board.census.epoch:
        return None, VisitorState.WAITING
    if number <= board.census.passed:
        return 0, VisitorState.CALLED
    if number >= board.ranks.next_number:  # newer than the board: the place of its last one would be too good
        return desk.shown.told(ticket.epoch, number), VisitorState.WAITING
    return board.position(number), VisitorState.WAITING


def _never_grow(desk: Desk, epoch: int, number: int, position: int) -> tuple[int, Cause | None]:
    """A position that grew is shown only with its cause: places were seated again after a loss.

    Where that explains it, it is told whether or not this gateway sees a growth: another one may have shown less.
    """
    if (healed_s := desk.queue.healed_at_s) is not None:
        desk.shown.tell(epoch, number, position)
        return position, Cause("recovered", healed_s)
    return desk.shown.least(epoch, number, position), None


def _eta(desk: Desk, shown_s: float | None, state: VisitorState) -> dict[str, int] | None:
    if shown_s is None or state is not VisitorState.WAITING:
        return None
    p50_s = int(shown_s + 0.5) or 1
    return {"p50_s": p50_s, "p90_s": max(p50_s, math.ceil(shown_s * desk.waits.p90(desk.queue.clock.monotonic())))}


def _progress(desk: Desk, ticket: Ticket | None, shown_s: float | None, state: VisitorState) -> float | None:
    """The share of the whole wait that lies behind, by time."""
    if state is VisitorState.CALLED:
        return 1.0
    if shown_s is None:
        return None
    waited_s = max(0.0, desk.queue.clock.now_s() - ticket.joined_at_s) if ticket is not None else 0.0
    return round(waited_s / (waited_s + shown_s or 1.0), 3)


def board_document(desk: Desk) -> dict[str, Any]:
    """The public board: the same for everyone, with at most 64 of the ranks."""
    board, now_s = desk.queue.board, desk.queue.clock.now_s()
    opens_at_s = desk.room.opens_at_s
    empty: dict[str, Any] = dict.fromkeys(
        ("epoch", "waiting", "active", "called", "next_number", "passed", "throughput")
    )
    facts: dict[str, Any] = {"room": desk.room.id, **empty, "version": 0, "drain_rate": None, "ranks": []}
    if board is not None:
        census, step = board.census, max(1, math.ceil(len(board.ranks.numbers) / PUBLIC_RANKS_MAX))
        pairs = [(round(rank), number) for rank, number in zip(board.ranks.ranks, board.ranks.numbers, strict=True)]
        facts |= {
            "epoch": census.epoch,
            "version": census.version,
            "waiting": census.waiting,
            "active": census.active,
            "called": census.called,
            "next_number": census.next,
            "passed": census.passed,
            "drain_rate": str(board.settings.drain_rate),
            "throughput": round(census.throughput / 1000, 3),
            "ranks": pairs[step - 1 :: step],
        }
    return facts | {
        "room_state": desk.room_state().value,
        "as_of": stamp(board.census.now / 1e6 if board else now_s),
        "message": message(desk),
        "opens_at": None if opens_at_s is None else stamp(opens_at_s),
    }
