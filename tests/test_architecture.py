"""Holds the house rules of `style.md` and `design.md` section 12 over all sources: layers, sizes, names, docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
import waitroom_ui

# Where the package is, not where the repository is: the suite also runs against the installed wheel.
PACKAGE = Path(gateway.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((PACKAGE / "queue" / "lua").glob("*.lua"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))

FUNCTION_LINES_MAX = 50
FILE_LINES_MAX = 400
SCRIPT_LINES_MAX = 60
BANNED_NAMES = re.compile(
    r"(?:^|_)(?:utils?|helpers?|common|managers?|handlers?|misc)(?:_|$)|(?:Manager|Handler|Helper)"
)

# Functions over the limit, with the reason why they are better whole.
LONG_FUNCTIONS: dict[str, str] = {}
# Scripts over the limit, with the reason. `root.lua` is no transition: it is put before each of them.
LONG_SCRIPTS = {"root.lua": "what every script reads first, written once"}

# The layers, lowest first. A module may import its own layer and those below it. A folder stands for what is in it.
LAYERS: list[set[str]] = [
    {"model", "errors", "tasks", "logs", "systemd"},
    {
        "notation",
        "secretfile",
        "schema",
        "environment",
        "draft",
        "relations",
        "notes",
        "overview",
        "reference",
        "config",
    },
    {"rules"},
    {"metrics", "scrape", "part", "edges", "capacity"},
    {"queue"},
    {"web", "drain"},
    {"instruments"},
    {"app", "workers"},
    {"inquiry"},
    {"cli", "demo"},
    {"__main__"},
]
PURE_MUST_NOT = {"asyncio", "aiohttp", "redis", "prometheus_client", "random", "time", "socket", "uvloop"}
WALL_CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(module: str) -> int:
    """The layer of `gateway.<first>...`; a module nobody gave a layer fails the test, so that somebody does."""
    first = module.removeprefix("gateway").lstrip(".").partition(".")[0]
    return next((index for index, names in enumerate(LAYERS) if first in names), -1)


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every module imported anywhere in the tree; `from gateway import config` counts as `gateway.config`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module in {"gateway", "gateway.demo"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def upward_imports(module: str, source: str) -> list[str]:
    mine = layer_of(module)
    return [
        f"{module} imports {imported}"
        for imported in imports_of(ast.parse(source))
        if imported.startswith("gateway.") and (mine < 0 or layer_of(imported) < 0 or layer_of(imported) > mine)
    ]


def module_of(path: Path) -> str:
    return "gateway." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def long_functions(name: str, source: str) -> list[str]:
    return [
        f"{name}:{node.lineno} {node.name} has {length} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
        and f"{name}:{node.name}" not in LONG_FUNCTIONS
    ]


def banned_names(name: str, source: str) -> list[str]:
    """Names of our own making only: what a library calls its classes is not ours."""
    of_file = [name] if any(BANNED_NAMES.search(part) for part in Path(name).with_suffix("").parts) else []
    return of_file + [
        f"{name}:{node.lineno} {node.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and BANNED_NAMES.search(node.name)
    ]


def wall_clocks(source: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Attribute)
        and ((node.value.id if isinstance(node.value, ast.Name) else node.value.attr), node.attr) in WALL_CLOCKS
    ]


def header_of(script: str) -> str:
    """The comment a script opens with."""
    lines = script.splitlines()
    count = next((index for index, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return "\n".join(lines[:count])


def test_there_is_something_to_hold() -> None:
    """An empty list of files would make every rule below hold for nothing."""
    assert len(SOURCES) > 20
    assert len(SCRIPTS) >= 8
    assert len(TESTS) > 10


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_down_only(path: Path) -> None:
    """Section 12: cli -> app -> web, drain -> queue, metrics -> rules -> config, model, errors."""
    if path == PACKAGE / "__init__.py":
        assert not list(imports_of(ast.parse(path.read_text())))  # the tour imports nothing
        return
    assert upward_imports(module_of(path), path.read_text()) == []


def test_the_gateway_never_loads_the_demo() -> None:
    """The demo is a caller of the gateway; only the command knows it, and only when it is asked for."""
    for path in SOURCES:
        if "demo" not in path.parts and path.name != "cli.py":
            assert not [name for name in imports_of(ast.parse(path.read_text())) if name.startswith("gateway.demo")]


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent == PACKAGE / "rules"], ids=name_of)
def test_rules_are_pure(path: Path) -> None:
    """Section 12: no await, clock, random, aiohttp, redis, prometheus in `rules/`."""
    tree = ast.parse(path.read_text())
    assert {imported.partition(".")[0] for imported in imports_of(tree)}.isdisjoint(PURE_MUST_NOT)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_fit_a_screen(path: Path) -> None:
    """Style 4: 50 lines at most."""
    assert long_functions(name_of(path), path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    """Style 4: under 400 lines."""
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_names_say_what_a_thing_is(path: Path) -> None:
    """Style 13: not utils, helpers, common, manager, handler."""
    assert banned_names(name_of(path), path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_in_a_sentence_what_it_owns(path: Path) -> None:
    """Style 2: the docstring's first line is a sentence; so is the only line of a test's."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "no docstring"
    assert docstring.splitlines()[0].rstrip().endswith((".", ":")), docstring.splitlines()[0]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(TESTS[0].parent).as_posix())
def test_every_test_module_says_what_it_holds(path: Path) -> None:
    if source := path.read_text():
        assert ast.get_docstring(ast.parse(source)), "no docstring"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short_and_say_what_they_take_and_cost(path: Path) -> None:
    """Style 9: one transition a file, under 60 lines, header with KEYS, ARGV, returns, cost; nothing unbounded."""
    script = path.read_text()
    if path.name not in LONG_SCRIPTS:
        assert len(script.splitlines()) <= SCRIPT_LINES_MAX
        header = header_of(script).lower()
        for word in ("argv", "return", "cost"):
            assert word in header, f"the header says nothing of {word}"
    code = "\n".join(line.partition("--")[0] for line in script.splitlines())
    assert not re.search(r"""["'](?:KEYS|SCAN|HGETALL|SMEMBERS|FLUSH\w*)["']""", code, re.IGNORECASE)


@pytest.mark.parametrize("path", [path for path in SOURCES if "demo" not in path.parts], ids=name_of)
def test_the_wall_clock_is_read_in_app_only(path: Path) -> None:
    """Style 7: pure modules take `now`; tokens run on the wall clock, queues on Redis', durations on the monotonic."""
    if path.name != "app.py":
        assert wall_clocks(path.read_text()) == []


def test_the_keys_of_all_scripts_are_named_in_one_header() -> None:
    """Style 9. Every script takes the same KEYS, and `root.lua`, which is put before each, names them all."""
    header = header_of((PACKAGE / "queue" / "lua" / "root.lua").read_text())
    for word in ("KEYS", "pace", "settings", "queue", "called", "door", "active", "revoked", "seen", "spent", "board"):
        assert word in header


def test_the_tour_names_every_module() -> None:
    """Section 12: `gateway/__init__.py` is the tour, one line per module."""
    tour = (PACKAGE / "__init__.py").read_text()
    modules = {name_of(path) for path in SOURCES if path.name not in {"__init__.py", "__main__.py"}}
    missing = {name for name in modules if not name.startswith("demo/") and name not in tour}
    assert not missing
    named = set(re.findall(r"^    (\S+\.py)", tour, re.MULTILINE))
    assert {name for name in named if name not in {name_of(path) for path in SOURCES}} == set()


def test_what_is_not_python_is_in_the_package() -> None:
    """Issue 2: `waitroom_ui` and the Lua files are inside the wheel."""
    page_files = {path.suffix for path in Path(waitroom_ui.__file__).parent.iterdir()}
    assert {".html", ".js", ".css"} <= page_files
    assert SCRIPTS


# --- the rules themselves, on planted faults -------------------------------------------------------------------------


def test_an_import_that_points_up_is_caught() -> None:
    assert upward_imports("gateway.rules.policy", "from gateway.web import gate") != []
    assert upward_imports("gateway.model", "def f():\n    import gateway.queue.store") != []
    assert upward_imports("gateway.queue.store", "from gateway import drain") != []
    assert upward_imports("gateway.nowhere", "from gateway import model") != []
    assert upward_imports("gateway.web.gate", "from gateway.rules import policy\nfrom gateway import model") == []


def test_a_long_function_a_bad_name_and_a_clock_are_caught() -> None:
    long_body = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX
    assert long_functions("a.py", long_body) != []
    assert long_functions("a.py", long_body.removesuffix("    x = 1\n")) == []
    assert banned_names("web/utils.py", "") == ["web/utils.py"]
    assert banned_names("a.py", "class QueueManager: pass\ndef error_handler(): pass") != []
    assert banned_names("a.py", "def command(): pass\nclass Commons: pass") == []
    assert wall_clocks("import time\nx = time.time()") == [2]
    assert wall_clocks("import datetime\nx = datetime.datetime.now()") == [2]
    assert wall_clocks("import time\nx = time.monotonic()") == []
    assert header_of("-- KEYS: a\n-- cost 1\nlocal x = 1\n-- later") == "-- KEYS: a\n-- cost 1"
