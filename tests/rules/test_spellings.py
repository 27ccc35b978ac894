"""Can a spelling walk round a room: tables of disguises, what is refused, and a search for more."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.rules.routes import Bypassed, Protected, Refused, Unprotected, is_plain, origin_form, readings
from tests.rules.routed import IN_CASHOUT, match, status_of


@pytest.mark.parametrize(
    "target",
    [
        "/Points/CASHOUT/form",
        "/points%2Fcashout",
        "/points%252fcashout",
        "/%70oints/cash%6fut/form",
        "/%2570oints/cashout",
        "//points///cashout/",
        "/points/./cashout/",
        "/x/../points/cashout",
        "/x/%2e%2e/points/cashout",
        "/x/..%2fpoints/cashout",
        "/x/..;/points/cashout",
        "/x/..%3Bjsessionid=1/points/cashout",
        "/points;v=1/cashout;jsessionid=2/form",
        "/points\\cashout",
        "/points%5Ccashout",
        "/points%255ccashout",
        "/points/cashout%3fx=1",
        "/points/cashout%23top",
        "//bank.example/points/cashout",
        "/points%c0%afcashout",
        "/points/%EF%BD%83ashout",  # a fullwidth c
        "/x/%EF%BC%8E%EF%BC%8E/points/cashout",  # fullwidth dots
        "/point%C5%BF/cashout",  # a long s, whose upper case is S
        "/balance/..\\points/x/../cashout",
        "/points/cashout/..%2f..%2fpoints/cashout",
        "http://bank.example/points/cashout",
        "HTTP://BANK.example:8080/points/cashout",
    ],
)
def test_every_spelling_of_a_protected_path_is_protected(target: str) -> None:
    """Promise 9: whatever the request's spelling."""
    assert match(target) == IN_CASHOUT


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("/points/cashout%00", "bank.example", 400),
        ("/balance%00", "bank.example", 400),
        ("/balance%2500", "bank.example", 400),
        ("/balance%0d%0aX:1", "bank.example", 400),
        ("/bal\x01ance", "bank.example", 400),
        ("/bal ance", "bank.example", 400),
        ("/balance\n", "bank.example", 400),
        ("/포인트/", "bank.example", 400),
        ("/\udced\udc8f", "bank.example", 400),
        ("/balance%", "bank.example", 400),
        ("/balance%4", "bank.example", 400),
        ("/balance%u002f", "bank.example", 400),
        ("/balance#top", "bank.example", 400),
        ("/balance?a#top", "bank.example", 400),
        ("*", "bank.example", 400),
        ("bank.example:443", "bank.example", 400),
        ("points/cashout", "bank.example", 400),
        ("\\points\\cashout", "bank.example", 400),
        ("", "bank.example", 400),
        ("ftp://bank.example/", "bank.example", 400),
        ("http://user@bank.example/", "bank.example", 400),
        ("http:///points/cashout", "bank.example", 400),
        ("http://www.bank.example/", "bank.example", 400),
        ("/" + "%2541" * 500, "bank.example", 400),
        ("/points/cashout/..%2f..%2fdeposit", "bank.example", 400),
        ("/balance", None, 400),
        ("/balance", "", 400),
        ("/balance", "bank.example:port", 400),
        ("/balance", "bank.example:99999", 400),
        ("/balance", "bank.example/x", 400),
        ("/balance", "bank.example, other.example", 400),
        ("/balance", "[2001:db8::1", 400),
        ("/balance", "other.example", 421),
        ("/points/cashout", "other.example", 421),
        ("http://other.example/", "other.example", 421),
        ("/balance", "192.0.2.7", 421),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused(target: str, host: str | None, status: int) -> None:
    """Promise 9; 421 for hosts that are not ours (RFC 9110, 15.5.20)."""
    assert status_of(match(target, host)) == status


@pytest.mark.parametrize("method", ["CONNECT", "OPTIONS"])
def test_targets_without_a_path_are_refused(method: str) -> None:
    """Promise 9: neither the authority form nor `*` finds a way to an upstream."""
    target = "bank.example:443" if method == "CONNECT" else "*"
    assert status_of(match(target, method=method)) == 400


@pytest.mark.parametrize(
    "target",
    [
        "/_Waitroom/health",
        "/_WAITROOM",
        "/%5fwaitroom/health",
        "/%255fwaitroom/health",
        "//_waitroom/health",
        "/_waitroom//health",
        "/_waitroom/../points/cashout",
        "/x/../_waitroom/health",
        "/x/%2e%2e/_waitroom/health",
        "/_waitroom;a/health",
        "/_waitroom%2fhealth",
        "/_waitroom\\health",
        "/_waitroom%3f",
    ],
)
def test_other_spellings_of_our_own_paths_are_refused(target: str) -> None:
    """Section 8: `/_waitroom/` never reaches an upstream."""
    assert status_of(match(target)) == 400


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", True),
        ("/a", True),
        ("/a/", True),
        ("/A.b/~c_d-e/...", True),
        ("/.well-known/x", True),
        ("/a..b/c", True),
        ("/a?b=%2f//..", True),
        ("", False),
        ("*", False),
        ("/a//b", False),
        ("//", False),
        ("/.", False),
        ("/a/..", False),
        ("/a/./b", False),
        ("/a;b", False),
        ("/%61", False),
        ("/a\\b", False),
        ("/a|b", False),
        ("/a\n", False),
        ("/a/\n", False),
        ("http://bank.example/", False),
    ],
)
def test_plain_targets_have_one_reading(target: str, expected: bool) -> None:
    """Section 8: what bypass rules hold for, and what edges may judge by themselves."""
    assert is_plain(target) is expected
    if expected:
        path = target.partition("?")[0]
        assert readings(path) == frozenset({path.lower()})


# --- Promise 9 as a search -------------------------------------------------------------------------------------------

PROTECTED_PATHS: Final = ("/points/cashout", "/points/cashout/form", "/points/cashout/static/app.js", "/deposit")


def encode(draw: st.DrawFn, path: str) -> str:
    """Some characters percent-encoded. What is encoded already is encoded again by its percent sign."""
    chosen = draw(st.sets(st.integers(0, len(path) - 1), max_size=6))
    digits = draw(st.sampled_from(["%%%02X", "%%%02x"]))
    return path[0] + "".join(
        digits % ord(character) if index in chosen else character for index, character in enumerate(path[1:], 1)
    )


def at_slashes(draw: st.DrawFn, path: str) -> str:
    """Some slashes written in another way."""
    ways = ["//", "///", "/./", "\\", "/x/../", "/.//", "/;/", "/%2e/"]
    head, *parts = path.split("/")
    return head + "/" + "".join(draw(st.sampled_from(["/", *ways])) + part for part in parts).lstrip("/\\")


def climb(draw: st.DrawFn, path: str) -> str:
    return draw(st.sampled_from(["/static/..", "/balance/x/../..", "/.", "/x\\.."])) + path


def with_parameters(draw: st.DrawFn, path: str) -> str:
    """A parameter behind some segment."""
    places = [index for index, character in enumerate(path) if character in "/\\" and index] + [len(path)]
    place = draw(st.sampled_from(places))
    return path[:place] + draw(st.sampled_from([";", ";v=1", ";jsessionid=AB.1"])) + path[place:]


def change_case(draw: st.DrawFn, path: str) -> str:
    flips = draw(st.sets(st.integers(0, len(path) - 1), max_size=5))
    return "".join(character.swapcase() if index in flips else character for index, character in enumerate(path))


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """A protected path as some client might write it: up to five disguises, percent-encoded twice at most."""
    path = draw(st.sampled_from(PROTECTED_PATHS))
    # Case first: swapping the case of a percent code's digit is harmless, but of "%5C" the C is part of a code.
    disguises = draw(st.lists(st.sampled_from([at_slashes, climb, with_parameters, change_case]), max_size=3))
    for disguise in disguises:
        path = disguise(draw, path)
    for _ in range(draw(st.integers(0, 1 if "%" in path else 2))):
        path = encode(draw, path)
        if draw(st.booleans()):
            break
        if "%25" not in path:
            path = draw(st.sampled_from([at_slashes, with_parameters]))(draw, path)
    return draw(st.sampled_from(["", "", "//bank.example", "/%2fbank.example", "http://bank.example"])) + path


@settings(max_examples=1500, deadline=None)
@given(spellings(), st.sampled_from(["GET", "POST", "HEAD"]))
@example("/points%2f%2e%2e;%2fpoints%5ccashout", "GET")
def test_no_spelling_of_a_protected_path_is_unprotected(target: str, method: str) -> None:
    """Promise 9: a spelling leads to the room or nowhere."""
    route = match(target, method=method)
    if isinstance(route, Bypassed):
        assert is_plain(origin_form(target))
        assert origin_form(target).startswith("/points/cashout/static/")
        assert method != "POST"
    else:
        assert isinstance(route, Protected | Refused), target


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="/.\\;%25cCfFeE0x_?#aw", max_size=40).map("/".__add__), st.sampled_from(["GET", "POST"]))
def test_any_target_gets_an_answer_and_what_passes_has_no_protected_reading(target: str, method: str) -> None:
    """Promise 9, from the other side: what is let through has no reading in a room or in `/_waitroom/`."""
    route = match(target, method=method)
    if isinstance(route, Unprotected):
        seen = readings(target.partition("?")[0])
        assert seen is not None
        assert not any(reading.startswith(("/points/cashout", "/_waitroom/")) for reading in seen)


def test_readings_are_bounded() -> None:
    """Section 8: a target that would have more readings than an honest one is refused, in bounded time."""
    assert readings("/a;x/..;/%2e/%252e%5c//%3f" * 40) is None
    assert readings("/" + "a" * 3000 + "%20") is None
