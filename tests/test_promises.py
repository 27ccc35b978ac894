"""Holds docs/promises.md to the tests: each promise is named by tests that can fail, and by those that its row names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| (\d+) \| \*\*.*?\| (.*?) \|", re.MULTILINE)
NAMED = re.compile(r"[Pp]romises? ((?:\d+(?:, | and | to )?)+)")
COUNT = 15


def numbers_in(text: str) -> set[int]:
    """ "Promises 1, 3 and 6", "Promises 1 to 5", "promise 9": the numbers that are meant."""
    found: set[int] = set()
    for named in NAMED.findall(text):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", named):
            found |= set(range(int(first), int(last or first) + 1))
    return found


def promises_of(source: str) -> set[int]:
    """What the tests of a file say they hold: by their docstrings, or by the message of an assertion."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found |= numbers_in(ast.get_docstring(node) or "")
            texts = (one.msg for one in ast.walk(node) if isinstance(one, ast.Assert) and one.msg is not None)
            found |= {number for text in texts for number in numbers_in(ast.unparse(text))}
    return found


@cache
def held() -> dict[str, set[int]]:
    return {
        path.relative_to(ROOT).as_posix(): promises_of(path.read_text()) for path in (ROOT / "tests").rglob("test_*.py")
    }


def rows() -> dict[int, list[str]]:
    told = (ROOT / "docs" / "promises.md").read_text()
    return {int(number): re.findall(r"`(tests/[\w./]+)`", files) for number, files in ROW.findall(told)}


def test_all_promises_have_their_row() -> None:
    assert list(rows()) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_a_promise_is_held_by_the_tests_of_its_row(number: int) -> None:
    """A row that names a test which does not speak of the promise would be a promise about nothing."""
    files = rows()[number]
    assert files, "no test is named"
    for name in files:
        holding = [file for file, numbers in held().items() if file.startswith(name.rstrip("/")) and number in numbers]
        assert holding, f"{name} has no test that names promise {number}"


def test_no_test_speaks_of_a_promise_that_there_is_not() -> None:
    assert {number for numbers in held().values() for number in numbers} == set(range(1, COUNT + 1))


def test_planted_faults_are_caught() -> None:
    assert numbers_in("Promises 1, 3 and 6: so; promise 9 and promises 11 to 13") == {1, 3, 6, 9, 11, 12, 13}
    assert numbers_in("1 promise, section 4") == set()
    source = 'def test_a():\n    """Promise 4."""\n    assert x, "promise 2"\n\ndef other():\n    """Promise 7."""\n'
    assert promises_of(source) == {2, 4}
