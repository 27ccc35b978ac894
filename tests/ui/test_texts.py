"""What the page says and how: every state in both languages, contrast, roles, keyboard, size and policy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import expect

from tests.ui.conftest import Tabs, contrast_is_enough, until
from tests.ui.scripted import ENTRY, ROOM, ScriptedRoom, status

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOM_STATES = {
    "idle": ("순서를 기다리고 있습니다", "You are in line"),
    "queueing": ("순서를 기다리고 있습니다", "You are in line"),
    "paused": ("입장이 잠시 멈췄습니다", "Entry is paused"),
    "scheduled": ("아직 열리지 않았습니다", "Not open yet"),
    "full": ("대기 줄이 가득 찼습니다", "The line is full"),
    "sold_out": ("모두 소진되었습니다", "Everything has been given out"),
    "closed": ("접수가 끝났습니다", "This is closed"),
    "recovering": ("순서를 다시 맞추고 있습니다", "The line is being restored"),
    "unreachable": ("대기 정보를 확인하고 있습니다", "Checking the line"),
}


@pytest.mark.parametrize("tabs", [{"locale": "ko-KR"}], indirect=True)
async def test_every_room_state_is_told_in_both_languages(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8: each `room_state` has its own words in Korean and English, switched by one button."""
    tab = await tabs.open(ENTRY)
    for state, (korean, english) in ROOM_STATES.items():
        room.status = status(room_state=state)
        await expect(tab.locator("#headline")).to_have_text(korean)
        assert await tab.evaluate("document.documentElement.lang") == "ko"
        lead = await tab.locator("#lead").inner_text()
        assert re.search("[가-힣]", lead)
        await tab.click("#language")
        await expect(tab.locator("#headline")).to_have_text(english)
        visible = (await tab.locator("main").inner_text()).strip()
        assert visible
        assert not re.search("[가-힣]", visible), f"{state}: Korean left in the English page"
        assert not re.search(r"\{\w+\}|undefined|null|NaN", visible), visible
        await tab.click("#language")
    assert len({words for words, _ in ROOM_STATES.values()}) == len(ROOM_STATES) - 1


@pytest.mark.parametrize("tabs", [{"locale": "ko-KR"}], indirect=True)
async def test_operator_message_and_cause_are_shown_as_text(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 6: a position that grew says why; what operators write is text and never markup."""
    hostile = "<img src=x onerror=alert(1)>오늘 신청분은 내일 지급됩니다"
    message = {"texts": {"ko": hostile, "en": "Paid out tomorrow"}, "at": "2026-11-05T02:00:00Z"}
    room.status = status(message=message, cause={"code": "recovered", "at": "2026-11-05T02:00:00Z"})
    tab = await tabs.open(ENTRY)
    await expect(tab.locator("#message")).to_have_text(hostile)
    await expect(tab.locator("#cause")).to_contain_text("장애가 복구되면서")
    await tab.click("#language")
    await expect(tab.locator("#message")).to_have_text("Paid out tomorrow")
    room.status = status(message={"texts": {"ko": "한국어만"}, "at": None}, cause={"code": "never-heard-of"})
    await expect(tab.locator("#message")).to_have_text("한국어만")
    assert await tab.get_attribute("#message", "lang") == "ko"
    await expect(tab.locator("#cause")).to_contain_text("earlier places were confirmed again")


@pytest.mark.parametrize("state", ["called", "parked"])
async def test_turn_that_nobody_can_take_is_not_called_a_turn(room: ScriptedRoom, tabs: Tabs, state: str) -> None:
    """Section 4: a call stands while the room is shut; whoever was called is told to be next, why, and what follows."""
    reasons = {"paused": "entry resumes", "scheduled": "it opens", "recovering": "that is done", "unreachable": "back"}
    tab = await tabs.open(ENTRY)
    for room_state, reason in reasons.items():
        room.status = status(state, room_state=room_state)
        await expect(tab.locator("#lead")).to_contain_text("You will go in by yourself as soon as")
        await expect(tab.locator("#lead")).to_contain_text(reason)
        assert await tab.locator("#headline").inner_text() == "You are next"
        assert "It is your turn" not in await tab.locator("section.live").inner_text()
        await expect(tab.locator("#place")).to_be_hidden()
    await expect(tab.locator("#next")).to_contain_text("Your turn is kept")
    room.status = status("called")
    await expect(tab.locator("#headline")).to_have_text("It is your turn")


async def test_place_unknown_for_a_moment_does_not_wipe_out_the_last_one(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 8: while a room recovers the last known place is shown, marked stale; without one, no empty figures."""
    tab = await tabs.open(ENTRY)
    await expect(tab.locator("#position")).to_have_text("1,234")
    unknown: dict[str, Any] = {"position": None, "ahead": None, "eta": None, "progress": None}
    room.status = status(room_state="recovering", **unknown)
    await expect(tab.locator("#headline")).to_have_text("The line is being restored")
    await expect(tab.locator("#position")).to_have_text("1,234")
    await expect(tab.locator("#stale")).to_be_visible()
    await expect(tab.locator("#progress")).to_be_hidden()
    await tab.reload()
    await expect(tab.locator("#headline")).to_have_text("The line is being restored")
    await expect(tab.locator("#place")).to_be_hidden()
    room.status = status(position=1200)
    await expect(tab.locator("#position")).to_have_text("1,200")
    await expect(tab.locator("#stale")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast_is_aa_in_light_and_dark(room: ScriptedRoom, tabs: Tabs, scheme: str) -> None:
    """WCAG 2.1 AA: 4.5 to 1 for every text, notes and buttons too."""
    room.status = status(message={"texts": {"en": "News"}}, cause={"code": "x"}, stale=True)
    tab = await tabs.open(ENTRY)
    await tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await tab.click("#leave")
    await contrast_is_enough(tab, at_least=14)
    room.status = status("ended")
    await expect(tab.locator("#again")).to_be_visible()
    await contrast_is_enough(tab, at_least=4)


async def test_roles_names_and_a_live_region_that_does_not_chatter(room: ScriptedRoom, tabs: Tabs) -> None:
    """WCAG 4.1.2 and 4.1.3: named controls, and changed figures are not read out at every poll."""
    tab = await tabs.open(ENTRY)
    await expect(tab.get_by_role("heading", level=1, name="You are in line")).to_be_visible()
    await expect(tab.get_by_role("progressbar", name="Progress")).to_be_visible()
    await expect(tab.get_by_role("button", name="한국어")).to_be_visible()
    spoken = tab.locator("[aria-live=polite]")
    await expect(spoken).to_contain_text("You are in line. Many people are here")
    await expect(spoken).to_contain_text("Your position 1,234. Expected wait 3 to 5 min.")
    room.status = status(position=1100)
    await expect(tab.locator("#position")).to_have_text("1,100")
    await expect(spoken).to_contain_text("1,234")
    room.status = status(room_state="paused")
    await expect(spoken).to_contain_text("Entry is paused.")
    assert await tab.locator("[aria-live]").count() == 1
    assert await tab.evaluate("document.querySelector('#spoken').getBoundingClientRect().width") == 1


async def test_leaves_by_keyboard_alone(room: ScriptedRoom, tabs: Tabs) -> None:
    """WCAG 2.1.1: every control is reached by Tab, used by Enter, and shows where the focus is."""
    tab = await tabs.open(ENTRY)
    await expect(tab.locator("#leave")).to_be_visible()
    for name in ("language", "leave"):
        await tab.keyboard.press("Tab")
        assert await tab.evaluate("document.activeElement.id") == name
        outline = await tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    await tab.keyboard.press("Enter")
    await tab.keyboard.press("Tab")
    await tab.keyboard.press("Enter")
    await expect(tab.locator("#headline")).to_have_text("You have left the line")
    await until(lambda: bool(room.named("POST leave")))
    await tab.keyboard.press("Tab")
    await tab.keyboard.press("Tab")
    assert await tab.evaluate("document.activeElement.id") in {"again", "language"}


@pytest.mark.parametrize("tabs", [{"viewport": {"width": 320, "height": 640}}], indirect=True)
async def test_fits_a_small_phone(room: ScriptedRoom, tabs: Tabs) -> None:
    """WCAG 1.4.10: no sideways scrolling at 320 pixels, and targets of 44 pixels."""
    room.status = status(position=1_234_567, ahead=1_234_566, eta={"p50_s": 4000, "p90_s": 9000})
    tab = await tabs.open(ENTRY)
    await expect(tab.locator("#eta")).to_have_text("1 h 10 min to 2 h 30 min")
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 320
    await tab.click("#leave")
    for target in ("#language", "#leave", "#leave-yes"):
        box = await tab.locator(target).bounding_box()
        assert box is not None
        assert box["height"] >= 44


async def test_injected_script_is_stopped_by_the_policy(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8: the policy names our one script by its hash, so nothing else runs."""
    room.page = type(room.page)(
        room.page.body.replace(b"</main>", b"</main><script>evil = 1</script>"), room.page.headers
    )
    tab = await tabs.open(f"/_waitroom/{ROOM}/")
    await expect(tab.locator("#headline")).to_have_text("You are in line")
    assert await tab.evaluate("typeof evil") == "undefined"
    assert any("Content Security Policy" in fault for fault in tabs.faults)
    tabs.faults.clear()
