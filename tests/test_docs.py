"""Holds README and docs/ to the project: links, files, make targets, metrics, log events and commands they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gateway
from gateway.cli import _parser
from gateway.metrics import Metrics
from gateway.queue.scripts import SCRIPTS
from gateway.scrape import render
from tests.conftest import make_room

ROOT = Path(__file__).parent.parent
# Where the packages are, not where the repository is: the suite also runs against the installed wheel.
PACKAGES = Path(gateway.__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_METRICS = {"waitroom_ui", "waitroom_signature", "waitroom_health"}

LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
CODE = re.compile(r"`[^`\n]+`")  # what looks like a link in it is none, as in a pattern
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FILE = re.compile(r"`((?:gateway|waitroom_ui|tests|deploy|docs|bench|locustfiles)/[\w./-]*)`")
TARGET = re.compile(r"(?:`|^|\s)make ([a-z][a-z-]*)(?=[\s`]|$)", re.MULTILINE)
METRIC = re.compile(r"\bwaitroom_[a-z_]+\b")
EVENT_ROW = re.compile(r"^\| ((?:`[a-z_]+`(?:, )?)+) \| ((?:`[\w./]+`(?:, )?)+) \|", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_there(path: Path) -> bool:
    """In the repository, or in the installed packages."""
    inside = path.resolve().relative_to(ROOT.resolve())
    return path.exists() or (PACKAGES / inside).exists()


def slug(heading: str) -> str:
    """The anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for found in LINK.finditer(CODE.sub("", text)):
        link = found[1] or found[2]
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        is_inside = target.resolve().is_relative_to(ROOT.resolve())
        anchors = {slug(heading) for heading in HEADING.findall(target.read_text())} if anchor and is_inside else {""}
        if not is_inside or not is_there(target) or anchor not in anchors:
            broken.append(link)
    return broken


def missing_files(text: str) -> list[str]:
    return [name for name in FILE.findall(text) if not is_there(ROOT / name)]


def unknown_targets(text: str, makefile: str) -> list[str]:
    """Words after `make`, in code or at a line's start, that are no target; prose about making things is not code."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    code = "\n".join(re.findall(r"`(make [^`\n]+)`", text) + re.findall(r"^(make .+)$", text, re.MULTILINE))
    return [name for name in TARGET.findall(code) if name not in targets]


def unknown_metrics(text: str, known: set[str]) -> list[str]:
    return [name for name in METRIC.findall(text) if name not in known and name not in NOT_METRICS]


def metric_names() -> set[str]:
    """Every series of a scrape."""
    body, _ = render(Metrics([make_room()], ["bank"]).collect(), "")
    helped = set(re.findall(r"^# HELP (\S+)", body.decode(), re.MULTILINE))
    return helped | set(re.findall(r"^(waitroom_\w+)", body.decode(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_image_leads_somewhere(page: Path) -> None:
    """Relative links and their anchors; a stranger follows README and docs alone."""
    assert broken_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_exists(page: Path) -> None:
    assert missing_files(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    assert unknown_targets(page.read_text(), (ROOT / "Makefile").read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_metric_that_is_named_exists(page: Path) -> None:
    assert unknown_metrics(page.read_text(), metric_names()) == []


def test_every_log_event_is_logged_where_it_says() -> None:
    """An operator who searches the log for a word of docs/failures.md finds it."""
    rows = EVENT_ROW.findall((ROOT / "docs" / "failures.md").read_text())
    assert len(rows) > 5
    for events, files in rows:
        source = "".join((PACKAGES / name).read_text() for name in re.findall(r"`([\w./]+)`", files))
        for event in re.findall(r"`([a-z_]+)`", events):
            assert f'"{event}"' in source, event


def test_no_log_event_is_left_out() -> None:
    told = (ROOT / "docs" / "failures.md").read_text()
    sources = [path for path in Path(gateway.__file__).parent.rglob("*.py") if "demo" not in path.parts]
    logged = {
        event
        for path in sources
        for event in re.findall(r'log\.(?:info|warning|error|exception)\(\s*"(\w+)"', path.read_text())
    }
    assert len(logged) > 10
    assert {event for event in logged if f"`{event}`" not in told} == set()


def test_every_script_has_its_row() -> None:
    told = (ROOT / "docs" / "queue.md").read_text()
    assert {name for name in SCRIPTS if f"| `{name}` |" not in told} == set()
    assert len(SCRIPTS) == len(re.findall(r"^\| `[a-z]+` \| .*[0-9] us", told, re.MULTILINE))


def test_every_decision_is_short_and_has_a_number_of_its_own() -> None:
    """Style 18: 20 lines; the second was there before the rule was counted."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert len({page.name[:4] for page in pages}) == len(pages) >= 10
    for page in pages:
        assert page.read_text().startswith(f"# {page.name[:4]} ")
        assert len(page.read_text().splitlines()) <= 22


def test_the_readme_is_short_and_its_commands_exist() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 300
    commands = set(re.findall(r"(?:`|\$ )waitroom ([a-z]+)", text)) - {"demo"}
    assert commands >= {"serve", "check", "keys", "rooms"}
    known = {name for action in _parser()._actions for name in action.choices or ()}
    assert commands <= known
    options = set(re.findall(r"--(?:set|unset|pause|resume|reset)\b", text))
    assert options == {"--set", "--unset", "--pause", "--resume", "--reset"}


# --- the rules themselves, on planted faults -------------------------------------------------------------------------


def test_planted_faults_are_caught() -> None:
    readme = ROOT / "README.md"
    assert broken_links(readme, "[a](docs/nowhere.md) ![b](docs/images/none.png) [c](../outside.md)") == [
        "docs/nowhere.md",
        "docs/images/none.png",
        "../outside.md",
    ]
    assert broken_links(readme, '[a](README.md#no-such-part) <img src="docs/none.png">') != []
    assert broken_links(readme, "[a](https://example.com/x) [b](docs/queue.md#keys) `[c](d)`") == []
    assert broken_links(readme, "[`a`](docs/nowhere.md)") == ["docs/nowhere.md"]
    assert missing_files("`gateway/web/nowhere.py` and `gateway/model.py`") == ["gateway/web/nowhere.py"]
    assert unknown_targets("`make dmeo` and `make demo`\nmake nothing  # x", "demo: x\n") == ["dmeo", "nothing"]
    assert unknown_metrics("waitroom_redis_up waitroom_redis_down", {"waitroom_redis_up"}) == ["waitroom_redis_down"]
