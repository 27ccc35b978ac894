"""A visitor's walk through the waiting page in a real browser, named by what could go wrong."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Page, expect

from tests.ui.conftest import Tabs, until
from tests.ui.scripted import ENTRY, ROOM, Answer, ScriptedRoom, status

pytestmark = pytest.mark.asyncio(loop_scope="session")
KEY = f"localStorage.getItem('waitroom:{ROOM}')"
# Headless Chromium never hides a tab, so the property that tells is set by hand, as a tab switch would.
HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def headline(tab: Page, text: str) -> None:
    await expect(tab.locator("#headline")).to_have_text(text)


async def at_the_bank(tab: Page) -> None:
    await expect(tab.get_by_role("heading", name="Cash-out desk")).to_be_visible()


async def test_arrival_to_bank_page_in_place(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 4: the waiting page stands in place of the URL, and the bank's page comes there by itself."""
    tab = await tabs.open(f"{ENTRY}?campaign=spring#offers")
    await headline(tab, "You are in line")
    await expect(tab.locator("#position")).to_have_text("1,234")
    await expect(tab.locator("#ahead")).to_have_text("1,233")
    await expect(tab.locator("#eta")).to_have_text("3 to 5 min")
    await expect(tab.locator("#updated")).to_have_text("11:00:00 AM")
    assert re.fullmatch(r"[\w-]{22}", await tab.evaluate(KEY))
    room.status = status("called")
    await headline(tab, "It is your turn")
    await until(lambda: bool(room.named("POST admission")))
    room.is_door_open = True
    await at_the_bank(tab)
    assert tab.url == f"{room.origin}{ENTRY}?campaign=spring#offers"
    assert await tab.evaluate(KEY) is None, "a later visit starts anew"
    assert len(room.named("GET bank")) == 1
    assert {call.headers["Content-Type"] for call in room.named("POST ticket")} == {"application/json"}


async def test_polls_exactly_when_the_server_says_and_stops_at_null(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 6: the next poll is chosen by the server; `poll_after_ms` null means stop."""
    room.script("GET status", *[Answer(200, status(poll_after_ms=ms)) for ms in (300, 900)])
    room.status = status(poll_after_ms=300)
    await tabs.open(ENTRY)
    await until(lambda: len(room.named("GET status")) == 2)
    room.status = status(poll_after_ms=None)
    await until(lambda: len(room.named("GET status")) == 3)
    first, second, third = (call.at_s for call in room.named("GET status"))
    assert 0.3 <= second - first < 0.8
    assert 0.9 <= third - second < 1.6
    await asyncio.sleep(0.7)  # nothing may happen in this time, so there is no state to wait for
    assert len(room.named("GET status")) == 3


async def test_reload_keeps_the_place(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 5: a refresh loses no place; the same key is sent again."""
    tab = await tabs.open(ENTRY)
    await headline(tab, "You are in line")
    await tab.reload()
    await headline(tab, "You are in line")
    await until(lambda: len(room.named("POST ticket")) == 2)
    first, second = (call.body["key"] for call in room.named("POST ticket"))
    assert first == second


async def test_two_tabs_share_one_key_and_both_get_in(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 4: one key, one place, from another tab too; the tab that did not claim follows the one that did."""
    room.is_door_open = True
    one = await tabs.open(ENTRY)
    two = await tabs.open(ENTRY)
    await headline(two, "You are in line")
    assert len({call.body["key"] for call in room.named("POST ticket")}) == 1
    room.script("GET status", Answer(200, status("called")))
    for tab in (one, two):
        await at_the_bank(tab)
    assert len(room.named("POST admission")) == 1


async def test_leaving_needs_two_steps_and_joining_again_takes_a_new_key(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 4: a place given up is spent, so its key is not used again."""
    tab = await tabs.open(ENTRY)
    await expect(tab.locator("#leave-yes")).to_be_hidden()
    await tab.click("#leave")
    assert not room.named("POST leave")
    await tab.click("#leave-yes")
    await headline(tab, "You have left the line")
    assert await tab.evaluate(KEY) is None
    await tab.click("#again")
    await headline(tab, "You are in line")
    first, second = (call.body["key"] for call in room.named("POST ticket"))
    assert first != second


async def test_leaving_in_one_tab_ends_the_other(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 4: a second tab does not take a new place for one that was given up: it hears of it, or asks."""
    room.status = status(poll_after_ms=2_000)  # a browser may keep a tab in the background from hearing of it at once
    one = await tabs.open(ENTRY)
    two = await tabs.open(ENTRY)
    await headline(two, "You are in line")
    await one.click("#leave")
    await one.click("#leave-yes")
    await headline(two, "You have left the line")
    assert len(room.named("POST ticket")) == 2


async def test_hidden_tab_claims_only_when_visible(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 4: a hidden tab calls for its person by its title, and claims at once when it is looked at."""
    room.is_door_open = True
    tab = await tabs.open(ENTRY)
    await headline(tab, "You are in line")
    await tab.evaluate(HIDE, True)
    room.status = status("called", claim_in_ms=120_000)
    await expect(tab).to_have_title("● Your turn!")
    seen = len(room.named("GET status"))
    await until(lambda: len(room.named("GET status")) >= seen + 2)
    assert not room.named("POST admission")
    await tab.evaluate(HIDE, False)
    await at_the_bank(tab)


async def test_becoming_visible_asks_at_once(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 6: who comes back to the page sees the newest place, not the one of half a minute ago."""
    room.status = status(poll_after_ms=30_000)
    tab = await tabs.open(ENTRY)
    await headline(tab, "You are in line")
    await tab.evaluate(HIDE, True)
    room.status = status(position=7, ahead=6, poll_after_ms=30_000)
    await tab.evaluate(HIDE, False)
    await expect(tab.locator("#position")).to_have_text("7")


async def test_late_reply_is_dropped(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 6: of two replies the one asked for last counts, whichever comes last."""
    late = asyncio.Event()
    room.status = status(poll_after_ms=30_000)
    room.script("GET status", Answer(200, status(position=999, poll_after_ms=60_000), gate=late))
    tab = await tabs.open(ENTRY)
    await headline(tab, "You are in line")
    await tab.evaluate(HIDE, False)
    await until(lambda: len(room.named("GET status")) == 1)
    room.status = status(position=500, poll_after_ms=60_000)
    await tab.evaluate(HIDE, False)
    await expect(tab.locator("#position")).to_have_text("500")
    async with tab.expect_response(re.compile("/status$")) as reply:
        late.set()
    await (await reply.value).finished()
    await tab.evaluate("new Promise((done) => setTimeout(done, 50))")  # its script has run by then
    await expect(tab.locator("#position")).to_have_text("500")


async def test_network_loss_shows_the_last_place_and_recovers(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 8: no error page, the last known place marked stale, and it goes on by itself."""
    tab = await tabs.open(ENTRY)
    await headline(tab, "You are in line")
    await expect(tab.locator("#stale")).to_be_hidden()
    room.is_down = True
    await expect(tab.locator("#stale")).to_have_text("This is your last known place. A newer one follows.")
    await expect(tab.locator("#position")).to_have_text("1,234")
    before = len(room.calls)
    await until(lambda: len(room.calls) > before)
    assert room.calls[-1].at_s - room.calls[-2].at_s >= 0.9, "tries back off"
    room.is_down = False
    room.status = status(position=1200)
    await expect(tab.locator("#position")).to_have_text("1,200")
    await expect(tab.locator("#stale")).to_be_hidden()


async def test_server_error_honours_retry_after(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 8: a 503 for a poll is not an error page, and is not asked again before its Retry-After."""
    room.script("GET status", Answer(503, {}, {"Retry-After": "1"}))
    tab = await tabs.open(ENTRY)
    await expect(tab.locator("#stale")).to_be_visible()
    await until(lambda: len(room.named("GET status")) == 2)
    first, second = (call.at_s for call in room.named("GET status"))
    assert 1.0 <= second - first <= 2.5


async def test_unknown_ticket_joins_again_with_the_same_key(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 5: a ticket that is no longer known (a reset) costs nothing but a join with the same key."""
    tab = await tabs.open(ENTRY)
    await headline(tab, "You are in line")
    room.script("GET status", Answer(404))
    await until(lambda: len(room.named("POST ticket")) == 2)
    await headline(tab, "You are in line")
    first, second = (call.body["key"] for call in room.named("POST ticket"))
    assert first == second


@pytest.mark.parametrize("answer", [Answer(200, status("ended")), Answer(410)])
async def test_ended_place_says_so(room: ScriptedRoom, tabs: Tabs, answer: Answer) -> None:
    """Section 4: an ended place is told, and nothing is joined before the visitor asks."""
    room.script("GET status", answer)
    tab = await tabs.open(ENTRY)
    await headline(tab, "This place has ended")
    await tab.click("#again")
    await headline(tab, "You are in line")
    first, second = (call.body["key"] for call in room.named("POST ticket"))
    assert first != second


async def test_claim_that_is_refused_for_good_asks_the_status(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 4: a claim whose ticket is spent ends, and does not hammer."""
    room.script("POST admission", Answer(410))
    room.script("GET status", Answer(200, status("called")), Answer(200, status("ended")))
    tab = await tabs.open(ENTRY)
    await headline(tab, "This place has ended")
    assert len(room.named("POST admission")) == 1


async def test_full_line_is_told_and_tried_again(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8: 503 full is shown honestly, and joined again after Retry-After."""
    room.script("POST ticket", Answer(503, {"type": "/problems/room-full"}, {"Retry-After": "1"}))
    tab = await tabs.open(ENTRY)
    await headline(tab, "The line is full")
    await expect(tab.locator("#lead")).to_contain_text("You do not have a place yet")
    await headline(tab, "You are in line")
    first, second = (call.at_s for call in room.named("POST ticket"))
    assert 1.0 <= second - first <= 2.0


@pytest.mark.parametrize(
    ("kind", "text"), [("sold-out", "Everything has been given out"), ("closed", "This is closed")]
)
async def test_refused_join_is_told(room: ScriptedRoom, tabs: Tabs, kind: str, text: str) -> None:
    """Section 8: 409 sold out or closed is shown honestly, and not asked again by itself."""
    room.script("POST ticket", Answer(409, {"type": kind}))
    tab = await tabs.open(ENTRY)
    await headline(tab, text)
    await expect(tab.locator("#place")).to_be_hidden()
    await tab.click("#again")
    await headline(tab, "You are in line")


async def test_blocked_cookies_are_named_and_do_not_loop(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 7: without our cookie no place can be kept: say so instead of joining for ever."""
    room.is_keeping_cookies = False
    tab = await tabs.open(ENTRY)
    await headline(tab, "Please allow cookies")
    assert len(room.named("POST ticket")) == 2


async def test_admission_that_does_not_stick_does_not_reload_for_ever(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 4: a page that loads itself again and again would be a flood of our own making."""
    room.script("POST ticket", *[Answer(200, status("admitted")) for _ in range(9)])
    tab = await tabs.open(ENTRY)
    await headline(tab, "You may enter")
    assert len(room.named("GET page")) == 4
    await expect(tab.locator("#enter")).to_be_visible()


RETURNS = {
    "?return_to=/points/cashout/step?n=2": "/points/cashout/step?n=2",
    "": ENTRY,
    "?return_to=//evil.example/": ENTRY,
    "?return_to=/%5Cevil.example/": ENTRY,
    "?return_to=/%09/evil.example/": ENTRY,
    "?return_to=javascript:alert(1)": ENTRY,
    "?return_to=/" + "x" * 1024: ENTRY,
    f"?return_to=/_waitroom/{ROOM}/": ENTRY,
}


async def test_own_address_returns_only_to_paths_of_this_host(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8: `return_to` is a path of this host, else the room's entry."""
    room.is_door_open = True
    room.status = status("called")
    tab = await tabs.open(ENTRY)
    await at_the_bank(tab)  # it loads itself: nothing may be asked of it before
    for query, target in RETURNS.items():
        await tabs.context.clear_cookies()
        await tab.evaluate("sessionStorage.clear()")
        await tab.goto(f"{room.origin}/_waitroom/{ROOM}/{query}")
        await at_the_bank(tab)
        assert tab.url == room.origin + target, query
        assert len(room.named("GET waiting page")) == 1, f"{query} led in a circle"
        room.calls.clear()


async def test_posted_form_is_not_sent_and_leads_back_to_its_form(room: ScriptedRoom, tabs: Tabs) -> None:
    """Promise 10: what was posted is not sent by us, nor a second time by a reload."""
    tab = await tabs.open(ENTRY)
    await tab.evaluate("""() => {
      const form = Object.assign(document.createElement("form"), { method: "post", action: "/points/cashout/pay" });
      document.body.append(form);
      form.submit();
    }""")
    await expect(tab.locator(".posted")).to_contain_text("Nothing was sent")
    await headline(tab, "You are in line")
    room.is_door_open = True
    room.status = status("called")
    await at_the_bank(tab)
    assert tab.url == room.origin + ENTRY
    assert not room.named("POST bank")


async def test_opening_time_is_read_from_the_board(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 8: a scheduled room tells when it opens, in the visitor's own time."""
    room.board = {"room_state": "scheduled", "opens_at": "2026-11-06T02:00:00Z"}
    room.status = status(room_state="scheduled", poll_after_ms=30_000)
    tab = await tabs.open(ENTRY)
    await expect(tab.locator("#lead")).to_have_text("Opens at November 6, 2026 at 11:00 AM. Entry is in order.")


async def test_far_off_page_follows_the_board(room: ScriptedRoom, tabs: Tabs) -> None:
    """Section 6: with `board_poll` the state of the room and messages arrive between two polls."""
    room.page = type(room.page)(
        room.page.body.replace(b"<html ", b'<html data-board-poll-ms="200" '), room.page.headers
    )
    room.board = {"room_state": "queueing"}
    room.status = status(poll_after_ms=30_000)
    tab = await tabs.open(ENTRY)
    await headline(tab, "You are in line")
    room.board = {"room_state": "paused", "message": {"texts": {"en": "Back at noon."}}}
    await headline(tab, "Entry is paused")
    await expect(tab.locator("#message")).to_have_text("Back at noon.")
    assert not room.named("GET status")
