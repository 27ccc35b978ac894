"""The way through the room without script: small pages with forms, that lead on by themselves."""

from __future__ import annotations

import re

import pytest

from tests.web.gatewayfixture import FORM, SHUT, OpenHouse, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)


async def test_a_browser_without_script_walks_from_page_to_bank(open_house: OpenHouse) -> None:
    """Section 8, no script: join by form, a page that refreshes itself, a claim that answers 200 with a link."""
    room = protecting("plain", paused=True)
    house = await open_house(room)
    await house.state("paused", room)
    browser = house.visitor(**FORM)
    shown = await browser.open(f"/{room.id}/offer?a=1")
    action = re.search(r'<form[^>]+action="([^"]+)"', shown.text)
    assert action is not None
    assert action[1].startswith(f"/_waitroom/{room.id}/ticket")
    here = f"https://bank.example/{room.id}/offer?a=1"
    joined = await browser.ask("POST", action[1], {"Referer": here, "Sec-Fetch-Site": "same-origin"}, data=b"")
    assert joined.status == 201
    assert joined.headers["Content-Type"].startswith("text/html")
    assert joined.headers["Cache-Control"] == "no-store"
    wait_s, url = re.fullmatch(r"(\d+); url=(\S+)", joined.headers["Refresh"]).groups()  # type: ignore[union-attr]
    assert int(wait_s) >= 1
    back = f"return_to=%2F{room.id}%2Foffer%3Fa%3D1"
    assert url == f"/_waitroom/{room.id}/status?{back}"
    await until(lambda: house.queue(room).board.census.passed >= 1)
    held = await browser.get(url)
    assert held.status == 200
    assert "You are next" in held.text
    form = f'action="/_waitroom/{room.id}/admission?{back}"'
    assert form not in held.text, "nobody can enter a paused room"
    await house.patch(room, paused=False)
    called = await until_answer(lambda: browser.get(url), lambda answer: form in answer.text)
    assert called.status == 200
    entered = await until_answer(
        lambda: browser.ask("POST", f"/_waitroom/{room.id}/admission?{back}", data=b""),
        lambda answer: answer.status == 200,
    )
    assert entered.headers["Refresh"] == f"0; url=/{room.id}/offer?a=1"
    assert f'href="/{room.id}/offer?a=1"' in entered.text
    assert (await browser.open(f"/{room.id}/offer?a=1")).body == b"the bank"


async def test_leaving_by_form_shows_that_the_place_is_given_up(open_house: OpenHouse) -> None:
    """Section 8: a page, the cookie gone; the form to join again works."""
    room = protecting("plain", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    browser = house.visitor(**FORM)
    await browser.ask("POST", f"/_waitroom/{room.id}/ticket", data=b"")
    left = await browser.ask("POST", f"/_waitroom/{room.id}/leave", data=b"")
    assert left.status == 200
    assert left.headers["Content-Type"].startswith("text/html")
    assert "Refresh" not in left.headers
    assert browser.cookies == {}
    assert f"/_waitroom/{room.id}/ticket" in left.text
    assert (await browser.ask("POST", f"/_waitroom/{room.id}/ticket", data=b"")).status == 201


@pytest.mark.parametrize(
    ("changes", "status"), [({"waiting_max": 0}, 503), ({"stock": 0}, 409), ({"closes_at_s": 1_000_000}, 409)]
)
async def test_bad_news_comes_as_a_page(open_house: OpenHouse, changes: dict[str, object], status: int) -> None:
    """Section 8: full, sold out and closed are pages for who asked for a page, with the same status."""
    room = protecting("plain", drain_rate=SHUT, burst=2, **changes)
    house = await open_house(room)
    answer = await house.visitor(**FORM).ask("POST", f"/_waitroom/{room.id}/ticket", data=b"")
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert ("Retry-After" in answer.headers) is (status == 503)


@pytest.mark.parametrize(
    ("referer", "expected"),
    [
        ("https://bank.example/{id}/a?b=1", "%2F{id}%2Fa%3Fb%3D1"),
        ("https://evil.example/{id}/a", None),
        ("https://bank.example/_waitroom/{id}/?return_to=%2Fx", "%2Fx"),
        ("https://bank.example/_waitroom/{id}/status", None),
        ("https://bank.example//evil.example/", None),
        ("http://[", None),
        ("", None),
    ],
)
async def test_a_form_leads_back_to_its_own_page_only(
    open_house: OpenHouse, referer: str, expected: str | None
) -> None:
    """Section 8, return_to: a same-origin Referer, else the room's entry; never another host, never an error."""
    room = protecting("plain", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    answer = await house.visitor(**FORM).ask(
        "POST", f"/_waitroom/{room.id}/ticket", {"Referer": referer.replace("{id}", room.id)}, data=b""
    )
    assert answer.status == 201
    query = "" if expected is None else f"?return_to={expected.replace('{id}', room.id)}"
    assert answer.headers["Refresh"].endswith(f"; url=/_waitroom/{room.id}/status{query}")
