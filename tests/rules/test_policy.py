"""The decisions about a protected request, as tables: what it is, who passes, who tries, what a lease sets off."""

from __future__ import annotations

from dataclasses import replace

import pytest
from multidict import CIMultiDict

from gateway.model import Admission, Code, RoomState, Standing, Ticket
from gateway.rules.policy import (
    Admit,
    Asked,
    Credential,
    Forward,
    Hold,
    Renewal,
    TryEntry,
    admission_until_s,
    admit,
    origin_fault,
    poll_after_ms,
    renewal,
    return_path,
    settle,
    triage,
)
from gateway.rules.verified import Verified

NOW_S = 1_800_000_000
ADMISSION = Admission("cashout", b"a" * 16, 1, NOW_S, NOW_S, NOW_S + 600)
TICKET = Ticket("cashout", b"t" * 16, 7, 1, NOW_S, NOW_S, NOW_S + 1200)
NAVIGATION = {"Sec-Fetch-Mode": "navigate"}


def asked(method: str = "GET", **headers: str) -> Asked:
    return Asked.of(method, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}))


# --- what kind of request it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "is_navigation"),
    [
        ("GET", {"Sec-Fetch-Mode": "navigate"}, True),
        ("HEAD", {"Sec-Fetch-Mode": "navigate"}, True),
        ("GET", {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}, True),
        ("GET", {"Accept": "TEXT/HTML"}, True),
        ("GET", {"Accept": "*/*"}, False),
        ("GET", {}, False),
        ("GET", {"Accept": "text/html", "Sec-Fetch-Mode": "cors"}, False),
        ("GET", {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}, False),
        ("GET", {"Accept": "text/html", "X-Requested-With": "XMLHttpRequest"}, False),
        ("GET", NAVIGATION | {"X-Requested-With": "XMLHttpRequest"}, False),
        ("GET", NAVIGATION | {"Range": "bytes=0-1"}, False),
        ("GET", NAVIGATION | {"Upgrade": "websocket"}, False),
        ("POST", NAVIGATION, False),
        ("OPTIONS", {"Accept": "text/html"}, False),
    ],
)
def test_a_navigation_is_what_a_browser_shows_as_a_page(
    method: str, headers: dict[str, str], is_navigation: bool
) -> None:
    """Section 8, navigation: GET or HEAD that asks for a page; never with X-Requested-With, Range or Upgrade."""
    assert asked(method, **headers).is_navigation is is_navigation


@pytest.mark.parametrize(
    ("method", "is_form"), [("POST", True), ("GET", False), ("PUT", False), ("DELETE", False), ("OPTIONS", False)]
)
def test_only_a_navigation_by_post_is_a_sent_form(method: str, is_form: bool) -> None:
    """Section 8: a navigation by POST gets a page that says nothing was sent; anything else a problem document."""
    assert asked(method, Accept="text/html").is_sent_form is is_form


@pytest.mark.parametrize(
    ("method", "headers", "may_enter"),
    [
        ("GET", NAVIGATION, True),
        ("GET", {"Waitroom-Transport": "header"}, True),
        ("POST", {"Waitroom-Transport": "header"}, True),
        ("GET", {"Accept": "application/json"}, False),
        ("POST", NAVIGATION, False),
        ("HEAD", NAVIGATION, False),
        ("HEAD", {"Waitroom-Transport": "header"}, False),
        ("OPTIONS", {"Waitroom-Transport": "header"}, False),
        ("GET", {"Waitroom-Transport": "header", "Range": "bytes=0-1"}, False),
        ("GET", NAVIGATION | {"Sec-Purpose": "prefetch"}, False),
        ("GET", NAVIGATION | {"Sec-Purpose": "prefetch;prerender"}, False),
        ("GET", NAVIGATION | {"Purpose": "Prefetch"}, False),
        ("GET", {"Waitroom-Transport": "header", "Purpose": "prefetch"}, False),
    ],
)
def test_only_a_visit_may_enter_at_once(method: str, headers: dict[str, str], may_enter: bool) -> None:
    """Section 4, instant entry: never HEAD, OPTIONS, Range, or what is fetched before anybody wants it."""
    assert asked(method, **headers).may_enter_at_once is may_enter


# --- who passes -------------------------------------------------------------------------------------------------------


def decide(
    credential: Credential,
    *,
    is_void: bool = False,
    state: RoomState = RoomState.IDLE,
    has_credit: bool = True,
    what: Asked | None = None,
) -> Forward | TryEntry | Hold:
    return admit(credential, is_void=is_void, now_s=NOW_S, session_s=600, is_reachable=True) or triage(
        what or asked(Sec_Fetch_Mode="navigate"), credential, room_state=state, network_has_credit=has_credit
    )


@pytest.mark.parametrize("state", RoomState)
def test_an_admission_passes_in_every_state_of_the_room(state: RoomState) -> None:
    """Promise 7: whatever becomes of the room or of Redis, who is admitted passes."""
    assert isinstance(decide(Credential(admission=Verified(ADMISSION)), state=state), Forward)


@pytest.mark.parametrize("state", [state for state in RoomState if state is not RoomState.IDLE])
def test_nobody_enters_at_once_unless_the_room_is_idle(state: RoomState) -> None:
    """Promise 9, section 4."""
    assert decide(Credential(), state=state) == Hold(state)


def test_nothing_but_a_valid_admission_is_forwarded() -> None:
    """Promise 9: a ticket, a void admission, no credit left, a ticket that may be ours: none of them passes."""
    assert decide(Credential(admission=Verified(ADMISSION)), is_void=True, state=RoomState.QUEUEING) == Hold(
        RoomState.QUEUEING
    )
    assert decide(Credential(ticket=TICKET)) == TryEntry(TICKET)
    assert decide(Credential(ticket=replace(TICKET, number=0))) == Hold(RoomState.IDLE)
    assert decide(Credential(has_foreign_ticket=True)) == Hold(RoomState.IDLE)
    assert decide(Credential(), has_credit=False) == Hold(RoomState.IDLE)
    assert decide(Credential(), what=asked(Accept="application/json")) == Hold(RoomState.IDLE)
    assert decide(Credential()) == TryEntry(None)


@pytest.mark.parametrize("code", Code)
def test_only_an_entry_that_redis_granted_admits(code: Code) -> None:
    """Promise 1: every entry goes through the meter."""
    outcome = settle(Standing(code), RoomState.IDLE)
    assert isinstance(outcome, Admit) is (code is Code.ADMITTED)


def test_an_entry_that_could_not_be_asked_for_is_held() -> None:
    """Promise 8: no error page."""
    assert settle(None, RoomState.IDLE) == Hold(RoomState.UNREACHABLE)


# --- the lease --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "changes", "is_reachable", "expected"),
    [
        (0, {}, True, Renewal.NONE),
        (299, {}, True, Renewal.NONE),
        (300, {}, True, Renewal.TOUCH),
        (300, {"touched_at": 1.0}, True, Renewal.NONE),
        (300, {"touched_at": 1.0, "confirmed": True}, True, Renewal.REISSUE),
        (300, {"touched_at": 1.0}, False, Renewal.REISSUE),
        (300, {}, False, Renewal.TOUCH),
        (299, {"touched_at": 1.0, "confirmed": True}, True, Renewal.NONE),
    ],
)
def test_a_lease_slides_past_its_half(
    age_s: int, changes: dict[str, object], is_reachable: bool, expected: Renewal
) -> None:
    """Section 4, lease: past half-life a touch, once confirmed a fresh admission; without Redis unconfirmed."""
    verified = Verified(ADMISSION)
    for name, value in changes.items():
        setattr(verified, name, value)
    assert renewal(verified, NOW_S + age_s, 600, is_reachable=is_reachable) is expected


def test_an_instant_entry_that_comes_back_takes_its_slot() -> None:
    """Section 4: the slot lapses after 30 s unless the admission comes back once."""
    verified = Verified(replace(ADMISSION, is_instant=True))
    assert renewal(verified, NOW_S + 1, 600, is_reachable=True) is Renewal.TOUCH
    verified.touched_at = 1.0
    assert renewal(verified, NOW_S + 1, 600, is_reachable=True) is Renewal.NONE
    verified.confirmed = True
    assert renewal(verified, NOW_S + 1, 600, is_reachable=True) is Renewal.NONE


@pytest.mark.parametrize(
    ("entered_s", "now_s", "until_s"),
    [(0, 0, 600), (0, 3000, 3600), (0, 2000, 2600), (0, 3600, 3601), (0, 9000, 9001)],
)
def test_no_admission_outlasts_session_max(entered_s: int, now_s: int, until_s: int) -> None:
    """Section 4, lease: up to `session_max` from the entry, and never born expired."""
    assert admission_until_s(entered_s, now_s, 600, 3600) == until_s


@pytest.mark.parametrize(
    ("expected_s", "chance", "poll_ms"),
    [(0, 0, 1000), (0, 1, 1300), (50, 0, 10_000), (50, 0.5, 11_500), (150, 0, 30_000), (1e9, 1, 39_000)],
)
def test_polls_are_spread_between_one_and_thirty_nine_seconds(expected_s: float, chance: float, poll_ms: int) -> None:
    """Section 6: clamp(1 s, 30 s, E / 5) x (1 + 0.3 x random)."""
    assert poll_after_ms(expected_s, chance) == poll_ms


# --- who may ask for a change, and where they may be sent -------------------------------------------------------------

OWN = "https://bank.example"


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OWN}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://app.bank.example"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://other.bank.example"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, False),
        ({"Origin": OWN}, True),
        ({"Origin": "https://app.bank.example"}, True),
        ({"Origin": "http://bank.example"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_changes_are_taken_from_our_pages_and_from_no_browser(headers: dict[str, str], is_allowed: bool) -> None:
    """Section 8, CSRF: Sec-Fetch-Site decides when sent, else Origin; null is refused; neither is no browser."""
    fault = origin_fault(CIMultiDict(headers), OWN, ("https://app.bank.example",))
    assert (fault is None) is is_allowed


@pytest.mark.parametrize(
    ("text", "is_safe"),
    [
        ("/", True),
        ("/points/?a=1&b=%2F", True),
        ("/a//b", True),
        ("/" + "a" * 1023, True),
        ("/" + "a" * 1024, False),
        ("/" + "é" * 512, False),
        ("//evil.example", False),
        ("/\\evil.example", False),
        ("https://evil.example", False),
        ("points", False),
        ("/a\r\nSet-Cookie: x=1", False),
        ("/a\tb", False),
        ("/a\x7f", False),
        ("", False),
        (None, False),
    ],
)
def test_a_way_back_stays_on_this_host(text: str | None, is_safe: bool) -> None:
    """Section 8, return_to: path and query, at most 1024 bytes, no control characters, no other host."""
    assert (return_path(text) is not None) is is_safe
