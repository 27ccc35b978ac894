"""What the tests of the operator port stand on: rooms in memory, and the port before them over real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import web

from gateway.errors import Unreachable
from gateway.model import Operator, Role, SettingsRecord
from gateway.web.operator import OperatorPort

BASE: dict[str, Any] = {
    "drain_rate": "50/s", "burst": 50, "active_max": 2000, "paused": False, "stock": None, "message": {"ko": "점검 중"},
}  # fmt: skip
OPERATORS = (
    Operator("sre", Role.OPERATOR, "operator-token-0123456789"),
    Operator("watch", Role.VIEWER, "viewer-token-0123456789"),
    Operator("bank", Role.UPSTREAM, "upstream-token-0123456789", rooms=("point-cashout",)),
    Operator("cards", Role.OPERATOR, "cards-token-0123456789", rooms=("card-cashback",)),
)
TOKENS = {one.name: one.token for one in OPERATORS}
ROOM = "/api/rooms/point-cashout"


@dataclass
class MemoryRooms:
    """`Rooms` over a dict, with the same versions and conflicts as over Redis."""

    records: dict[str, SettingsRecord] = field(
        default_factory=lambda: {room: SettingsRecord(1, dict(BASE), {}) for room in ("point-cashout", "card-cashback")}
    )
    epochs: dict[str, int] = field(default_factory=dict)
    reports: list[tuple[str, int | None, list[bytes]]] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)
    reported: dict[str, int] = field(default_factory=dict)
    writes_before_mine: int = 0  # how many times somebody else is faster
    is_reachable: bool = True

    def ids(self) -> Sequence[str]:
        return list(self.records)

    def summary(self, room_id: str) -> dict[str, Any]:
        return {"room": room_id, "room_state": "queueing", "waiting": 7, "stale": not self.is_reachable}

    def stock_in_force(self, room_id: str) -> int | None:
        record = self.records[room_id]
        stocks: list[int | None] = [{**record.base, **record.overrides}["stock"], self.reported.get(room_id)]  # type: ignore[list-item]  # a document
        return min((stock for stock in stocks if stock is not None), default=None)

    def board(self, room_id: str) -> dict[str, Any]:
        return {"room": room_id, "epoch": self.epochs.get(room_id, 1)}

    def _ask(self) -> None:
        if not self.is_reachable:
            raise Unreachable("connection refused")

    async def read_settings(self, room_id: str) -> SettingsRecord:
        self._ask()
        return self.records[room_id]

    async def write_settings(
        self, room_id: str, version: int, overrides: dict[str, Any], *, by: str, names_stock: bool
    ) -> SettingsRecord | None:
        self._ask()
        record = self.records[room_id]
        if self.writes_before_mine:
            self.writes_before_mine -= 1
            others = {**record.overrides, "stock": record.version}
            self.records[room_id] = replace(record, version=record.version + 1, overrides=others)
            return None
        if record.version != version:
            return None
        self.records[room_id] = SettingsRecord(version + 1, record.base, overrides)
        if names_stock:
            self.reported.pop(room_id, None)
        return self.records[room_id]

    async def reset(self, room_id: str, *, void_admissions: bool, by: str) -> int:
        self._ask()
        self.epochs[room_id] = self.epochs.get(room_id, 1) + 1
        if void_admissions:
            self.voided.append(room_id)
        return self.epochs[room_id]

    async def report(self, room_id: str, remaining: int | None, released: Sequence[bytes]) -> None:
        self._ask()
        self.reports.append((room_id, remaining, list(released)))


@dataclass
class Port:
    rooms: MemoryRooms
    http: aiohttp.ClientSession
    url: str
    is_ready: bool = True

    async def ask(self, method: str, path: str, who: str | None = "sre", **options: Any) -> tuple[int, Any, Any]:
        """Status, body (JSON decoded, else bytes), headers."""
        headers = dict(options.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {TOKENS[who]}"
        async with self.http.request(method, self.url + path, headers=headers, **options) as answer:
            body = await answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "") and body
            return answer.status, json.loads(body) if is_json else body, answer.headers


@asynccontextmanager
async def opened(operators: Sequence[Operator] = OPERATORS, bind_host: str = "127.0.0.1") -> AsyncIterator[Port]:
    rooms = MemoryRooms()
    async with aiohttp.ClientSession() as http:
        port = Port(rooms, http, "")

        async def scraped(_accept: str) -> tuple[bytes, str]:
            return b"up 1\n", "text/plain"

        face = OperatorPort(rooms, operators, bind_host, scraped, lambda: port.is_ready)
        runner = web.ServerRunner(web.Server(face.handle))
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield port
        finally:
            await runner.cleanup()
