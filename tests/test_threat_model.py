"""Holds docs/threat-model.md to the tests: each attack is held by tests that exist, and the demo stays at home."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import gateway

ROOT = Path(__file__).parent.parent
TOLD = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROW = re.compile(r"^\| \*\*(.+?)\*\*.*? \| (.+?) \| (.+?) \|$", re.MULTILINE)
# What the project was asked to think of; a row may go by another name, but not without a word.
ASKED = (
    "CSRF", "Open redirect", "Cookie tossing", "Header spoofing", "Cache poisoning", "Sharing", "Replay", "Enumeration",
    "Log injection",
    "Metric labels", "operator port", "DNS rebinding", "Secrets in logs", "Request smuggling", "Slow clients",
    "supply chain", "demo",
    "embedded Valkey", "Secrets of edges",
)  # fmt: skip


@cache
def names_in(file: str) -> frozenset[str]:
    path = ROOT / file
    if not path.exists():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))


def missing(text: str) -> list[str]:
    return [f"{file}::{name}" for file, name in NAMED.findall(text) if name not in names_in(file)]


def unheld(text: str) -> list[str]:
    """Attacks whose row names no test."""
    return [attack for attack, _, tests in ROW.findall(text) if not NAMED.search(tests)]


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED.findall(TOLD)) > 60
    assert missing(TOLD) == []


def test_every_attack_is_held_by_a_test_or_said_not_to_be() -> None:
    attacks = TOLD.partition("## Attacks")[2].partition("\n## ")[0]
    assert len(ROW.findall(attacks)) > 25
    assert len(re.findall(r"^\| \*\*", attacks, re.MULTILINE)) == len(ROW.findall(attacks))
    assert unheld(attacks) == []
    assert [word for word in ASKED if word not in attacks] == []
    assert "Many keys" in TOLD.partition("## Not defended")[2]


@pytest.mark.parametrize(
    "path", sorted((Path(gateway.__file__).parent / "demo").glob("*.py")), ids=lambda path: path.name
)
def test_the_demo_listens_on_loopback_alone(path: Path) -> None:
    """It has a bank without money, a key of its own making and no operators: nobody else should find it."""
    assert re.findall(r"0\.0\.0\.0|\[::\]|\"::\"|host=\"\"|host=None", path.read_text()) == []


def test_planted_faults_are_caught() -> None:
    assert missing("`tests/test_logs.py::test_nothing` `tests/none.py::test_x`") == [
        "tests/test_logs.py::test_nothing",
        "tests/none.py::test_x",
    ]
    assert unheld("| **Theft** of a bag | it is locked | a lock |\n| **Fire** | - | `tests/a.py::test_b` |") == [
        "Theft"
    ]
