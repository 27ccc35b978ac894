"""`python -m bench.replay` as it is run, on a crowd of seconds: it ends, and its pages and pictures are there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import bench.replay
from bench.replay.__main__ import main

ROOT = Path(bench.replay.__file__).parents[2]


@pytest.mark.faults  # a real crowd, which other load upsets
@pytest.mark.timeout(240)
def test_a_short_replay_writes_its_pages(tmp_path: Path) -> None:
    """Nothing is said of times: whether it kept its promises on this machine is for its exit code, which may be any it knows."""
    command = [
        sys.executable,
        "-m",
        "bench.replay",
        "--only",
        "special_deposit",
        "--seconds",
        "5",
        "--into",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode in {0, 1, 2}, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.md",
        "outages.svg",
        *(f"special_deposit{end}" for end in (".md", ".json", ".svg", "-waits.svg")),
    }
    for page in tmp_path.glob("*.md"):
        text = page.read_text()
        for link in re.findall(r"<img src=\"([^\"]+)\"", text):
            assert ET.parse(tmp_path / link).getroot().tag.endswith("svg")  # noqa: S314 - our own
        assert re.search(r"^\| people served a minute \| [\d,]+ \| [\d,]+ \|$", text, re.MULTILINE), text
    data = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["--redraw", "--only", "special_deposit", "--into", str(tmp_path)]) == done.returncode
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == data


def marked(mark: str) -> list[str]:
    """Commands of processes that were started with this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.faults
def test_ctrl_c_ends_all_that_was_started(tmp_path: Path) -> None:
    """Bank, gateways, Valkey and the crowd are up when it comes; nothing of them is left, and nothing is written."""
    mark = f"REPLAY_TEST={tmp_path}"
    command = [sys.executable, "-u", "-m", "bench.replay", "--only", "card_cashback", "--into", str(tmp_path / "pages")]
    environ = os.environ | dict([mark.split("=")])
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as running:
        deadline_s = time.monotonic() + 60
        while not any("locustfiles" in each for each in marked(mark)):
            assert time.monotonic() < deadline_s, "the crowd never came"
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=40)
    assert running.returncode == 130
    assert "Stopped" in said
    assert marked(mark) == []
    assert list((tmp_path / "pages").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "deposit"], "--only: invalid choice: 'deposit'"),
        (["--seconds", "1"], "--seconds: 1 is not a number from 5 to 600"),
        (["--seconds", "x"], "--seconds: x is not a number"),
        (["card_cashback"], "unrecognized arguments: card_cashback"),
    ],
)
def test_a_bad_option_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1
