"""What the built packages carry: `make test-wheel` runs the suite on them; here, that nothing is left out of the list."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import gateway
import waitroom_ui

ROOT = Path(__file__).parent.parent
PACKAGES = [Path(gateway.__file__).parent, Path(waitroom_ui.__file__).parent]
SETUP: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def name_of(folder: Path) -> str:
    return ".".join(folder.relative_to(PACKAGES[0].parent).parts)


def left_out(packages: list[str], data: dict[str, list[str]]) -> list[str]:
    """Files beside the sources that no package of the list would carry."""
    found = []
    for file in (file for package in PACKAGES for file in package.rglob("*") if file.is_file()):
        home = next(folder for folder in file.parents if (folder / "__init__.py").exists())
        inside = file.relative_to(home).as_posix()
        is_carried = name_of(home) in packages and (
            file.suffix == ".py" or any(fnmatch(inside, pattern) for pattern in data.get(name_of(home), []))
        )
        if not is_carried and "__pycache__" not in file.parts:
            found.append(f"{name_of(home)}: {inside}")
    return found


def test_every_source_script_and_page_is_in_the_packages() -> None:
    """A file that only the checkout has would be missed first by whoever installs the wheel."""
    assert left_out(SETUP["packages"], SETUP["package-data"]) == []


def test_planted_faults_are_caught() -> None:
    without = {name: patterns for name, patterns in SETUP["package-data"].items() if name != "gateway.queue"}
    assert "gateway.queue: lua/root.lua" in left_out(SETUP["packages"], without)
    assert "gateway.web: gate.py" in left_out([one for one in SETUP["packages"] if one != "gateway.web"], without)
