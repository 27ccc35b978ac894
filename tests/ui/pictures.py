"""Takes the pictures of README and docs anew, and on request one of every state that people see, to be looked at.

`python -m tests.ui.pictures` writes docs/images; `python -m tests.ui.pictures --all FOLDER` writes the whole gallery.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from tests.ui.conftest import ARGS, CHROMIUM
from tests.ui.scripted import ENTRY, ROOM, Answer, ScriptedRoom, status
from tests.ui.scripted_api import TOKEN, ScriptedApi

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
STILL_MS = 600_000  # no poll while a picture is taken
SHUT = ("paused", "scheduled", "recovering", "unreachable")
MESSAGE = {
    "texts": {"ko": "오늘 신청하신 포인트는 내일 지급됩니다.", "en": "Points requested today are paid out tomorrow."},
    "at": "2026-11-05T02:00:00Z",
}


@dataclass(frozen=True)
class View:
    """One thing people see: the status that leads to it, or the answer to their join."""

    name: str
    status: dict[str, Any] = field(default_factory=status)
    joined: Answer | None = None


def view(name: str, state: str = "waiting", **changes: Any) -> View:
    return View(name, status(state, **({"poll_after_ms": STILL_MS} | changes)))


NO_PLACE: dict[str, Any] = {"position": None, "ahead": None, "number": None, "eta": None, "progress": None}
UNTIMED: dict[str, Any] = {"eta": None, "progress": None}
VIEWS = [
    view("waiting"),
    view("waiting-next", position=1, ahead=0, eta={"p50_s": 1, "p90_s": 1}, progress=0.99),
    view("waiting-provisional", provisional=True, room_state="unreachable", **NO_PLACE),
    view(
        "waiting-large",
        number=2_147_483_647,
        position=1_234_567,
        ahead=1_234_566,
        eta={"p50_s": 40_000, "p90_s": 90_000},
        progress=0.0,
    ),
    view("waiting-long", eta={"p50_s": 4000, "p90_s": 9000}, message=MESSAGE),
    view("waiting-stale", stale=True, cause={"code": "recovered", "at": "2026-11-05T02:00:00Z"}),
    *(view(f"waiting-{state}", room_state=state, **(UNTIMED if state != "unreachable" else {})) for state in SHUT),
    view("waiting-full", room_state="full"),
    view("sold-out", room_state="sold_out", message=MESSAGE, **UNTIMED),
    view("closed", room_state="closed", **UNTIMED),
    view("called", "called", progress=1.0),
    *(view(f"called-{state}", "called", room_state=state, progress=1.0) for state in SHUT),
    view("parked", "parked"),
    view("ended", "ended"),
    View("joining", joined=Answer(200, gate=asyncio.Event())),
    View("join-full", joined=Answer(503, {"type": "room-full"}, {"Retry-After": "600"})),
    View("join-sold-out", joined=Answer(409, {"type": "sold-out"})),
    View("join-closed", joined=Answer(409, {"type": "closed"})),
]


@asynccontextmanager
async def served(routes: web.Application) -> AsyncIterator[str]:
    """Serves on a free port of loopback; its origin."""
    runner = web.AppRunner(routes, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def tab(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    context = await browser.new_context(timezone_id="Asia/Seoul", reduced_motion="reduce", **options)
    yield await context.new_page()
    await context.close()


async def show(page: Page, room: ScriptedRoom, origin: str, seen: View) -> None:
    """Lead a fresh visitor to the view."""
    room.once.clear()
    room.status, room.board = seen.status, {"room_state": "scheduled", "opens_at": "2026-11-06T02:00:00Z"}
    if seen.joined is not None:
        room.script("POST ticket", seen.joined)
    await page.context.clear_cookies()
    await page.goto(origin + ENTRY)
    await page.wait_for_timeout(150)


async def show_plain(page: Page, room: ScriptedRoom, origin: str, seen: View) -> None:
    """The same without script: its own place, as the room's form or the refresh leads to it."""
    room.once.clear()
    room.status = seen.status
    if seen.joined is not None:
        room.script("GET status", seen.joined)
    await page.context.add_cookies([{"name": "ticket", "value": "t", "url": origin}])
    await page.goto(f"{origin}/_waitroom/{ROOM}/status")


async def gallery(browser: Browser, folder: Path) -> None:
    room = ScriptedRoom()
    async with served(room.routes()) as origin:
        for size, viewport in (("phone", PHONE), ("desktop", DESKTOP)):
            for locale in ("ko-KR", "en-US"):
                for scheme in ("light", "dark"):
                    options = {"viewport": viewport, "locale": locale, "color_scheme": scheme}
                    async with tab(browser, **options) as page:
                        for seen in VIEWS:
                            await show(page, room, origin, seen)
                            await page.screenshot(path=folder / f"{size}-{locale[:2]}-{scheme}-{seen.name}.png")
        async with tab(browser, viewport=PHONE, java_script_enabled=False) as page:
            await page.goto(origin + ENTRY)
            await page.get_by_role("button").first.wait_for()
            await page.screenshot(path=folder / "plain-welcome.png", full_page=True)
            for seen in VIEWS:
                if seen.joined is None:
                    await show_plain(page, room, origin, seen)
                    await page.screenshot(path=folder / f"plain-{seen.name}.png", full_page=True)
        for answer in filter(None, (seen.joined for seen in VIEWS)):
            if answer.gate is not None:
                answer.gate.set()  # a request that is held would keep the server from closing
    for scheme in ("light", "dark"):
        await picture_console(browser, folder / f"console-{scheme}.png", scheme)


async def picture_console(browser: Browser, path: Path, scheme: str = "light") -> None:
    api = ScriptedApi()
    api.change(message={"ko": "오늘 신청하신 포인트는 내일 지급됩니다."}, stock=500)
    api.stock_in_force = 120
    async with served(api.routes()) as origin, tab(browser, viewport=DESKTOP, color_scheme=scheme) as page:
        await page.goto(origin)
        await page.fill("#token", TOKEN)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name=ROOM).click()
        await page.fill('[id="field-drain_rate"]', "80/s")
        await page.screenshot(path=path, full_page=True)


async def pictures(browser: Browser, folder: Path) -> None:
    """The three of README."""
    room, seen = ScriptedRoom(), view("waiting")
    shots = (("waiting-phone-ko.png", PHONE, "ko-KR"), ("waiting-desktop-en.png", DESKTOP, "en-US"))
    async with served(room.routes()) as origin:
        for name, viewport, locale in shots:
            async with tab(browser, viewport=viewport, locale=locale) as page:
                await show(page, room, origin, seen)
                await page.screenshot(path=folder / name)
    await picture_console(browser, folder / "console.png")


async def main(everything: Path | None) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        await (pictures(browser, IMAGES) if everything is None else gallery(browser, everything))
        await browser.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--all", type=Path, metavar="FOLDER", help="one picture of every state, into FOLDER")
    everything = options.parse_args().all
    if everything is not None:
        everything.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(everything))
