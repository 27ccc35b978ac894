"""One room under a flood, the others beside it: nothing of theirs fails, and its crowd cannot take their upstream."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bench.bulkheads import flood_command
from gateway.tasks import Owner
from tests.conftest import RedisServer
from tests.serving import ROOM, Line, Process, running
from tests.web.gatewayfixture import NAVIGATION, ManualBank, until

FLOOD_S = 3
SHARE = 4
APP = {"Waitroom-Transport": "header", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Scene:
    gateway: Process
    bank: ManualBank
    flooded: str
    calm: str


def room(name: str) -> dict[str, Any]:
    return ROOM | {"id": name, "max_in_flight": SHARE, "match": [{"path": f"/{name}/*"}], "entry": f"/{name}/"}


@pytest.fixture
async def scene(valkey: RedisServer, tmp_path: Path) -> AsyncIterator[Scene]:
    """Two rooms and an unprotected rest before one bank, which takes twice as many requests as one room may have."""
    bank = ManualBank()
    await bank.open()
    flooded, calm = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("flooded", "calm"))
    upstream = {"max_in_flight": 2 * SHARE, "connect_timeout": "5s"}
    gateway = Process(tmp_path, valkey.url, bank.url, rooms=[room(flooded), room(calm)], upstream=upstream)
    async with running(gateway):
        yield Scene(gateway, bank, flooded, calm)
    await bank.close()


async def flood(scene: Scene, folder: Path) -> str:
    """What wrk says after it sent as much as it could, for `FLOOD_S`."""
    command = flood_command(folder, scene.gateway.url, scene.flooded, f"/{scene.flooded}/", FLOOD_S)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await asyncio.wait_for(process.communicate(), FLOOD_S + 10)
    return told.decode()


class Others:
    """People of the calm room, and customers of what no room protects, each on a line of its own."""

    def __init__(self, scene: Scene) -> None:
        self.calm = scene.calm
        self.port = scene.gateway.public
        self.took_s: list[float] = []
        self.failed: list[str] = []
        self.is_over = False

    async def visit(self) -> None:
        with closing(Line(self.port)) as line:
            while not self.is_over:
                joined = await self._ask(line, "POST", f"/_waitroom/{self.calm}/ticket", APP, {"key": uuid.uuid4().hex})
                ticket = APP | {"Waitroom-Ticket": joined["ticket"]}
                claimed: dict[str, Any] = {}
                while claimed.get("state") != "admitted":
                    await self._ask(line, "GET", f"/_waitroom/{self.calm}/status", ticket)
                    claimed = await self._ask(line, "POST", f"/_waitroom/{self.calm}/admission", ticket)
                admitted = {"Waitroom-Transport": "header", "Waitroom-Admission": claimed["admission"]}
                for _ in range(3):
                    await self._ask(line, "GET", f"/{self.calm}/", admitted)

    async def look(self) -> None:
        """On a new connection each time: the crowd's must not be all there are."""
        while not self.is_over:
            with closing(Line(self.port)) as line:
                await self._ask(line, "GET", "/free")
            await asyncio.sleep(0.01)

    async def _ask(
        self, line: Line, method: str, target: str, headers: dict[str, str] | None = None, body: object = None
    ) -> dict[str, Any]:
        began = time.monotonic()
        try:
            reply = await line.ask(method, target, headers, "" if body is None else json.dumps(body))
        except (OSError, EOFError) as fault:
            self.failed.append(f"{method} {target}: {fault!r}")
            return {}
        # A claim that waits at the door is held on purpose.
        if not target.endswith("/admission"):
            self.took_s.append(time.monotonic() - began)
        if reply.status >= 400:
            self.failed.append(f"{method} {target}: {reply.status} {reply.body!r}")
        return reply.json if reply.body.startswith(b"{") else {}


async def test_a_flooded_room_fails_nothing_of_its_neighbours(scene: Scene, tmp_path: Path) -> None:
    """Promise 12: ten times the connections that one process can answer, and no request of another room or route fails."""
    others, owner = Others(scene), Owner()
    people = [
        owner.start(task, "other") for task in (*(others.visit() for _ in range(3)), others.look(), others.look())
    ]
    try:
        await until(lambda: len(others.took_s) > 100)
        quiet_s = statistics.median(others.took_s)
        others.took_s.clear()
        told = await flood(scene, tmp_path)
        flooded_s = others.took_s.copy()
        others.is_over = True
        await asyncio.wait_for(asyncio.gather(*people), 10)
    finally:
        await owner.close()
    assert "requests in" in told
    assert "Socket errors" not in told, "nobody of the crowd is cut off either"
    assert others.failed == []
    assert len(flooded_s) > 50
    # Not promise 12's figure, which `python -m bench bulkheads` measures: here, that nobody is starved.
    assert statistics.median(flooded_s) < max(50 * quiet_s, 1.0)
    assert max(flooded_s) < 5.0


async def test_a_room_whose_upstream_stands_still_leaves_the_others_their_share(scene: Scene) -> None:
    """Promise 12: its admitted visitors wait for one another, while the calm room and free routes are answered."""
    go, page = asyncio.Event(), f"/{scene.flooded}/"

    async def play(request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path == page:
            await go.wait()
        return web.Response(body=b"{}")

    scene.bank.play = play
    others, owner = Others(scene), Owner()
    lines = [Line(scene.gateway.public) for _ in range(3 * SHARE)]
    entered = [owner.start(line.ask("GET", page, NAVIGATION), "crowd") for line in lines]
    try:
        await until(lambda: sum(path == page for _, path, _ in scene.bank.requests) == SHARE)
        people = [owner.start(task, "other") for task in (others.visit(), others.look())]
        await until(lambda: len(others.took_s) > 100)
        others.is_over = True
        await asyncio.wait_for(asyncio.gather(*people), 10)
        assert sum(path == page for _, path, _ in scene.bank.requests) == SHARE
        go.set()
        answers = await asyncio.wait_for(asyncio.gather(*entered), 10)
    finally:
        await owner.close()
        for line in lines:
            line.close()
    assert others.failed == []
    assert statistics.median(others.took_s) < 0.5
    # As many as have a place wait for one, and the others are told at once.
    assert Counter(answer.status for answer in answers) == {200: 2 * SHARE, 503: SHARE}
