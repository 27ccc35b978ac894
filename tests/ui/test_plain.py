"""The way through the line without JavaScript: forms, `Refresh`, and a link at the end."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.ui.conftest import Tabs, until
from tests.ui.scripted import ENTRY, ROOM, Answer, ScriptedRoom, status

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("tabs", [{"java_script_enabled": False}], indirect=True),
]


async def test_walk_without_script(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8, no script: join by form, be refreshed to the status, claim by form, arrive by Refresh."""
    room.status = status(poll_after_ms=2000)
    tab = await tabs.open(ENTRY)
    await tab.get_by_role("button", name="Join the line").click()
    await expect(tab.locator("h1")).to_contain_text("순서를 기다리고 있습니다")
    await expect(tab.locator("h1")).to_contain_text("You are in line")
    await expect(tab.locator(".position")).to_contain_text("1,234")
    room.status = status("called", poll_after_ms=2000)
    await expect(tab.get_by_role("button", name="Enter")).to_be_visible()
    assert tab.url == f"{room.origin}/_waitroom/{ROOM}/status"
    room.is_door_open = True
    await tab.get_by_role("button", name="Enter").click()
    await expect(tab.locator("h1")).to_have_text("Cash-out desk")
    assert tab.url == room.origin + ENTRY


async def test_leave_without_script(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8, no script: leaving takes two steps here too, and offers to join again."""
    room.status = status(poll_after_ms=None)
    tab = await tabs.open(f"/_waitroom/{ROOM}/")
    await tab.get_by_role("button", name="Join the line").click()
    give_up = tab.get_by_role("button", name="Give up my place")
    await expect(give_up).to_be_hidden()
    await tab.locator("summary").click()
    await give_up.click()
    await until(lambda: bool(room.named("POST leave")))
    await expect(tab.locator("h1")).to_contain_text("This place has ended")
    await expect(tab.get_by_role("button", name="Join again")).to_be_visible()


async def test_sold_out_without_script(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8: a refused join is told to those without script as well."""
    room.script("POST ticket", Answer(409))
    tab = await tabs.open(ENTRY)
    await tab.get_by_role("button", name="Join the line").click()
    await expect(tab.locator("h1")).to_contain_text("Everything has been given out")
