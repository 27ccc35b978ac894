"""The corpus before the gateway, nginx and HAProxy: each does what the record says, and the gateway does right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.app import Gateway
from tests.conformance.case import Case, Must, is_refused
from tests.conformance.corpus import CASES
from tests.conformance.programs import REFEREES, ROOM, Program, admission_of, gateway, referee, version_of
from tests.conformance.reasons import REASON_OF, REASONS
from tests.conformance.run import Seen, run
from tests.conformance.table import BEGIN, PAGE, alternatives, is_different, read_record, rendered
from tests.conformance.truncation import ANSWERS, head_bytes, truncations
from tests.conftest import RedisServer

RECORD = read_record()


@pytest.fixture
async def ours(valkey: RedisServer, tmp_path: Path) -> AsyncIterator[tuple[Program, Gateway]]:
    async with gateway(tmp_path, valkey.url) as found:
        yield found


def told(case: Case) -> set[str]:
    """What the gateway's column says of a case."""
    return alternatives(case.ours)


def faults_of(seen: dict[str, Seen]) -> list[str]:
    """Where the gateway did not do what its column says, or broke what the RFC asks."""
    faults = []
    for case in CASES:
        if case.name not in seen:
            continue
        observation, record, got = seen[case.name]
        if observation.text not in alternatives(case.ours):
            faults.append(
                f"{case.name}: {observation.text}, not {case.ours}; upstream {record.requests}, client {got[:200]!r}"
            )
        if not observation.holds(case.must):
            faults.append(f"{case.name}: {observation.text} is not: {case.must}")
    return faults


def test_the_corpus_is_large_enough() -> None:
    """Issue 4: at least 150 cases, of every kind, on requests and on answers."""
    assert len(CASES) >= 300
    assert all(sum(case.must is must for case in CASES) > 5 for must in Must)


async def test_open_routes_keep_the_rfc(ours: tuple[Program, Gateway]) -> None:
    """Promise 10: what is passed on, refused, cut, kept and closed is exactly what the table says."""
    assert faults_of(await run(ours[0], CASES, expected=told)) == []


async def test_protected_routes_keep_the_rfc_with_an_admission(ours: tuple[Program, Gateway]) -> None:
    """Promise 10: a room before it changes nothing of that."""
    placed = [case for case in CASES if case.is_placed]
    assert faults_of(await run(ours[0], placed, ROOM, lambda: admission_of(ours[1]), told)) == []


async def test_nothing_of_the_corpus_passes_without_an_admission(ours: tuple[Program, Gateway]) -> None:
    """Promise 9: no framing, pipelining, upgrade or spelling carries a byte to a protected upstream."""
    placed = [case for case in CASES if case.is_placed]
    seen = await run(ours[0], placed, ROOM)
    assert {name: record for name, (_, record, _) in seen.items() if record.requests or record.part} == {}
    assert ours[0].upstream.probes > len(placed) // 2, (
        "the upstream was there, and heard of every connection that was kept"
    )


async def test_cut_answers_never_look_whole(ours: tuple[Program, Gateway]) -> None:
    """Promise 10: wherever an answer ends too early, the client can tell; a body that ends with its connection cannot be told."""
    for kind, text in (await truncations(ours[0])).items():
        framing, _, end = kind.split(", ")
        length = len(ANSWERS[framing])
        if framing != "until close":
            assert text == f"refused 0-{length - 1}, whole {length}", kind
        elif end == "reset":
            assert text == f"refused 0-{length}", kind
        else:
            assert text == f"refused 0-{head_bytes(framing) - 1}, whole {head_bytes(framing)}-{length}", kind
        assert [text] == RECORD["gateway"]["truncations"][kind]


@pytest.mark.parametrize("name", REFEREES)
async def test_referees_do_what_is_recorded(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The page cannot lie about them. Of another version than the recorded one, only what every proxy does is asked."""
    async with referee(name, tmp_path / name) as program:
        found = await run(program, CASES, expected=lambda case: set(RECORD[name]["cases"][case.name]))
        seen = {case: one[0].text for case, one in found.items()}
        cuts = await truncations(program)
    assert seen["plain"] == "200, kept, 1"
    assert seen["length-minus"] == "400, closed, 0"
    version, recorded = version_of(name), RECORD[name]
    if version != recorded["version"]:
        record_property("conformance", f"{name} is {version}, the record is of {recorded['version']}: not compared")
        return
    assert {case: text for case, text in seen.items() if text not in recorded["cases"][case]} == {}
    assert {kind: text for kind, text in cuts.items() if text not in recorded["truncations"][kind]} == {}


def test_nothing_passes_that_both_referees_refuse() -> None:
    """Promise 9: the gateway is the strictest of the three, or as strict as one of the others."""
    laxer = [
        case.name
        for case in CASES
        if not all(is_refused(text) for text in alternatives(case.ours))
        and all(is_refused(text) for name in REFEREES for text in RECORD[name]["cases"][case.name])
    ]
    assert laxer == []


def test_every_difference_has_a_reason() -> None:
    """And no reason is given for what does not differ, so that none outlives its difference."""
    assert {case.name for case in CASES if is_different(case, RECORD)} == set(REASON_OF)
    assert all(text.endswith(".") and names for text, names in REASONS.values())


def test_the_page_says_what_was_observed() -> None:
    """docs/conformance.md is made by `python -m tests.conformance`, and by no hand."""
    intro, mark, tables = PAGE.read_text().partition(BEGIN)
    assert "What is held" in intro
    assert mark
    assert tables == "\n" + rendered(RECORD), "run python -m tests.conformance"


def test_the_record_is_of_these_cases() -> None:
    """Nothing is missing, nothing is left over."""
    for name in REFEREES:
        assert set(RECORD[name]["cases"]) == {case.name for case in CASES}
