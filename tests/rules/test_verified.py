"""Holds the memory of verified admissions: what it keeps, for how long, and how much."""

from __future__ import annotations

from dataclasses import replace

from gateway.rules.tokens import Keyring, Reason, Refusal
from gateway.rules.verified import VerifiedCache
from tests.rules.test_tokens import ADMISSION, NOW_S, ROOM


def test_a_remembered_admission_keeps_its_state_until_it_expires(ec_ring: Keyring) -> None:
    """Section 7: verified tokens are remembered until `exp`."""
    cache = VerifiedCache(ec_ring.read_admission, entries_max=10)
    text = ec_ring.mint_admission(ADMISSION)
    left_s = ADMISSION.expires_at_s - NOW_S
    entry = cache.read(text, ROOM, NOW_S)
    assert not isinstance(entry, Refusal)
    entry.confirmed = True
    assert cache.read(text, ROOM, NOW_S + left_s - 1) is entry
    assert cache.read(text, "card-cashback", NOW_S) == Refusal(Reason.WRONG_ROOM)
    assert cache.read(text, ROOM, NOW_S + left_s) == Refusal(Reason.EXPIRED)
    assert len(cache) == 0


def test_the_cache_is_bounded_and_forgets_the_least_recently_read(ec_ring: Keyring) -> None:
    """Style 8: a limit on everything."""
    cache = VerifiedCache(ec_ring.read_admission, entries_max=2)
    texts = [ec_ring.mint_admission(replace(ADMISSION, entered_at_s=ADMISSION.entered_at_s + n)) for n in range(3)]
    first, second = (cache.read(text, ROOM, NOW_S) for text in texts[:2])
    assert cache.read(texts[0], ROOM, NOW_S) is first
    cache.read(texts[2], ROOM, NOW_S)
    assert len(cache) == 2
    assert cache.read(texts[0], ROOM, NOW_S) is first
    assert cache.read(texts[1], ROOM, NOW_S) is not second
    cache.clear()
    assert len(cache) == 0


def test_refusals_are_not_remembered(ec_ring: Keyring) -> None:
    """Promise 13: a flood of forged tokens cannot push good ones out."""
    cache = VerifiedCache(ec_ring.read_admission, entries_max=2)
    for n in range(5):
        assert isinstance(cache.read(f"a.b.{n}", ROOM, NOW_S), Refusal)
    assert len(cache) == 0


def test_bytes_that_are_no_text_are_a_refusal_to_the_memory_too(ec_ring: Keyring) -> None:
    """Promise 13: header bytes outside of UTF-8 arrive as lone surrogates; they are a new visitor, never a 500."""
    cache = VerifiedCache(ec_ring.read_admission, entries_max=2)
    assert cache.read("\udcff\udc80.e.s", ROOM, NOW_S) == Refusal(Reason.MALFORMED)
    assert cache.read("é.ä.한", ROOM, NOW_S) == Refusal(Reason.MALFORMED)
    assert cache.read("x" * 100_000, ROOM, NOW_S) == Refusal(Reason.TOO_LONG)
