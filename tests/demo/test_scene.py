"""`waitroom demo` as a person runs it: everything real, small enough for a test."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from gateway.demo.report import from_json
from gateway.demo.stage import free_ports
from gateway.demo.verdict import broken_promises

SMALL = ["--visitors", "60", "--arrive-within", "1", "--leavers", "0.1", "--no-shows", "0.1", "--sleepers", "0"]


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, running; whatever the test thinks of it, it is told to stop at the end."""
    command = [sys.executable, "-u", "-m", "gateway", "demo", *SMALL, *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            yield running
        finally:
            running.terminate()


def get(url: str) -> int:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=5)) as connection:
        connection.request("GET", parts.path)
        return connection.getresponse().status


def is_listening(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0


def test_both_runs_stand_side_by_side_and_the_gateway_keeps_its_promises(tmp_path: Path) -> None:
    """Promises 1, 4 and 9, by the bank's own books: the same crowd, once straight at the bank and once through the door."""
    for arguments in (["--without"], []):
        with demo(tmp_path, *arguments) as running:
            told, _ = running.communicate(timeout=90)
        assert running.returncode == 0, told
    table = told[told.index("with the gateway  ") :]
    assert "without" in table.splitlines()[0]
    assert "BROKEN" not in told
    report = from_json(json.loads((tmp_path / "state/demo/with.json").read_text()))
    assert report is not None
    assert report.arrived == 60
    assert report.served + report.left + report.no_shows == 60
    assert report.served >= 48
    assert report.entries >= report.served
    assert report.unsigned == 0
    assert broken_promises(report) == []
    assert "KEPT: " in told


def read_until(running: subprocess.Popen[str], words: str) -> str:
    """What it prints up to the line with these words."""
    assert running.stdout is not None
    told = ""
    for line in running.stdout:
        told += line
        if words in line:
            return told
    raise AssertionError(told)


def test_stopping_the_demo_stops_all_that_it_started(tmp_path: Path) -> None:
    """A demo leaves nothing behind: no gateway, no bank, no Valkey keeps a port after SIGTERM; all kept is a success."""
    with demo(tmp_path, "--forever") as running:
        urls = set(re.findall(r"http://127\.0\.0\.1:\d+", read_until(running, "Still serving")))
        assert len(urls) == 4  # two gateways, one operator port, the bank
        assert all(is_listening(url) for url in urls)
        running.send_signal(signal.SIGTERM)
        rest, _ = running.communicate(timeout=30)
    assert running.returncode == 0, rest
    assert not [url for url in urls if is_listening(url)]


def test_what_was_broken_is_the_exit_code_also_after_ctrl_c(tmp_path: Path) -> None:
    """Promise 9 broken on purpose, by a request straight to the bank: the verdict stands, whoever stops the demo how."""
    with demo(tmp_path, "--forever") as running:
        bank = re.search(r"http://\S+(?=/stats)", read_until(running, "The bank itself"))
        assert bank is not None
        assert get(f"{bank[0]}/points/cashout/") == 200
        told = read_until(running, "Still serving")
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(timeout=30)
    assert "BROKEN: 1 requests reached the bank's protected pages unsigned" in told
    assert "KEPT" not in told
    assert running.returncode == 1, rest


def test_a_run_cut_short_breaks_no_promise_and_says_how_many_wait(tmp_path: Path) -> None:
    """Who still waits when time is up was promised nothing else; what happened till then is judged all the same."""
    slow = ["--visitors", "300", "--arrive-within", "1", "--seconds", "3"]
    with demo(tmp_path, *slow) as running:
        told, _ = running.communicate(timeout=60)
    assert running.returncode == 0, told
    waiting = re.search(r"Cut short after 3 s \(--seconds\): (\d+) still waiting or on their way\.", told)
    assert waiting is not None, told
    assert int(waiting[1]) > 0
    assert "BROKEN" not in told
    assert "KEPT" in told
    with demo(tmp_path, "--forever", "--seconds", "60", "--visitors", "900") as running:
        read_until(running, " 2 s |")
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(timeout=90)
    assert running.returncode == 130, rest
    assert "no verdict" in rest


def test_taken_port_is_replaced_by_a_free_one() -> None:
    """The demo starts on a machine where 8080 is in use, too."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = free_ports([port, 0, 0])
    assert port not in chosen
    assert len(set(chosen)) == 3
