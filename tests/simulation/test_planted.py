"""Faults planted in scripts and rules, one at a time: the checks of the model must notice each, or they prove nothing."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import pytest

from gateway.queue.scripts import SCRIPTS
from gateway.rules import board, pacing
from tests.conftest import RedisServer
from tests.simulation.crowd import DirectConnection
from tests.simulation.scenes import SCENES, walk
from tests.simulation.test_crowd import assert_served
from tests.simulation.twin import Twin

WALKS = 10  # seeded: which walk meets a fault is always the same
STEPS = 100
CROWD = (10, 10, 1_500, 40, 20, 1)  # rate a second, burst, visitors, virtual seconds, the window of promise 6, seed

# What is planted: name -> the text of a script, and what takes its place.
PLANTED = {
    "spent bits are dropped": ("call('SETBIT', SPENT, number, 1)", ""),
    "an entry costs no credit": ("p.credit - UNIT * #granted", "p.credit"),
    "an instant entry costs no credit": (
        "permits - 1, p.credit - UNIT, p.instants + 1",
        "permits - 1, p.credit, p.instants + 1",
    ),
    "a stall earns credit": ("if passed_us < 0 or passed_us > SECOND then", "if passed_us < 0 then"),
    "credit has no ceiling": (
        "p.credit = math.min(s.burst * UNIT, p.credit + passed_us",
        "p.credit = math.max(0, p.credit + passed_us",
    ),
    "the cap is off by one": (
        "if s.active_max - active < permits then permits, reason = s.active_max - active",
        "if s.active_max + 1 - active < permits then permits, reason = s.active_max + 1 - active",
    ),
    "stock is ignored": ("if s.stock >= 0 and", "if false and"),
    "a pause is ignored": ("if s.paused == 1 then return 0, 'paused' end", ""),
    "leases of before a loss are forgotten": (
        "local ghosts = p.clock < p.ghost_until and p.ghost or 0",
        "local ghosts = 0",
    ),
    "a lease is too short": (
        "push(leases, p.clock + s.session, id)",
        "push(leases, p.clock + s.session / 2, id)",
    ),
    "check-in ignores the epoch": ("if epoch < p.epoch then return push(answer, 'ended', number, 0) end", ""),
    "claims ignore the epoch": ("if epoch < p.epoch then return 'ended', 0 end", ""),
    "everybody is absent": ("if not is_steady or is_present(p, tonumber(places[i + 1])) then", "if false then"),
    "presence is never taken back": ("p.present = math.max(0, p.present - 1)", "p.present = p.present"),
    "heal gives numbers again": ("p.next = math.max(p.next, p.proven +", "p.next = math.max(p.next, 1 +"),
    "the hold is not honoured at the door": ("if p.clock < p.recovering then return 0, 'recovering' end", ""),
    "newcomers are numbered during the hold": ("if is_settling then return", "if false then return"),
    "arrivals are numbered backwards": (
        "call('ZRANGE', ARRIVALS, 0, limit - 1)",
        "call('ZREVRANGE', ARRIVALS, 0, limit - 1)",
    ),
    "the door takes the highest": (
        "call('ZRANGE', DOOR, 0, 49, 'WITHSCORES')",
        "call('ZREVRANGE', DOOR, 0, 49, 'WITHSCORES')",
    ),
    "others' lower claims keep no permit": (
        "if slot or p.clock - (call('ZSCORE', HELD, id) or 0) <= SECOND / 2 then",
        "if slot then",
    ),
    "a withdrawal is ignored": ("if not is_claim then push(gone, id); return", "if not is_claim then return"),
    "the called need no call": ("if held > p.passed then return 'waiting', 0 end", ""),
    "a lease is not remembered": ("local left_us = lease_left(p, id)", "local left_us = nil"),
    "a retry of settings is a conflict": ("local is_done = s.version ==", "local is_done = false and s.version =="),
    "a raise comes at once": ("math.min(s.rate, math.ceil(p.rate * 1.26))", "s.rate"),
    "every tick is on time": ("if p.clock < p.tick_due then", "if false then"),
    "instant entries overtake": ("if ahead > 0", "if false"),
    "newcomers are not marked present": ("mark_new(p, first, p.next - 1)", ""),
    "one newcomer too many is marked": ("p.present + last - first + 1", "p.present + last - first + 2"),
    "the newer of two tickets wins": ("if held and (held <= number or is_spent(number)) then", "if held then"),
}

# The same for rules: name -> the module, its text, and what takes its place.
PLANTED_RULES: dict[str, tuple[ModuleType, str, str]] = {
    "the door is told a burst too large": (pacing, '"burst": settings.burst', '"burst": settings.burst + 1'),
    "the door is told a cap too high": (
        pacing,
        '"active_max": settings.active_max',
        '"active_max": settings.active_max + 1',
    ),
    "the door is not told of a pause": (pacing, "int(settings.paused)", "0"),
    "the door is not told the stock": (pacing, "UNLIMITED if settings.stock is None else settings.stock", "UNLIMITED"),
    "leases are told in half": (pacing, "room.session_s * 1_000_000", "room.session_s * 500_000"),
    "absence is told in half": (pacing, "room.absence_max_s * 1_000_000", "room.absence_max_s * 500_000"),
    "the file wins over the operators": (pacing, "dict(base) | dict(overrides)", "dict(overrides) | dict(base)"),
    "the called are told their place as if they waited": (
        board,
        "census.passed < number < self.ranks.next_number",
        "number < self.ranks.next_number",
    ),
}


@pytest.fixture(scope="module")
def direct(valkey: RedisServer) -> Iterator[DirectConnection]:
    connection = DirectConnection(valkey.url)
    yield connection
    connection.delete("waitroom:*")
    connection.shut()


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_caught(direct: DirectConnection, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Promises 1 to 5: each of these would break one of them, and the model says so."""
    text, instead = PLANTED[fault]
    touched = [script for script in SCRIPTS.values() if text in script.source]
    assert touched, f"no script says {text!r} any more: plant this fault anew"
    for script in touched:
        source = script.source.replace(text, instead)
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(SCRIPTS, script.name, replace(script, source=source, sha=digest))
    with pytest.raises(AssertionError):
        play(direct)


@pytest.mark.parametrize("fault", PLANTED_RULES)
def test_a_planted_fault_of_a_rule_is_caught(
    direct: DirectConnection, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Promises 1 to 6: what gateways tell the scripts, and what they answer from their boards."""
    module, text, instead = PLANTED_RULES[fault]
    doctor(module, text, instead, monkeypatch)
    with pytest.raises(AssertionError):
        play_and_serve(direct)


def doctor(module: ModuleType, text: str, instead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the functions and methods of a changed copy in the place of the module's own."""
    source = inspect.getsource(module)
    assert text in source, f"{module.__name__} does not say {text!r} any more: plant this fault anew"
    copy = ModuleType(module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, copy)  # a dataclass looks for its module while it is made
    exec(compile(source.replace(text, instead), module.__name__, "exec"), copy.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name, made in vars(copy).items():
        if inspect.isfunction(made) and made.__module__ == module.__name__:
            monkeypatch.setattr(module, name, made)
        elif inspect.isclass(made) and made.__module__ == module.__name__:
            for method, body in vars(made).items():
                if inspect.isfunction(body) and not method.startswith("__"):
                    monkeypatch.setattr(getattr(module, name), method, body)


def test_without_a_fault_the_same_walks_pass(direct: DirectConnection) -> None:
    """Promises 1 to 6: what catches the planted faults raises no false alarm."""
    play_and_serve(direct)


def play(direct: DirectConnection) -> None:
    for scene in SCENES:
        twin = Twin(direct)
        scene(twin)
        twin.audit()
    for seed in range(WALKS):
        walk(direct, seed, STEPS)


def play_and_serve(direct: DirectConnection) -> None:
    play(direct)
    asyncio.run(assert_served(direct, *CROWD))
