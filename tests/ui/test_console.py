"""The operator console in a real browser, on a scripted API: what it shows, sends, and says when refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page, expect

from tests.ui.conftest import Tabs, contrast_is_enough, until
from tests.ui.scripted_api import TOKEN, ScriptedApi

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def api() -> ScriptedApi:
    return ScriptedApi()


@pytest_asyncio.fixture(loop_scope="session")
async def console_tab(api: ScriptedApi, tabs: Tabs) -> AsyncIterator[Page]:
    """The console as it opens."""
    runner = web.AppRunner(api.routes(), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    tabs.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield await tabs.open("/")
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(console_tab: Page) -> Page:
    """Signed in, with the room's panel open."""
    await sign_in(console_tab, TOKEN)
    await open_room(console_tab)
    return console_tab


async def sign_in(tab: Page, token: str) -> None:
    await tab.fill("#token", token)
    await tab.keyboard.press("Enter")


async def read_now(tab: Page) -> None:
    """Let the console read before its two seconds are over, as it does when its tab is looked at again."""
    await tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


async def open_room(tab: Page) -> None:
    await tab.get_by_role("button", name="point-cashout").click()
    await expect(tab.locator("#room-title")).to_have_text("point-cashout")


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
    await read_now(tab)
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
    await read_now(tab)
    await expect(tab.locator("#fault")).to_contain_text("figures below are old")
    await tabs.context.set_offline(False)
    await read_now(tab)
    await expect(tab.locator("#fault")).to_be_hidden()
    await until(lambda: not api.patches)


async def test_no_token_is_asked_for_where_none_is_needed(console_tab: Page, api: ScriptedApi) -> None:
    """Section 8: without [[operators]] loopback needs no token, so nobody is told that any text is one."""
    await expect(console_tab.locator("#sign-in")).to_be_visible()
    await expect(console_tab.locator("#fault")).to_be_hidden()
    api.roles = {}
    await console_tab.reload()
    await open_room(console_tab)
    await expect(console_tab.locator("#sign-in")).to_be_hidden()
    await expect(console_tab.locator("#sign-out")).to_be_hidden()
    await console_tab.click("#pause")
    await expect(console_tab.locator("#rooms .state")).to_have_text("paused")


async def test_missing_role_is_named(console_tab: Page, api: ScriptedApi) -> None:
    """Section 8, roles: 403 says which role would be let, on reading as on changing."""
    await sign_in(console_tab, "upstream-secret")
    await expect(console_tab.locator("#fault")).to_contain_text("The role upstream may not read here.")
    await expect(console_tab.locator("#fault")).to_contain_text("a token of the role viewer or operator")
    await sign_in(console_tab, "viewer-secret")
    await open_room(console_tab)
    await expect(console_tab.locator("#fault")).to_be_hidden()
    await console_tab.click("#pause")
    await expect(console_tab.locator("#refused")).to_contain_text("a token of the role operator.")
    assert api.version == 7


async def test_stock_the_bank_reports_stands_beside_the_configured_one(tab: Page, api: ScriptedApi) -> None:
    """Section 8: what is left as the upstream reports; set anew, be it to the same figure, the operator's word counts."""
    await expect(tab.locator('[id="anew-stock"]')).to_be_hidden()
    api.change(stock=500)
    api.stock_in_force = 120
    await read_now(tab)
    await expect(tab.locator('[id="settings-stock"]')).to_have_text("stock 500, 120 left as the bank reports")
    await expect(tab.locator("#rooms tr")).to_contain_text("120")
    await tab.locator('[id="anew-stock"]').click()
    await expect(tab.locator('[id="settings-stock"]')).to_have_text("500")
    await expect(tab.locator('[id="anew-stock"]')).to_be_hidden()
    assert [patch for patch, _ in api.patches] == [{"stock": 500}]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast_is_aa_in_light_and_dark(tab: Page, api: ScriptedApi, scheme: str) -> None:
    """WCAG 2.1 AA: operators work at night, too."""
    api.change(stock=500)
    api.stock_in_force = 120
    await tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await tab.fill('[id="field-drain_rate"]', "50/fortnight")
    await tab.click("#save")
    await expect(tab.locator("#refused")).to_be_visible()
    await contrast_is_enough(tab, at_least=60)
