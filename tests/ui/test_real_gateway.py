"""The whole way in a real browser through real gateways: from arrival to the bank's page, and back into the line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from gateway.model import Contact, Rate, Room
from tests.conftest import RedisServer
from tests.web.gatewayfixture import House, opened, protecting

AHEAD = 200
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def room() -> Room:
    return protecting("walk", drain_rate=Rate(20, "s"), burst=20)


@pytest_asyncio.fixture(loop_scope="session")
async def house(valkey: RedisServer, tmp_path: Path, room: Room) -> AsyncIterator[House]:
    page = {"Content-Type": "text/html; charset=utf-8"}
    async with opened(valkey.url, tmp_path, (room,), gateways=2, hosts=("127.0.0.1",), https=False) as house:
        house.bank.headers, house.bank.body = page, b"<!doctype html><title>bank</title><h1>the bank</h1>"
        await house.idle(room)
        yield house


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(locale="en-US")
    context.set_default_timeout(10_000)
    yield context
    await context.close()


def url(house: House, room: Room, gateway: int = 0) -> str:
    return f"http://127.0.0.1:{house.gateways[gateway].ports[0]}{room.entry}?offer=1"


async def headline(tab: Page, text: str) -> None:
    await expect(tab.locator("#headline")).to_have_text(text)


async def at_the_bank(tab: Page) -> None:
    await expect(tab.locator("body")).to_contain_text("bank")
    await expect(tab.locator("#headline")).to_have_count(0)


async def test_idle_room_shows_the_bank_at_once(house: House, room: Room, context: BrowserContext) -> None:
    """Section 4: instant entry, in the same request."""
    tab = await context.new_page()
    answer = await tab.goto(url(house, room))
    assert answer is not None
    assert answer.status == 200
    await at_the_bank(tab)


async def test_from_arrival_through_the_line_to_the_bank(house: House, room: Room, context: BrowserContext) -> None:
    """Promises 4 and 9: the page waits in place, survives a reload and a second tab, and enters by itself."""
    await house.patch(room, paused=True)
    await house.state("paused", room)
    store = house.queue(room).store
    await store.check_in([Contact(number.to_bytes(16)) for number in range(AHEAD)])  # they will not come
    tab = await context.new_page()
    answer = await tab.goto(url(house, room))
    assert answer is not None
    assert answer.status == 429
    await headline(tab, "Entry is paused")
    place = tab.locator("#position")
    await expect(place).not_to_be_empty()
    await tab.reload()
    other = await context.new_page()
    await other.goto(url(house, room))
    await headline(other, "Entry is paused")
    await expect(other.locator("#position")).to_have_text(await place.inner_text())
    assert house.queue(room).board.census.next == AHEAD + 2, "a reload or a tab took a second number"
    assert house.bank.requests == [], "nothing passes without an admission"
    await house.patch(room, paused=False)
    await at_the_bank(tab)
    assert tab.url == url(house, room), "the waiting page stands in place of its URL"


async def test_no_script_visitor_gets_through_by_forms(house: House, room: Room, browser: Browser) -> None:
    """Section 8, no script: two presses and what `Refresh` does in between lead from arrival to the bank's page."""
    await house.patch(room, paused=True)
    await house.state("paused", room)
    store = house.queue(room).store
    await store.check_in([Contact(number.to_bytes(16)) for number in range(AHEAD)])  # they will not come
    context = await browser.new_context(locale="en-US", java_script_enabled=False)
    context.set_default_timeout(10_000)
    tab = await context.new_page()
    await tab.goto(url(house, room))
    await tab.get_by_role("button", name="Join the line").click()
    await expect(tab.locator("h1")).to_contain_text("Entry is paused")
    await expect(tab.locator(".position")).to_contain_text("Your position")
    assert house.bank.requests == [], "nothing passes without an admission"
    await house.patch(room, paused=False)
    enter = tab.get_by_role("button", name="Enter")
    await expect(enter).to_be_visible(timeout=40_000)  # as soon as the server's own interval says
    await enter.click()
    await at_the_bank(tab)
    assert tab.url == url(house, room), "the form came from this page, and leads back to it"
    await context.close()


async def test_no_script_visitor_leaves_and_joins_again_by_forms(house: House, room: Room, browser: Browser) -> None:
    """Section 8, no script: leaving gives the place up, and the form to join again takes a new one."""
    await house.patch(room, paused=True)
    await house.state("paused", room)
    store = house.queue(room).store
    await store.check_in([Contact(number.to_bytes(16)) for number in range(AHEAD)])
    context = await browser.new_context(locale="en-US", java_script_enabled=False)
    context.set_default_timeout(10_000)
    tab = await context.new_page()
    await tab.goto(url(house, room))
    await tab.get_by_role("button", name="Join the line").click()
    await tab.locator("summary").click()
    await tab.get_by_role("button", name="Give up my place").click()
    await expect(tab.locator("h1")).to_contain_text("This place has ended")
    assert await context.cookies() == []
    await tab.get_by_role("button", name="Join again").click()
    await expect(tab.locator("h1")).to_contain_text("Entry is paused")
    assert house.queue(room).board.census.next >= AHEAD + 2
    await context.close()


async def test_console_changes_a_real_room_without_a_token(house: House, room: Room, context: BrowserContext) -> None:
    """Section 8: on loopback without [[operators]]; the stock shown is the one in force, and set anew it is the new one."""
    tab = await context.new_page()
    await tab.goto(f"http://127.0.0.1:{house.gateway.ports[1]}/")
    await tab.get_by_role("button", name=room.id).click()
    await expect(tab.locator("#sign-in")).to_be_hidden()
    await tab.fill('[id="field-stock"]', "500")
    await tab.click("#save")
    await expect(tab.locator('[id="settings-stock"]')).to_have_text("500")
    await house.post(room, "reports", {"remaining": 120})
    await expect(tab.locator('[id="settings-stock"]')).to_have_text("stock 500, 120 left as the bank reports")
    await tab.get_by_role("button", name="Set the stock anew").click()
    await expect(tab.locator('[id="settings-stock"]')).to_have_text("500")
    await expect(tab.locator('[id="anew-stock"]')).to_be_hidden()
