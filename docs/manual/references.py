"""Writes the pages of docs/ that are made from the source; with --check says which of them are not what it makes."""

from __future__ import annotations

import sys
from pathlib import Path

import apipage
import errorspage
import metricspage

DOCS = Path(__file__).parent.parent
PAGES = {"metrics.md": metricspage.page, "errors.md": errorspage.page, "api.md": apipage.page}


def main(arguments: list[str]) -> int:
    stale = []
    for name, page in PAGES.items():
        file, text = DOCS / name, page()
        if arguments == ["--check"]:
            stale += [name] if not file.exists() or file.read_text() != text else []
        else:
            file.write_text(text)
    for name in stale:
        print(f"docs/{name} is not what the source makes: make references")  # noqa: T201 - a command prints
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
