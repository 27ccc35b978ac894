"""Owns how docs/ becomes the manual: `make docs` runs Sphinx with this file, and every warning stops it.

The pages are Markdown as a forge shows it, README.md and CHANGELOG.md among them. What a forge resolves and Sphinx
does not is mended as a page is read: files beside docs/ go along as downloads, folders stay words, and the chapters
come from nav.toml.
"""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import gateway

HERE = Path(__file__).parent
DOCS = HERE.parent
ROOT = DOCS.parent
PACKAGES = Path(gateway.__file__).parent.parent
# Pages whose text lies outside of docs/; a file of their name stands in for them.
OUTSIDE = {"manual/readme": ROOT / "README.md", "manual/changelog": ROOT / "CHANGELOG.md"}

project = "waitroom"
version = release = version_of("waitroom")
html_title = f"waitroom {release}"
extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["manual/templates", "manual/static"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 6  # the anchors that a forge makes of headings
myst_enable_extensions = ["html_image", "tasklist"]
myst_enable_checkboxes = True  # the checklists of an event are ticked on the page

html_theme = "furo"
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_show_sphinx = False
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
# Transcripts and terminals have no language; nothing is coloured by guessing.
highlight_language = "none"
smartquotes = False

LINK = re.compile(
    r"(?P<text>\[[^\]\[]*\])\((?P<link>[^)\s]+)\)|(?P<image><img src=\")(?P<source>[^\"]+)|(?P<code>`[^`\n]*`)"
)
FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(_: Sphinx, page: str, source: list[str]) -> None:
    """Called by Sphinx for each page as it is read."""
    if page in OUTSIDE:
        source[0] = _mended(OUTSIDE[page].read_text(), ROOT)
    elif page == root_doc:
        source[0] = _mended(source[0], DOCS) + _chapters()
    else:
        source[0] = _mended(source[0], (DOCS / page).parent)


def _chapters() -> str:
    chapters = tomllib.loads((HERE / "nav.toml").read_text())["chapters"]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {chapter['caption']}\n\n"
        + "\n".join(chapter["pages"])
        + "\n```\n"
        for chapter in chapters
    )


def _mended(text: str, folder: Path) -> str:
    """The page's links as Sphinx finds them, but for those inside of code."""

    def replaced(found: re.Match[str]) -> str:
        if found["code"]:
            return found["code"]
        if found["image"]:
            return found["image"] + _target(found["source"], folder)
        if (target := _target(found["link"], folder)) == "":
            return found["text"][1:-1]
        return f"{found['text']}({target})"

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts)


def _target(link: str, folder: Path) -> str:
    """From the top of docs/; empty for a folder."""
    path, mark, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", link):
        return link
    file = Path(os.path.normpath(folder / path))
    if not file.exists():  # the suite also runs where the packages are installed elsewhere
        file = PACKAGES / file.relative_to(ROOT)
    if file.is_dir():
        return ""
    for page, outside in OUTSIDE.items():
        if file == outside:
            file = (DOCS / page).with_suffix(".md")
    return "/" + os.path.relpath(file, DOCS) + mark + anchor
