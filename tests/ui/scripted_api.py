"""Owns an operator API that answers as a test tells it to: one room's settings as the contract says, without a queue."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.ui.scripted import shown
from waitroom_ui import console

TOKEN = "sre-secret"


class ScriptedApi:
    """Keeps one room's settings as the contract says: base, overrides, a version and its ETag, all or nothing."""

    def __init__(self) -> None:
        self.base: dict[str, Any] = {
            "drain_rate": "50/s",
            "burst": 50,
            "active_max": 2000,
            "paused": False,
            "stock": None,
            "message": {},
        }
        self.overrides: dict[str, Any] = {"burst": 80}
        self.version = 7
        self.stock_in_force: int | None = None
        self.roles = {
            TOKEN: "operator",
            "viewer-secret": "viewer",
            "upstream-secret": "upstream",
        }  # empty: no operators
        self.patches: list[tuple[dict[str, Any], str | None]] = []

    def detail(self) -> dict[str, Any]:
        settings = self.base | self.overrides
        board = {"waiting": 12345, "called": 12, "passed": 900}
        return {
            "room": "point-cashout",
            "version": self.version,
            "base": self.base,
            "overrides": self.overrides,
            "settings": settings,
            "stock_in_force": self.stock_in_force,
            "board": board,
        }

    def change(self, **overrides: Any) -> None:
        self.overrides |= overrides
        self.version += 1

    def routes(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._console)
        app.router.add_get("/api/rooms", self._rooms)
        app.router.add_get("/api/rooms/point-cashout", self._room)
        app.router.add_patch("/api/rooms/point-cashout", self._patch)
        return app

    async def _console(self, request: web.Request) -> web.StreamResponse:
        return shown(console(), 200)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not self.roles:
            return None
        role = self.roles.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if role is None:
            return web.json_response({"title": "unauthorized"}, status=401)
        action = "change" if request.method == "PATCH" else "read"
        if role == "operator" or (role == "viewer" and action == "read"):
            return None
        detail = f"The role {role} may not {action} here."
        return web.json_response({"title": "Forbidden", "detail": detail}, status=403)

    async def _rooms(self, request: web.Request) -> web.Response:
        settings = self.base | self.overrides
        row = {
            "room": "point-cashout",
            "room_state": "paused" if settings["paused"] else "queueing",
            "waiting": 12345,
            "called": 12,
            "parked": 3,
            "active": 640,
            "entries_total": 99,
            "throughput": 48.2,
            "drain_rate": settings["drain_rate"],
            "rate_in_force": 50.0,
            "stock_in_force": self.stock_in_force,
            "as_of": datetime.now(UTC).isoformat(),
            "stale": False,
        }
        return self._refusal(request) or web.json_response({"rooms": [row]})

    async def _room(self, request: web.Request) -> web.Response:
        return self._refusal(request) or web.json_response(self.detail(), headers={"ETag": f'"{self.version}"'})

    async def _patch(self, request: web.Request) -> web.Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        assert request.headers["Content-Type"] == "application/merge-patch+json"
        patch, under = await request.json(), request.headers.get("If-Match")
        self.patches.append((deepcopy(patch), under))
        if under != f'"{self.version}"':
            return web.json_response({"title": "precondition failed"}, status=412)
        if "fortnight" in str(patch.get("drain_rate")):
            problem = {
                "title": "invalid",
                "errors": [{"pointer": "#/drain_rate", "detail": "allowed: n/s, n/min or n/h"}],
            }
            return web.json_response(problem, status=422)
        if "stock" in patch:
            self.stock_in_force = patch["stock"]
        for name, value in patch.items():
            if value is None:
                self.overrides.pop(name, None)
            else:
                self.overrides[name] = value
        self.version += 1
        return web.json_response(self.detail(), headers={"ETag": f'"{self.version}"'})
