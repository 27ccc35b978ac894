"""The demo's options: each is bounded, and a bad one is one clear sentence and exit code 2, before anything starts."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.demo import bank, crowd, scene
from gateway.demo.stage import raise_file_limit
from gateway.errors import StartError

URL = ["--url", "http://127.0.0.1:1"]
Command = Callable[[list[str]], int]


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        (scene.main, ["--visitors", "0"], "--visitors: 0 is not a whole number from 1 to 20000"),
        (scene.main, ["--visitors", "20001"], "--visitors: 20001 is not a whole number"),
        (scene.main, ["--visitors=-5"], "--visitors: -5 is not a whole number"),
        (scene.main, ["--visitors", "1e3"], "--visitors: 1e3 is not a whole number"),
        (scene.main, ["--visitors", "9" * 5000], "--visitors: 999"),
        (scene.main, ["--visitors", "٣"], "--visitors: ٣ is not a whole number"),
        (scene.main, ["--visitors"], "--visitors: expected one argument"),
        (scene.main, ["--arrive-within", "nan"], "--arrive-within: nan is not a number from 0 to 3600"),
        (scene.main, ["--arrive-within", "inf"], "--arrive-within: inf is not a number"),
        (scene.main, ["--arrive-within=-1"], "--arrive-within: -1 is not a number"),
        (scene.main, ["--leavers", "20%"], "--leavers: 20% is not a number from 0 to 1"),
        (scene.main, ["--no-shows", "nan"], "--no-shows: nan is not a number from 0 to 1"),
        (scene.main, ["--sleepers", "1.1"], "--sleepers: 1.1 is not a number from 0 to 1"),
        (scene.main, ["--sleepers", "0.9"], "add up to at most 1, not 1.35: leavers 0.2, no-shows 0.1, sleepers 0.9"),
        (scene.main, ["--seed", "one"], "--seed: one is not a whole number from 0 to"),
        (scene.main, ["--seconds", "0"], "--seconds: 0 is not a number from 1 to 3600"),
        (scene.main, ["--seconds", "1h"], "--seconds: 1h is not a number"),
        (scene.main, ["--with"], "unrecognized arguments: --with"),
        (scene.main, ["waitroom.toml"], "unrecognized arguments: waitroom.toml"),
        (crowd.main, [], "--url"),
        (crowd.main, ["--url", "127.0.0.1:8080"], "--url: 127.0.0.1:8080 is not an address such as http://127"),
        (crowd.main, ["--url", "http://h:99999"], "--url: http://h:99999 is not an address"),
        (crowd.main, ["--url", "http://h/page"], "--url: http://h/page is not an address"),
        (crowd.main, [*URL, "--entries", "none.jsonl"], "--entries: there is no file none.jsonl"),
        (crowd.main, [*URL, "--json", "none/report.json"], "--json: none/report.json cannot be written"),
        (crowd.main, [*URL, "--rate=-1"], "--rate: -1 is not a number from 0 to"),
        (bank.main, ["--workers", "0"], "--workers: 0 is not a whole number from 1 to 64"),
        (bank.main, ["--transaction-ms=-1"], "--transaction-ms: -1 is not a number from 0 to 60000"),
        (bank.main, ["--queue-max", "1e3"], "--queue-max: 1e3 is not a whole number"),
        (bank.main, ["--deposits=-1"], "--deposits: -1 is not a whole number"),
        (
            bank.main,
            ["--opens-at", "11:00"],
            "--opens-at: 11:00 is not a time with its offset, such as 2021-01-05T11:00+09:00",
        ),
        (bank.main, ["--opens-at", "2021-01-05T11:00"], "--opens-at: 2021-01-05T11:00 is not a time with its offset"),
        (bank.main, ["--same-day-until", "24:00"], "--same-day-until: 24:00 is not a time of day such as 20:00"),
        (bank.main, ["--same-day-until", "8pm"], "--same-day-until: 8pm is not a time of day"),
        (bank.main, ["--port", "65536"], "--port: 65536 is not a whole number from 1 to 65535"),
        (bank.main, ["--signing-key-file", "none.key"], "--signing-key-file: there is no file none.key"),
    ],
)
def test_a_bad_option_is_one_sentence(
    command: Command, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Issue 2, bad input: a clear answer, before anything was started."""
    with pytest.raises(SystemExit) as ended:
        command(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.splitlines()) == 1
    assert len(told) < 300


def test_a_signing_key_that_is_none_is_told_by_the_bank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("not hex")
    with pytest.raises(SystemExit) as ended:
        bank.main(["--signing-key-file", str(tmp_path / "key"), "--folder", str(tmp_path)])
    assert ended.value.code == 2
    assert "does not hold a key in hex" in capsys.readouterr().err


def test_a_bank_that_cannot_be_asked_ends_the_crowd_before_it_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """A report that fails at its end would have cost the whole run."""
    assert crowd.main([*URL, "--bank-url", "http://127.0.0.1:1", "--visitors", "1"]) == 1
    assert "http://127.0.0.1:1/stats cannot be asked: " in capsys.readouterr().err


def test_a_crowd_that_needs_more_open_files_than_are_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its visitors would fail for want of files, and the gateway be blamed."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: asked.append(limits))
    raise_file_limit(500)
    assert asked == []
    raise_file_limit(2_400)
    assert asked == [(2_900, 4_096)]
    with pytest.raises(StartError, match="--visitors 3596 at most"):
        raise_file_limit(4_000)
