"""The locustfiles keep the house rules, and what tests import of them knows nothing of Locust."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import locustfiles
from tests.test_architecture import FILE_LINES_MAX, banned_names, imports_of, long_functions, wall_clocks

FOLDER = Path(locustfiles.__file__).parent
SOURCES = sorted(FOLDER.glob("*.py"))
INCIDENTS = {"special_deposit.py", "card_cashback.py", "point_cashout.py"}
WITHOUT_LOCUST = {"__init__.py", "curves.py", "waiting.py", "figures.py", "record.py"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_house_rules_hold_for_locustfiles(path: Path) -> None:
    """Style 2, 4, 7, 13, as `tests/test_architecture.py` holds them for the package."""
    source = path.read_text()
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert docstring.partition("\n")[0].rstrip(".").strip() != ""
    assert docstring.splitlines()[0].endswith(".")
    assert long_functions(path.name, source) == banned_names(path.name, source) == []
    assert wall_clocks(source) == []
    assert len(source.splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("name", sorted(WITHOUT_LOCUST))
def test_decisions_know_nothing_of_locust(name: str) -> None:
    """Its import patches the standard library's sockets and clocks under whoever imports it."""
    roots = {imported.partition(".")[0] for imported in imports_of(ast.parse((FOLDER / name).read_text()))}
    assert roots.isdisjoint({"locust", "gevent", "geventhttpclient", "random", "time", "socket"})
    for imported in imports_of(ast.parse((FOLDER / name).read_text())):
        if imported.startswith("locustfiles."):
            assert f"{imported.rpartition('.')[2]}.py" in WITHOUT_LOCUST


def test_the_tour_names_every_file() -> None:
    tour = (FOLDER / "__init__.py").read_text()
    assert {path.name for path in SOURCES if path.name not in tour} == {"__init__.py"}


@pytest.mark.parametrize("name", sorted(INCIDENTS))
def test_each_incident_says_how_to_run_it_what_it_shows_and_what_it_cannot(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((FOLDER / name).read_text())) or ""
    for said in (f"locust -f locustfiles/{name}", "--host", "make demo", "It shows", "It cannot"):
        assert said in docstring
