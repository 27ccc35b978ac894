"""What the operator port may do to rooms: see them, change their settings, reset them, take an upstream's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.model import SettingsRecord
from gateway.rules.pacing import SETTING_NAMES
from gateway.web.desk import Desk
from gateway.web.place import board_document


class Control:
    """Implements `operator.Rooms` over the desks. Calls that ask Redis raise `Unreachable`."""

    def __init__(self, desks: Mapping[str, Desk]) -> None:
        self._desks = desks

    def ids(self) -> Sequence[str]:
        return tuple(self._desks)

    def summary(self, room_id: str) -> dict[str, Any]:
        desk = self._desks[room_id]
        board = board_document(desk)
        shown = {
            name: board[name] for name in ("room", "room_state", "waiting", "called", "active", "throughput", "as_of")
        }
        census = desk.queue.board.census if desk.queue.board else None
        return shown | {
            "parked": census.parked if census else None,
            "entries_total": census.entries + census.instants if census else None,
            "drain_rate": str(desk.queue.settings.drain_rate),
            "rate_in_force": round(census.rate_per_s, 3) if census else None,
            "stock_in_force": self.stock_in_force(room_id),
            "stale": desk.queue.is_stale(),
        }

    def stock_in_force(self, room_id: str) -> int | None:
        return self._desks[room_id].queue.settings.stock

    def board(self, room_id: str) -> dict[str, Any]:
        return board_document(self._desks[room_id])

    async def read_settings(self, room_id: str) -> SettingsRecord:
        queue = self._desks[room_id].queue
        await queue.read_board()
        base = {name: value for name, value in queue.record.base.items() if name in SETTING_NAMES}
        return replace(queue.record, base=base)

    async def write_settings(
        self, room_id: str, version: int, overrides: dict[str, Any], *, by: str, names_stock: bool
    ) -> SettingsRecord | None:
        queue = self._desks[room_id].queue
        change = partial(replace, overrides=overrides)
        written = await queue.change_settings(change, version, by=by, names_stock=names_stock)
        return None if written is None else await self.read_settings(room_id)

    async def reset(self, room_id: str, *, void_admissions: bool, by: str) -> int:
        desk = self._desks[room_id]
        epoch, ended = await desk.queue.reset(void_admissions=void_admissions, by=by)
        desk.events.reset(room_id, ended)
        return epoch

    async def report(self, room_id: str, remaining: int | None, released: Sequence[bytes]) -> None:
        queue = self._desks[room_id].queue
        if remaining is not None:
            queue.note_remaining(remaining)
        for one in released:
            queue.release_soon(one, int(queue.clock.now_s()))  # a batch that is sent again ends nothing entered since
        await queue.flush_releases()
