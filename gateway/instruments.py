"""Connects what happens to what is measured: the one place where events of the faces, loops and upstreams meet the metrics."""

from __future__ import annotations

from typing import Final

from gateway.metrics import Ending, Held, Join, Kind, Metrics, Shed, Via
from gateway.queue.room import RoomQueue

JOIN_RESULTS: Final = {
    "new": Join.NEW,
    "known": Join.KNOWN,
    "called": Join.KNOWN,
    "admitted": Join.KNOWN,
    "recovering": Join.PROVISIONAL,
    "full": Join.FULL,
    "sold_out": Join.SOLD_OUT,
    "closed": Join.CLOSED,
    "shed": Join.SHED,
}
BUSY: Final = {"busy": Shed.UPSTREAM_IN_FLIGHT, "room_busy": Shed.ROOM_IN_FLIGHT}
HELD_REASONS: Final = {
    "cap": Held.CAP,
    "stock": Held.STOCK,
    "paused": Held.PAUSED,
    "scheduled": Held.PAUSED,
    "closed": Held.PAUSED,
    "recovering": Held.RECOVERING,
}


class Instruments:
    """Implements the small `Events` protocols of `desk`, `gate`, `drain` and the upstreams' observer."""

    def __init__(self, metrics: Metrics, share: float = 1.0) -> None:
        """`share`: of time, which passes for all workers of a gateway alike, so that their sum is time again."""
        self._metrics = metrics
        self._share = share
        self._entries_before: dict[str, int] = {}

    # --- the faces ----------------------------------------------------------------------------------------------------

    def answered_request(self, kind: Kind, seconds: float) -> None:
        self._metrics.request_seconds.add(kind, seconds)

    def joined(self, room: str, result: str) -> None:
        self._metrics.rooms[room].joins[JOIN_RESULTS[result]].inc()
        if result == "shed":
            self._metrics.shed[Shed.JOIN].inc()

    def waited(self, room: str, waited_s: float, expected_s: float | None) -> None:
        self._metrics.rooms[room].entered(Via.CLAIM, waited_s, expected_s)

    def entered_at_once(self, room: str) -> None:
        self._metrics.rooms[room].entries[Via.INSTANT].inc()

    def left(self, room: str) -> None:
        self._metrics.rooms[room].ended[Ending.LEFT].inc()

    def reset(self, room: str, ended: int) -> None:
        self._metrics.rooms[room].ended[Ending.RESET].inc(ended)

    def released(self, room: str, count: int) -> None:
        self._metrics.rooms[room].ended[Ending.RELEASED].inc(count)

    def bypassed(self, room: str, rule: str) -> None:
        self._metrics.rooms[room].bypassed[rule].inc()

    def shed(self, kind: Shed) -> None:
        self._metrics.shed[kind].inc()

    # --- the loops ----------------------------------------------------------------------------------------------------

    def ticked(self, room: str, called: int) -> None:
        self._metrics.rooms[room].calls.inc(called)

    def kept_up(self, room: str, lapsed: int, no_shows: int, expired: int) -> None:
        metrics = self._metrics.rooms[room]
        metrics.ended[Ending.LAPSED].inc(lapsed)
        metrics.ended[Ending.ABSENT].inc(expired)
        metrics.no_shows.inc(no_shows)

    def beat(self, queue: RoomQueue, seconds: float, *, is_upstream_up: bool) -> None:
        """After each attempt to read the board: the room's gauges, and what held the door meanwhile."""
        room = queue.room.id
        metrics, board = self._metrics.rooms[room], queue.board
        self._metrics.show_redis(is_up=queue.is_reachable)
        if board is None or not queue.is_reachable:
            metrics.door_held_s[Held.REDIS].inc(seconds * self._share)
            return
        census = board.census
        metrics.show_counts(waiting=census.waiting, called=census.called, parked=census.parked, active=census.active)
        metrics.show_settings(board.settings, census.rate_per_s)
        entries = census.entries + census.instants
        moved = entries - self._entries_before.get(room, entries)
        self._entries_before[room] = entries
        if moved == 0 and census.waiting + census.below > 0:
            reason = HELD_REASONS.get(census.reason, Held.RATE if census.held else Held.NOBODY)
            metrics.door_held_s[reason if is_upstream_up else Held.UPSTREAM].inc(seconds * self._share)

    def failed_loop(self, room: str) -> None:
        """Counted by the log alone until a metric of its own is agreed on."""

    def lost_event(self, room: str) -> None:
        self._metrics.rooms[room].audit_lost.inc()

    def asked_redis(self, script: str, seconds: float) -> None:
        self._metrics.redis_answered(script, seconds)

    # --- the upstreams ------------------------------------------------------------------------------------------------

    def answered(self, upstream: str, seconds: float) -> None:
        self._metrics.upstream_seconds.add(upstream, seconds)

    def failed(self, upstream: str, kind: str) -> None:
        self._metrics.upstreams[upstream].failed(kind)
        if kind in BUSY:
            self._metrics.shed[BUSY[kind]].inc()
