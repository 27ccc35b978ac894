"""Thousands of odd requests before a real gateway: who gets in, what the bank sees and what comes back, whatever is sent."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.queue.room import RoomQueue
from gateway.rules import headers, policy, routes
from gateway.rules.tokens import Keyring
from gateway.web import desk, exchange, lobby, passage
from gateway.web.exchange import Exchange
from gateway.web.pool import Failure
from tests.fuzz.backends import might_serve
from tests.fuzz.cases import CHOICES
from tests.fuzz.judge import Broken
from tests.fuzz.search import Search, started

CASES = 2_000
PLANTED_CASES_MAX = 20_000


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Search]:
    with started(tmp_path) as search:
        yield search


def test_no_request_gets_past_the_promises(search: Search) -> None:
    """Promises 9, 10 and 13: with the same requests every time; `make faults` has others, and fifty times as many."""
    search.go(CASES, seed=1)


# --- planted faults: each must be caught, or the run above says nothing ----------------------------------------------


def _unsigned(self: Keyring, text: str, use: Any, room: str, now_s: int) -> Any:
    """As a verifier that looks at claims alone."""
    try:
        return jwt.decode(text, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}


_copy = Exchange._copy


async def _ended_in_order(self: Exchange, link: Any, head: Any, out: bytes, piece: bytes, is_chunked: bool) -> None:
    try:
        await _copy(self, link, head, out, piece, is_chunked)
    except Failure:
        self._put(b"0\r\n\r\n" if is_chunked else b" " * 400)


FAULTS: dict[str, tuple[object, str, object, str]] = {
    "targets are read as they are sent": (routes, "_STEPS", (), "without an admission"),
    "nothing is decoded": (routes, "DECODINGS_MAX", 0, "without an admission|a path of ours"),
    "dot segments stay": (
        routes,
        "_STEPS",
        tuple(step for step in routes._STEPS if step is not routes._without_dots),
        "without an admission",
    ),
    "what is odd is free": (routes.Routes, "_judge_odd", lambda self, host, path: self._rest, "without an admission"),
    "signatures are not looked at": (Keyring, "_claims_by_pyjwt", _unsigned, "without an admission"),
    "claims are not looked at": (Keyring, "_fault", lambda *_: None, "without an admission|fault of ours"),
    "nothing is ever void": (RoomQueue, "is_admission_void", lambda *_: False, "without an admission"),
    "the last of two cookies counts": (
        desk,
        "cookie_values",
        lambda *told: headers.cookie_values(*told)[-1:],
        "without an admission",
    ),
    "headers of ours pass": (headers, "_is_ours", lambda key: False, "a header of ours|who it is"),
    "cookies of ours pass": (headers, "_OUR_COOKIE", re.compile(rb"(?!)"), "a cookie of ours reached"),
    "cookies ride on everything": (passage, "NO_COOKIE", frozenset(), "must not bear"),
    "posts are sent again": (exchange, "REPEATABLE", exchange.REPEATABLE | {"POST", "PUT", "DELETE"}, "sent 2 times"),
    "half an answer is ended in order": (Exchange, "_copy", _ended_in_order, "looks whole"),
    "other sites may post": (policy, "origin_fault", lambda *_: None, "another site"),
    "any place to go back to": (policy, "return_path", lambda text: text or None, "leads away"),
    "a check that fails": (lobby, "KEY_CHARS", ("16", "256"), "fault of ours"),
}


@pytest.fixture
def _forgetful() -> Iterator[None]:
    """What is remembered of header names was judged without the fault."""
    caches = (headers._known_in_request, headers._known_in_answer)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("_forgetful")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(search: Search, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises 9, 10 and 13 would be seen to break."""
    place, name, instead, what_breaks = FAULTS[fault]
    monkeypatch.setattr(place, name, instead)
    with pytest.raises(Broken, match=what_breaks):
        try_many(search)


def try_many(search: Search) -> None:
    dice = random.Random(7)
    for _ in range(PLANTED_CASES_MAX // 100):
        search.try_all([dice.randbytes(CHOICES) for _ in range(100)])


@pytest.mark.parametrize(
    ("path", "is_served"),
    [
        ("/points/cashout", True),
        ("/x/..;/points/cashout", True),
        ("/points%c0%afcashout", True),
        ("//bank.example/points/cashout", True),
        ("/%2570oints/cashout", True),
        ("/balance/..\\points/x/../cashout", True),
        ("/points/%EF%BD%83ashout", True),
        ("/points/cashout%3fx=1", True),
        ("/pointscashout", False),
        ("/free/%61", False),
        ("/points/../cashout", False),
    ],
)
def test_the_backends_read_as_backends_do(path: str, is_served: bool) -> None:
    """Promise 9: what the search judges by can tell a disguise."""
    assert might_serve(path, "/points/cashout") is is_served
