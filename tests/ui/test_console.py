"""The operator console in a real browser, on a scripted API: what it shows, sends, and says when refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page, expect

from tests.ui.conftest import Tabs, until
from tests.ui.scripted import shown
from waitroom_ui import console

pytestmark = pytest.mark.asyncio(loop_scope="session")
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
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return None
        return web.json_response({"title": "unauthorized"}, status=401)

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
            "as_of": datetime.now(UTC).isoformat(),
            "stale": False,
        }
        return self._refusal(request) or web.json_response({"rooms": [row]})

    async def _room(self, request: web.Request) -> web.Response:
        return self._refusal(request) or web.json_response(self.detail(), headers={"ETag": f'"{self.version}"'})

    async def _patch(self, request: web.Request) -> web.Response:
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
        for name, value in patch.items():
            if value is None:
                self.overrides.pop(name, None)
            else:
                self.overrides[name] = value
        self.version += 1
        return web.json_response(self.detail(), headers={"ETag": f'"{self.version}"'})


@pytest_asyncio.fixture(loop_scope="session")
async def api() -> ScriptedApi:
    return ScriptedApi()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(api: ScriptedApi, tabs: Tabs) -> AsyncIterator[Page]:
    """The console, signed in, with the room's panel open."""
    runner = web.AppRunner(api.routes(), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    tabs.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    tab = await tabs.open("/")
    await tab.fill("#token", TOKEN)
    await tab.keyboard.press("Enter")
    await tab.get_by_role("button", name="point-cashout").click()
    await expect(tab.locator("#room-title")).to_have_text("point-cashout")
    yield tab
    await tab.close()
    await runner.cleanup()


async def test_shows_rooms_and_base_beside_override(tab: Page) -> None:
    """Section 8, operator port: state and figures of every room; base, override and what is in force."""
    row = tab.locator("#rooms tr")
    for text in ("queueing", "12,345", "640", "50/s", "48.2/s"):
        await expect(row).to_contain_text(text)
    await expect(tab.locator('[id="base-burst"]')).to_have_text("50")
    await expect(tab.locator('[id="overrides-burst"]')).to_have_text("80")
    await expect(tab.locator('[id="settings-burst"]')).to_have_text("80")
    await expect(tab.locator('[id="back-drain_rate"]')).to_be_hidden()
    await expect(tab.locator("#board")).to_contain_text("12,345")


async def test_saves_only_what_was_changed_under_its_etag(tab: Page, api: ScriptedApi) -> None:
    """Section 8: a merge patch with If-Match; numbers are numbers, messages go by language."""
    await expect(tab.locator("#save")).to_be_disabled()
    await tab.fill('[id="field-drain_rate"]', "80/s")
    await tab.fill('[id="field-active_max"]', "3000")
    await tab.fill('[id="field-message.ko"]', "곧 다시 시작합니다")
    await tab.click("#save")
    await expect(tab.locator('[id="settings-drain_rate"]')).to_have_text("80/s")
    patch = {"drain_rate": "80/s", "active_max": 3000, "message": {"ko": "곧 다시 시작합니다"}}
    assert api.patches == [(patch, '"7"')]
    await expect(tab.locator("#save")).to_be_disabled()
    await expect(tab.locator("#log")).to_contain_text("drain_rate 50/s → 80/s")
    await expect(tab.locator("#log")).to_contain_text("saved, version 8")


async def test_pauses_resumes_and_takes_an_override_back(tab: Page, api: ScriptedApi) -> None:
    """Section 8: pause is one press; null takes an override back to the file's value."""
    await tab.click("#pause")
    await expect(tab.locator("#rooms .state")).to_have_text("paused")
    await tab.get_by_role("button", name="Resume entry").click()
    await expect(tab.locator("#rooms .state")).to_have_text("queueing")
    await tab.locator('[id="back-burst"]').click()
    await expect(tab.locator('[id="settings-burst"]')).to_have_text("50")
    assert [patch for patch, _ in api.patches] == [{"paused": True}, {"paused": False}, {"burst": None}]


async def test_change_by_somebody_else_is_told_and_not_undone_unseen(tab: Page, api: ScriptedApi) -> None:
    """Section 8, ETag: a save over another's change is refused once, with both values in sight."""
    await tab.fill('[id="field-drain_rate"]', "80/s")
    api.change(drain_rate="20/s")
    await expect(tab.locator("#changed")).to_contain_text("changed by somebody else")
    await tab.click("#save")
    await expect(tab.locator("#refused")).to_contain_text("Nothing was saved")
    await expect(tab.locator('[id="settings-drain_rate"]')).to_have_text("20/s")
    await expect(tab.locator('[id="field-drain_rate"]')).to_have_value("80/s")
    await tab.click("#save")
    await expect(tab.locator('[id="settings-drain_rate"]')).to_have_text("80/s")
    assert [under for _, under in api.patches] == ['"7"', '"8"']


async def test_refusal_is_shown_in_the_gateways_words(tab: Page, api: ScriptedApi) -> None:
    """Section 8: a faulty value is refused as a whole, with the reason, and stays in its field."""
    await tab.fill('[id="field-drain_rate"]', "50/fortnight")
    await tab.click("#save")
    await expect(tab.locator("#refused")).to_contain_text("drain_rate: allowed: n/s, n/min or n/h")
    await expect(tab.locator('[id="field-drain_rate"]')).to_have_value("50/fortnight")
    await tab.click("#discard")
    await expect(tab.locator('[id="field-drain_rate"]')).to_have_value("50/s")
    assert api.version == 7


async def test_unknown_token_is_refused_and_forgotten(tab: Page) -> None:
    """Section 8: bearer tokens; one that is not known leaves nothing in the tab."""
    assert await tab.evaluate("sessionStorage.length") == 1
    await tab.click("#sign-out")
    await tab.fill("#token", "wrong")
    await tab.keyboard.press("Enter")
    await expect(tab.locator("#fault")).to_contain_text("This token is not known")
    await expect(tab.locator("#sign-in")).to_be_visible()
    await expect(tab.locator("#rooms-box")).to_be_hidden()
    assert await tab.evaluate("sessionStorage.length") == 0


async def test_silent_gateway_is_told(tab: Page, api: ScriptedApi, tabs: Tabs) -> None:
    """Old figures are called old."""
    await tabs.context.set_offline(True)
    await expect(tab.locator("#fault")).to_contain_text("figures below are old")
    await tabs.context.set_offline(False)
    await expect(tab.locator("#fault")).to_be_hidden()
    await until(lambda: not api.patches)
