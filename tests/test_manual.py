"""Holds the manual to its sources: it builds without a warning, its links lead somewhere, and what is made is up to date."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from gateway.web.answers import TITLES
from gateway.web.openapi import document
from gateway.web.upstream import FAILURES
from tests.test_docs import ROOT, metric_names

LEADING = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src", "source": "src"}
# What a browser fetches or runs by itself; only a reader follows an `a`.
IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")


class Page(HTMLParser):
    """The links of a page, and what in it may be linked to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors.update(value for key in ("id", "name") if (value := found.get(key)))
        if tag in LEADING and (link := found.get(LEADING[tag])):
            self.links.append((tag, link))


def build(project: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does it."""
    docs = project / "docs"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-c", str(docs / "manual")]
    command += ["-d", str(folder / "doctrees"), str(docs), str(folder / "html")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=100)


def make_references(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(project / "docs" / "manual" / "references.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=60)


def environment() -> dict[str, str]:
    """The gateway that the tests run on, wherever the copy of the pages lies."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    done = build(ROOT, folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the pages are made from, to be spoiled."""
    project = tmp_path / "project"
    for name in ("docs", "deploy"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, project)
    return project


def faults(manual: Path) -> list[str]:
    """Links of the built pages that lead nowhere, and what a browser would fetch from another host."""
    pages = {file: Page(file) for file in sorted(manual.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        for tag, link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if tag != "a":
                    found.append(f"{file.name} loads {link}")
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.is_relative_to(manual) or not target.is_file():
                found.append(f"{file.name} leads to {link}")
            elif parts.fragment and tag == "a" and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{file.name} leads to {link}, which has no such part")
    styles = [file for file in manual.rglob("*.css") if IN_STYLE.search(file.read_text())]
    return found + [f"{file.name} loads from elsewhere" for file in styles]


def test_the_manual_builds_without_a_warning_and_has_every_page(manual: Path) -> None:
    """Issue 5: a link, an anchor or a page that is not there stops the build."""
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (manual / page).is_file()} == set()


def test_every_link_of_the_built_manual_leads_somewhere_and_nothing_is_loaded_from_elsewhere(manual: Path) -> None:
    """Issue 5: it is read where there is no network, too; links into the code lead to copies of it."""
    assert len(list(manual.rglob("*.html"))) > 30
    assert any((manual / "_downloads").rglob("policy.py"))
    assert faults(manual.resolve()) == []


def test_the_manual_leads_to_no_host_that_its_pages_do_not_name(manual: Path) -> None:
    """The theme's own footer and badges stay out."""
    told = "".join(file.read_text() for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    links = {link for file in manual.rglob("*.html") for _, link in Page(file).links if urlsplit(link).netloc}
    assert {link for link in links if link not in told} == set()


def test_the_front_page_leads_to_every_chapter() -> None:
    front = (ROOT / "docs" / "index.md").read_text()
    chapters = tomllib.loads((ROOT / "docs" / "manual" / "nav.toml").read_text())["chapters"]
    named = [
        page for chapter in chapters for page in chapter["pages"] if not page.startswith(("manual/", "decisions/"))
    ]
    assert [page for page in named if f"({page}.md)" not in front] == []


def test_metrics_errors_and_api_are_what_the_source_makes() -> None:
    """Issue 5: made from the source, so that they cannot lie."""
    done = make_references(ROOT, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_is_left_out_of_the_references() -> None:
    """Counted apart from what makes the pages: it might pass something over."""
    metrics, errors, api = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("metrics", "errors", "api"))
    series = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metric_names()}
    assert {name for name in series if f"`{name}`" not in metrics} == set()
    assert {name for name in [*TITLES, *FAILURES] if f"| `{name}` |" not in errors} == set()
    assert {path for path in document()["paths"] if f" {path}`" not in api} == set()


# --- planted faults --------------------------------------------------------------------------------------------------


def test_planted_broken_links_and_a_page_that_no_chapter_has_stop_the_build(copy: Path, tmp_path: Path) -> None:
    """One build for all of them: each is told."""
    page, readme = copy / "docs" / "install.md", copy / "README.md"
    links = "[a](nowhere.md) [b](queue.md#no-such-part) [c](../gateway/missing.py) [d](#no-such-heading)"
    page.write_text(f"{page.read_text()}\n{links}\n")
    readme.write_text(f"{readme.read_text()}\n[a](docs/no-such-chapter.md)\n")
    (copy / "docs" / "stray.md").write_text("# Stray\n")
    done = build(copy, tmp_path)
    assert done.returncode != 0
    told = ("nowhere", "no-such-part", "missing.py", "no-such-heading", "no-such-chapter", "stray.md")
    assert [name for name in told if name not in done.stderr] == []


def test_a_page_changed_by_hand_is_told(copy: Path) -> None:
    page = copy / "docs" / "metrics.md"
    page.write_text(page.read_text().replace("in places", "in people"))
    done = make_references(copy, "--check")
    assert (done.returncode, done.stdout) == (1, "docs/metrics.md is not what the source makes: make references\n")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("metrics.toml", "[waitroom_parked]"),
        ("errors.toml", "closed ="),
        ("errors.toml", "busy ="),
        ("errors.toml", "Unknown ="),
    ],
)
def test_what_is_not_explained_is_told(copy: Path, file: str, line: str) -> None:
    """A new metric or error without a word of what to do about it makes no page."""
    texts = copy / "docs" / "manual" / file
    texts.write_text(
        texts.read_text().replace(line, line.replace("[waitroom_", "[waitroom_un").replace(" =", "_not ="))
    )
    done = make_references(copy, "--check")
    assert done.returncode == 1
    assert "metrics.toml speaks of metrics" in done.stderr or "errors.toml and the source differ" in done.stderr


def test_links_that_lead_nowhere_and_loads_from_elsewhere_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html">1</a><a href="#x">2</a><a href="#y" id="y">3</a><script src="https://cdn.example/x.js"></script>'
    )
    (tmp_path / "a.css").write_text("@import url(https://fonts.example/x.css);")
    assert len(faults(tmp_path.resolve())) == 4
