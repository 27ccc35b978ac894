"""Holds the signature checkers of docs/checkers, which banks copy, to one set of cases and to what the gateway signs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.rules.headers import signature

FOLDER = Path(__file__).parent.parent / "docs" / "checkers"
VECTORS: dict[str, Any] = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
EXPECTED = {case["name"]: str(case["valid"]).lower() for case in VECTORS["cases"]}
# What runs each checker, and the Debian package that has it.
COMMANDS = {
    "python": ([sys.executable, "-B", "waitroom_signature.py"], "python3"),
    "java": (["java", "-Dstdout.encoding=UTF-8", "WaitroomSignature.java"], "openjdk-17-jdk-headless"),
    "njs": (["njs", "check_vectors.mjs"], "njs"),
}


@pytest.mark.parametrize("language", COMMANDS)
def test_every_checker_agrees_with_every_case(language: str) -> None:
    """Promise 9's last line: a backend that checks believes nobody but the gateway. A missing interpreter is a failure."""
    command, package = COMMANDS[language]
    program = shutil.which(command[0])
    assert program is not None, f"{command[0]} is missing: apt-get install {package}"
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [program, *command[1:], "vectors.json"], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert dict(line.split("\t") for line in done.stdout.splitlines()) == EXPECTED


def test_the_cases_are_distinct_and_of_both_kinds() -> None:
    """A set of cases that are all refused would be passed by a checker that refuses all."""
    assert len(EXPECTED) == len(VECTORS["cases"])
    assert list(EXPECTED.values()).count("true") >= 4
    assert list(EXPECTED.values()).count("false") >= 20


def test_the_gateway_signs_what_the_checkers_accept() -> None:
    """Section 8: t=<unix>,v1=<hex HMAC-SHA256(key, "t.room.subject")>."""
    good = VECTORS["cases"][0]
    key = bytes.fromhex(VECTORS["key_hex"])
    assert good["valid"]
    assert signature(key, good["room"], good["subject"], good["now_s"]) == good["signature"]


def python_checker() -> Callable[[bytes, str, str, str, float], bool]:
    spec = importlib.util.spec_from_file_location("waitroom_signature", FOLDER / "waitroom_signature.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    checker: Callable[[bytes, str, str, str, float], bool] = module.is_valid
    return checker


def test_a_line_break_at_the_end_is_not_overlooked() -> None:
    """In Python `$` matches before a final line break; the file of cases cannot hold one."""
    is_valid, good, key = python_checker(), VECTORS["cases"][0], bytes.fromhex(VECTORS["key_hex"])
    facts = (good["room"], good["subject"], good["now_s"])
    assert is_valid(key, good["signature"], *facts)
    assert not is_valid(key, good["signature"] + "\n", *facts)
    signed = signature(key, good["room"], good["subject"] + "\n", good["now_s"])
    assert not is_valid(key, signed, good["room"], good["subject"] + "\n", good["now_s"])
