"""Owns the one Chromium of these tests, and for each a scripted room and tabs that keep count of what they do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.ui.scripted import ScriptedRoom

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# WCAG 2.1, relative luminance and contrast, of every visible text on the nearest background that is painted.
CONTRAST = """() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.disabled && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
      const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))].sort((x, y) => y - x);
      return [e.textContent.trim().slice(0, 30), (a + 0.05) / (b + 0.05)];
    });
}"""


@dataclass
class Tabs:
    """Opens tabs in one browser profile and collects what must not happen in any of them."""

    context: BrowserContext
    origin: str
    faults: list[str] = field(default_factory=list)

    async def open(self, path: str) -> Page:
        tab = await self.context.new_page()
        tab.on("console", self._console)
        tab.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        tab.on("request", lambda request: self._request(request.url))
        await tab.goto(self.origin + path)
        return tab

    def _console(self, message: ConsoleMessage) -> None:
        # Refused joins and lost connections are part of the script; Chromium logs each as a failed resource.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(f"console: {message.text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.origin, "data:")):
            self.faults.append(f"request to {url}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def room() -> AsyncIterator[ScriptedRoom]:
    room = ScriptedRoom()
    runner = web.AppRunner(room.routes(), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    room.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield room
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(browser: Browser, room: ScriptedRoom, request: pytest.FixtureRequest) -> AsyncIterator[Tabs]:
    """Options of the profile come from `@pytest.mark.parametrize("tabs", [...], indirect=True)`."""
    options = {"locale": "en-US", "timezone_id": "Asia/Seoul"} | getattr(request, "param", {})
    context = await browser.new_context(**options)
    context.set_default_timeout(10_000)
    tabs = Tabs(context, room.origin)
    yield tabs
    await context.close()
    assert tabs.faults == [], "CSP violations, script errors or requests to other origins"


async def until(is_so: Callable[[], bool], deadline_s: float = 8.0) -> None:
    """Wait until `is_so` answers true; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < end, "did not come true in time"
        await asyncio.sleep(0.02)


async def contrast_is_enough(tab: Page, at_least: int) -> None:
    """AA for every visible text, of which there must be `at_least` so many. Disabled controls are exempt."""
    ratios = await tab.evaluate(CONTRAST)
    assert len(ratios) >= at_least
    assert [(text, round(ratio, 2)) for text, ratio in ratios if ratio < 4.5] == []
