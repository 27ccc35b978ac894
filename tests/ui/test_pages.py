"""The pages as bytes: what they weigh, what their headers allow, and that nothing put into them can get out."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from html.parser import HTMLParser

import pytest

import waitroom_ui
from tests.ui.scripted import ENTRY, ROOM, status
from waitroom_ui import Page, place_page, waiting_page

HOSTILE = "\"'><script>alert(1)</script>{{script}}&<b>"
PAGES = {
    "waiting": waiting_page(ROOM, ENTRY),
    "posted": waiting_page(ROOM, ENTRY, posted=True, board_poll_s=5),
    "place": place_page(ROOM, status(), ENTRY),
    "full": waitroom_ui.full_page(ROOM),
    "sold out": waitroom_ui.sold_out_page(ROOM),
    "closed": waitroom_ui.closed_page(ROOM),
    "busy": waitroom_ui.busy_page(),
    "console": waitroom_ui.console(),
}
HOSTILE_STATUS = status(
    room_state="queueing",
    position=HOSTILE,
    number=HOSTILE,
    ahead=HOSTILE,
    as_of=HOSTILE,
    progress=HOSTILE,
    eta={"p50_s": HOSTILE, "p90_s": HOSTILE},
    message={"texts": {HOSTILE: HOSTILE}},
)


class Seen(HTMLParser):
    """Which elements a browser would make of a page, with their attributes and texts."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inline: dict[str, str] = {}
        self._open = ""
        self.feed(page.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"}:
            self.inline[self._open] = data
            self._open = ""
        self.texts.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("name", PAGES)
def test_policy_names_the_inline_parts_by_hash_and_nothing_is_loaded(name: str) -> None:
    """Issue 2, item 7: no external request, strict CSP."""
    page = PAGES[name]
    seen = Seen(page)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == digest(seen.inline["style"])
    assert policy.get("script-src") == (digest(seen.inline["script"]) if "script" in seen.inline else None)
    assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert not any(
        attributes.get("style") or attributes.get("src") or any(a.startswith("on") for a in attributes)
        for _, attributes in seen.tags
    )
    assert {link["href"] for link in seen.attributes("link")} == {"data:,"}
    assert not re.search(r"https?://|\.innerHTML|outerHTML|document\.write|\beval\b", page.body.decode())


@pytest.mark.parametrize("name", ["waiting", "posted"])
def test_waiting_page_weighs_less_than_31_kb_and_11_kb_compressed(name: str) -> None:
    """A flood of first arrivals is cheap, in one document, with or without an edge that compresses."""
    assert len(PAGES[name].body) < 31_000
    assert len(gzip.compress(PAGES[name].body)) < 11_000


@pytest.mark.parametrize("name", [name for name in PAGES if name != "console"])
def test_every_page_speaks_both_languages(name: str) -> None:
    """Issue 2, item 7: Korean and English in the same document, without script too."""
    seen = Seen(PAGES[name])
    spans = [attributes.get("lang") for attributes in seen.attributes("span") if attributes.get("class") == "t"]
    assert spans.count("ko") == spans.count("en") > 0


def test_posted_page_says_that_nothing_was_sent() -> None:
    """Section 8: a navigation by POST gets a page that says so; other visitors do not read it."""
    assert b"Nothing was sent" in PAGES["posted"].body
    assert b"Nothing was sent" not in PAGES["waiting"].body


@pytest.mark.parametrize(
    "page",
    [
        waiting_page(HOSTILE, HOSTILE),
        waitroom_ui.full_page(HOSTILE, return_to=f"/{HOSTILE}"),
        waitroom_ui.closed_page(HOSTILE),
        *(
            place_page(HOSTILE, HOSTILE_STATUS | {"state": state}, f"/{HOSTILE}", return_to=f"/{HOSTILE}")
            for state in ("waiting", "called", "admitted", "ended", HOSTILE)
        ),
    ],
)
def test_hostile_texts_stay_texts(page: Page) -> None:
    """Room ids, entries, targets and messages come from outside: none adds an element or an attribute."""
    seen = Seen(page)
    scripts = seen.attributes("script")
    assert len(scripts) == page.body.count(b'<script type="module">')
    assert not seen.attributes("b")
    assert not any("alert" in name for _, attributes in seen.tags for name in attributes)
    assert not any(c in value for value in page.headers.values() for c in "\r\n<>")
    for form in seen.attributes("form"):
        assert re.fullmatch(r"/_waitroom/[\w%.~-]+/[a-z]+(\?return_to=[\w%.~+-]+)?", form["action"] or "")


@pytest.mark.parametrize(
    ("wanted", "target"),
    [
        ("/points/cashout/step?n=2&m=3", "/points/cashout/step?n=2&m=3"),
        (None, ENTRY),
        ("//evil.example/", ENTRY),
        ("/\\evil.example/", ENTRY),
        ("/a\tb", ENTRY),
        ("/a\r\nSet-Cookie: x", ENTRY),
        ("https://evil.example/", ENTRY),
        ("/" + "가" * 400, ENTRY),
        ("/_waitroom/point-cashout/leave", ENTRY),
    ],
)
def test_admitted_leads_only_to_a_path_of_this_host(wanted: str | None, target: str) -> None:
    """Section 8: `return_to` is checked, and falls back to the room's entry."""
    page = place_page(ROOM, status("admitted"), ENTRY, return_to=wanted)
    assert [link["href"] for link in Seen(page).attributes("a")] == [target]
    assert page.headers["Refresh"] == f"0; url={target}"


def test_busy_page_links_to_where_a_get_is_welcome() -> None:
    """Section 8: a shed navigation asks for its own address again, a shed form of ours for the room's page."""
    assert [link["href"] for link in Seen(PAGES["busy"]).attributes("a")] == [""]
    of_room = Seen(waitroom_ui.busy_page(ROOM, return_to="/points/cashout/step"))
    assert [link["href"] for link in of_room.attributes("a")] == [
        f"/_waitroom/{ROOM}/?return_to=%2Fpoints%2Fcashout%2Fstep"
    ]


def test_refresh_follows_the_server_and_keeps_the_target() -> None:
    """Section 8, no script: `Refresh` as `poll_after_ms` says, to the status, with `return_to` in its query."""
    page = place_page(ROOM, status(poll_after_ms=7300), ENTRY, return_to="/points/cashout/step?n=2")
    target = "%2Fpoints%2Fcashout%2Fstep%3Fn%3D2"
    assert page.headers["Refresh"] == f"8; url=/_waitroom/{ROOM}/status?return_to={target}"
    assert [form["action"] for form in Seen(page).attributes("form")] == [f"/_waitroom/{ROOM}/leave?return_to={target}"]
    called = place_page(ROOM, status("called", poll_after_ms=1000), ENTRY)
    assert called.headers["Refresh"] == f"20; url=/_waitroom/{ROOM}/status"
    assert Seen(called).attributes("form")[0]["action"] == f"/_waitroom/{ROOM}/admission"
    assert "Refresh" not in place_page(ROOM, status("ended"), ENTRY).headers
    assert "Refresh" not in place_page(ROOM, status(poll_after_ms=None), ENTRY).headers


@pytest.mark.parametrize(
    ("p50_s", "p90_s", "korean", "english"),
    [
        (5, 40, "1분 이내", "under a minute"),
        (5, 100, "약 1~2분", "1 to 2 min"),
        (130, 170, "약 3분", "about 3 min"),
        (700, 1300, "약 15~25분", "15 to 25 min"),
        (3000, 5000, "약 50분 ~ 1시간 30분", "50 min to 1 h 30 min"),
        (7200, 7200, "약 2시간", "about 2 h"),
        (50_000, 90_000, "12시간 이상", "over 12 h"),
        (300, 60, "약 5분", "about 5 min"),
    ],
)
def test_expected_time_is_a_range_in_words(p50_s: float, p90_s: float, korean: str, english: str) -> None:
    """Section 6: p50 to p90, rounded up to what a person would say."""
    page = place_page(ROOM, status(eta={"p50_s": p50_s, "p90_s": p90_s}), ENTRY)
    texts = [text.replace("\N{NO-BREAK SPACE}", " ") for text in Seen(page).texts]
    assert korean in texts
    assert english in texts


@pytest.mark.parametrize("state", ["called", "parked"])
@pytest.mark.parametrize("room_state", ["paused", "scheduled", "recovering", "unreachable"])
def test_turn_that_nobody_can_take_has_no_button_and_follows_the_server(state: str, room_state: str) -> None:
    """Section 8, no script: next, not called: nothing to press but to leave, refreshed as the server says."""
    page = place_page(ROOM, status(state, room_state=room_state, poll_after_ms=5200), ENTRY)
    seen = Seen(page)
    assert {"You are next", "다음 차례입니다"} <= set(seen.texts)
    assert "It is your turn" not in seen.texts
    assert [form["action"] for form in seen.attributes("form")] == [f"/_waitroom/{ROOM}/leave"]
    assert page.headers["Refresh"] == f"6; url=/_waitroom/{ROOM}/status"


def test_what_is_not_known_is_left_out() -> None:
    """Section 8, no script: neither an empty bar nor a dash for a position."""
    nothing = Seen(place_page(ROOM, status(position=None, ahead=None, provisional=True), ENTRY))
    assert not nothing.attributes("progress")
    assert not nothing.attributes("dl")
    assert any("Your arrival has been noted" in text for text in nothing.texts)
    untimed = Seen(place_page(ROOM, status(room_state="paused", eta=None, progress=None), ENTRY))
    assert not untimed.attributes("progress")
    assert "1,234" in untimed.texts


@pytest.mark.parametrize(
    "room_state", ["paused", "scheduled", "full", "sold_out", "closed", "recovering", "unreachable"]
)
def test_room_state_is_told_without_script_too(room_state: str) -> None:
    """Section 8: every `room_state` has its own headline on the small page, the same as on the large one."""
    headlines = {
        place_page(ROOM, status(room_state=s), ENTRY).body.split(b"<h1>")[1][:40] for s in ("idle", room_state)
    }
    assert len(headlines) == 2
