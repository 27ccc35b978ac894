"""Holds the `waitroom` command: what it prints, its exit codes, keys, and rooms through a real gateway's operator port."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.cli import main
from gateway.rules.keys import load_key_file
from tests.conftest import free_port
from tests.documents import GOOD, furnish

DEADLINE_S: Final = 20.0
TOKEN: Final = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good waitroom.toml and a real key, where the command is used."""
    monkeypatch.chdir(furnish(tmp_path))
    (tmp_path / "key.pem").unlink()
    assert main(["keys", "new", "key.pem"]) == 0
    (tmp_path / "waitroom.toml").write_text(GOOD)
    return tmp_path


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """This process' environment with the package on the path, without variables of a gateway around it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAITROOM_")}
    import gateway

    return kept | {"PYTHONPATH": str(Path(gateway.__file__).parent.parent), "PYTHONUNBUFFERED": "1"}


# --- check and keys --------------------------------------------------------------------------------------------------


def test_check_shows_routes_rooms_and_what_follows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 13; issue 2: `waitroom check` shows the resolved routes."""
    capsys.readouterr()
    assert main(["check"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "waitroom.toml is good",
        "/points/cashout/*  room cashout, then bank",
        "everything else    bank",
        "50/s, burst 50, at most 2000 inside",
        "120 of bank's",
        "with these figures the cap allows 3.33 entries/s when nobody releases, not 50",
    ):
        assert part in shown


def test_check_shows_every_setting_without_a_file(tmp_path: Path) -> None:
    """Section 13: keys, defaults and bounds, also where only the wheel is."""
    done = run("check", "--settings", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert '| `claim_window` | `"2m"` |' in done.stdout


def test_check_shows_all_faults_and_fails(folder: Path) -> None:
    """Promise 14: exit code 1, every fault, no traceback."""
    text = (
        GOOD.replace("50/s", "50/fortnight").replace("key.pem", "keys/sre.token").replace("[server]", "[server]\nx = 1")
    )
    (folder / "waitroom.toml").write_text(text)
    for command in ("check", "serve"):
        done = run(command, "waitroom.toml", folder=folder)
        assert done.returncode == 1
        assert done.stderr.startswith("waitroom.toml: 3 fault(s)\n")
        assert 'rooms.cashout.drain_rate = "50/fortnight": allowed: whole entries per s, min or h' in done.stderr
        assert "is not a key" in done.stderr
        assert "server.x: unknown key" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_missing_file_is_one_sentence(tmp_path: Path, command: str) -> None:
    """Promise 14."""
    done = run(command, folder=tmp_path)
    assert done.returncode == 1
    title, fault = done.stderr.splitlines()
    assert title == "waitroom.toml: 1 fault(s)"
    assert fault.startswith("  - cannot be read: No such file or directory; name the file you mean, or start")


def test_a_key_open_to_others_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Issue 2: missing or weak keys."""
    (folder / "key.pem").chmod(0o640)
    (folder / "key.pem").chmod(0o644)
    assert main(["check"]) == 1
    assert "tokens.signing_key_file" in (told := capsys.readouterr().err)
    assert "chmod 600" in told


@pytest.mark.parametrize("algorithm", ["ES256", "HS256"])
def test_keys_new_writes_a_private_key_that_a_gateway_reads(tmp_path: Path, algorithm: str) -> None:
    """Section 7: no default secret; mode 0600."""
    path = tmp_path / "new.key"
    assert main(["keys", "new", str(path), "--algorithm", algorithm]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key_file(path).algorithm == algorithm


def test_keys_new_never_overwrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 7. An overwritten key voids every ticket."""
    before = (folder / "key.pem").read_bytes()
    assert main(["keys", "new", "key.pem"]) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert (folder / "key.pem").read_bytes() == before
    assert main(["keys", "new", "."]) == 1
    assert "is a folder: name the file in it" in capsys.readouterr().err


def test_keys_list_shows_kids_and_their_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 7: keys by kid."""
    assert main(["keys", "new", "next.key", "--algorithm", "HS256"]) == 0
    (folder / "waitroom.toml").write_text(GOOD.replace('"key.pem"', '"key.pem"\nverify_key_files = ["next.key"]'))
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [load_key_file(folder / "key.pem").kid, "ES256", "signs"],
        [load_key_file(folder / "next.key").kid, "HS256", "verifies"],
    ]


# --- how it is used --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [[], ["serv"], ["keys"], ["keys", "new"], ["check", "a", "b"], ["edge", "iis"], ["serve", "--de"], ["serve", "-x"]],
)
def test_used_wrongly_it_says_how_it_is_used(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert "usage: waitroom" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["rooms", "--help"], ["keys", "new", "--help"]])
def test_help_is_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 0
    assert "usage: waitroom" in capsys.readouterr().out


def test_the_demo_reads_its_own_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """`make demo ARGS=...` hands them on, options first or not."""
    with pytest.raises(SystemExit) as exited:
        main(["demo", "--help"])
    assert exited.value.code == 0
    assert "--without" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rooms", "--pause"], "which room?"),
        (["rooms", "a", "--set", "drain_rate"], "NAME=VALUE is wanted"),
        (["rooms", "a", "--set", "burst=many"], "a whole number is wanted"),
        (["rooms", "a", "--set", "speed=1"], "there is no setting speed"),
        (["rooms", "a", "--reset", "--pause"], "--reset stands alone"),
        (["rooms", "a", "--void-admissions"], "goes with --reset"),
        (["rooms", "--url", "127.0.0.1:9090"], "http://host:port is wanted"),
        (["rooms", "--url", "http://127.0.0.1:port"], "http://host:port is wanted"),
        (["rooms", "--url", "http://127.0.0.1:99999"], "http://host:port is wanted"),
        (["rooms", "--url", "http://[::1"], "http://host:port is wanted"),
        (["rooms", "--url", "http://sre:secret@127.0.0.1:9090"], "http://host:port is wanted"),
        (["rooms", "a", "--set", "stock="], "a whole number is wanted"),
        (["rooms", "a", "--set", "message=hello"], "there is no setting message"),
        (["rooms", "a", "--unset", "speed"], "there is no setting speed"),
        (["rooms", ""], "which room?"),
    ],
)
def test_rooms_used_wrongly_is_refused_before_anything_is_sent(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


def test_an_operator_port_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rooms", "--url", f"http://127.0.0.1:{free_port()}"]) == 1
    assert "cannot be asked: " in capsys.readouterr().err


# --- a real gateway --------------------------------------------------------------------------------------------------


class Served:
    """`waitroom serve --dev` in a process of its own, on an embedded Valkey."""

    def __init__(self, folder: Path) -> None:
        (folder / "sre.token").write_text(TOKEN)
        (folder / "sre.token").chmod(0o600)
        assert main(["keys", "new", str(folder / "key.pem")]) == 0
        self.port, self.token_file = free_port(), folder / "sre.token"
        self.url = f"http://127.0.0.1:{self.port}"
        listen = f'[server]\npublic = "127.0.0.1:0"\noperator = "127.0.0.1:{self.port}"\nstop_grace = "100ms"'
        operators = '[[operators]]\nname = "sre"\nrole = "operator"\ntoken_file = "sre.token"\n'
        text = GOOD.replace("[server]", listen).replace("redis://127.0.0.1/0", "embedded") + operators
        (folder / "waitroom.toml").write_text(text)
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "waitroom.toml", "--dev"],
                cwd=folder,
                stdout=log,
                stderr=log,
                env=environment(),
            )
        self.log = folder / "log"

    def wait_until_ready(self) -> None:
        until = time.monotonic() + DEADLINE_S
        while not (self._is_ready() and main(self.rooms("cashout")) == 0):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def rooms(self, *arguments: str) -> list[str]:
        return ["rooms", *arguments, "--url", self.url, "--token-file", str(self.token_file)]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    gateway = Served(tmp_path_factory.mktemp("served"))
    try:
        gateway.wait_until_ready()
        yield gateway
    finally:
        code = gateway.stop()
    assert code == 0  # SIGTERM is the usual way to stop, and no failure


def test_rooms_lists_them(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 8: the operator port, from the command line."""
    assert main(served.rooms()) == 0
    assert "cashout" in capsys.readouterr().out


def test_rooms_changes_a_room_and_takes_it_back(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 8: PATCH as JSON merge patch; null takes an override back."""
    assert main(served.rooms("cashout", "--set", "drain_rate=80/s", "--set", "message.ko=잠시만요", "--pause")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["overrides"] == {"drain_rate": "80/s", "message": {"ko": "잠시만요"}, "paused": True}
    assert main(served.rooms("cashout", "--resume", "--unset", "drain_rate", "--unset", "message")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["overrides"], shown["settings"]["drain_rate"]) == ({"paused": False}, "50/s")


def test_rooms_tells_what_the_operator_port_refuses(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 8: all or nothing, 401, and what is allowed."""
    assert main(served.rooms("cashout", "--set", "drain_rate=50/fortnight")) == 1
    assert "answered 4" in capsys.readouterr().err
    assert main(["rooms", "--url", served.url]) == 1
    assert "give --token-file ([[operators]] of its configuration)" in (told := capsys.readouterr().err)
    assert "answered 401" in told
    other = served.token_file.with_name("other.token")
    other.write_text(TOKEN.replace("0", "1"))
    other.chmod(0o600)
    assert main(["rooms", "--url", served.url, "--token-file", str(other)]) == 1
    assert "what --token-file names is no token of this gateway's" in capsys.readouterr().err
    assert main(served.rooms("nothing")) == 1
    assert "answered 404" in capsys.readouterr().err


def test_rooms_resets_a_room(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 2: a reset raises the epoch."""
    assert main(served.rooms("cashout", "--reset")) == 0
    first = epoch = json.loads(capsys.readouterr().out)["epoch"]
    until = time.monotonic() + DEADLINE_S
    while epoch == first:  # asked again before the gateway has seen the first one, it is taken for its retry
        assert time.monotonic() < until
        assert main(served.rooms("cashout", "--reset", "--void-admissions")) == 0
        epoch = json.loads(capsys.readouterr().out)["epoch"]
    assert epoch == first + 1


def test_a_port_in_use_is_one_sentence(served: Served, folder: Path) -> None:
    """Issue 2: port in use, and which key to change."""
    used, free = f'"127.0.0.1:{served.port}"', '"127.0.0.1:0"'
    for public, operator, key in ((free, used, "operator"), (used, free, "public")):
        server = f"[server]\npublic = {public}\noperator = {operator}"
        (folder / "waitroom.toml").write_text(GOOD.replace("[server]", server))
        done = run("serve", "--dev", folder=folder)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last == f"waitroom: port {served.port} on 127.0.0.1 is in use by another process: see {key} of [server]"
        assert "Traceback" not in done.stderr


def test_a_stop_is_logged_with_its_reason(tmp_path: Path) -> None:
    """Who looks for the end of a process in the log finds who ended it, and that it ended in order."""
    gateway = Served(tmp_path)
    try:
        gateway.wait_until_ready()
    finally:
        assert gateway.stop() == 0
    *_, stopping, stopped = [line for line in gateway.log.read_text().splitlines() if " INFO waitroom " in line]
    assert stopping.endswith(" INFO waitroom stopping why=SIGTERM grace_s=0.1")
    assert stopped.endswith(" INFO waitroom stopped")
