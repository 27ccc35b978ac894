"""Holds promise 14 of the configuration: every kind of fault, told with its key, its value and what is allowed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from gateway import config
from gateway.errors import ConfigError
from gateway.rules.keys import load_key_file, new_key_file
from tests.documents import GOOD, SECRET, faults, furnish, load, only, with_room


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path)


def test_all_faults_are_told_at_once(folder: Path) -> None:
    """Promise 14: bad configuration never starts: all faults at once, each with key, value and what is allowed."""
    text = with_room('drain_rate = "50/fortnight"').replace("[server]", '[server]\nworkers = 257\npublc = "x"')
    text = text.replace('signing_key_file = "key.pem"', 'signing_key_file = "nothing.pem"\nissuer = 7')
    text = text.replace('[default]\nupstream = "bank"', '[default]\nupstream = "bonk"')
    text = text.replace("[[rooms]]", '[[rooms]]\nsession = "2h"\nclaim_window = "30s"\nqueueing_status = 418', 1)
    found = "\n".join(faults(folder, text))
    for part in (
        'rooms.cashout.drain_rate = "50/fortnight": allowed: whole entries per s, min or h',
        "server.workers = 257: allowed: a whole number of processes from 1 to 256",
        "server.publc: unknown key; did you mean public?",
        "tokens.issuer = 7: allowed: 1 to 120 visible ASCII characters",
        'tokens.signing_key_file = "nothing.pem": no such file',
        'default.upstream = "bonk": no such upstream; allowed: bank',
        'rooms.cashout.session = "2h": allowed: up to session_max, which is "1h"',
        'rooms.cashout.claim_window = "30s": allowed:',
        "hidden tabs look only once a minute",
        "rooms.cashout.queueing_status = 418: allowed: 200, 202, 429 or 503",
    ):
        assert part in found
    assert len(found.splitlines()) == 9


ROOM_FAULTS: Final = [
    ('drain_rate = "0/s"', 'drain_rate = "0/s": allowed: whole entries per s, min or h'),
    ('drain_rate = "1.5/s"', 'drain_rate = "1.5/s": allowed'),
    ('drain_rate = "100001/s"', "up to 100000/s"),
    ("drain_rate = 50", "drain_rate = 50: allowed: whole entries per s, min or h"),
    ("burst = 1", "burst = 1: allowed: a whole number of entries from 2"),
    ("burst = 12", "burst = 12: allowed: 13 to 1000000 at 50/s, a quarter of a second"),
    ("active_max = 0", "active_max = 0: allowed: a whole number of admissions at a time from 1"),
    ("active_max = true", "active_max = true: allowed"),
    ("active_max = 2.0", "active_max = 2.0: allowed"),
    ('session = "5"', 'session = "5": allowed: a number and ms, s, m or h'),
    ("session = 600", "text in quotes is wanted"),
    ('session = "30500ms"', "whole seconds are wanted"),
    ('claim_window = "89s"', 'from "90s" to "1h": hidden tabs look only once a minute'),
    ('absence_max = "119s"', 'from "2m" to "24h": nobody is absent before two slices of 60 s'),
    ('claim_window = "11m"', 'claim_window = "11m": allowed: up to absence_max, which is "10m"'),
    ("max_in_flight = 201", "max_in_flight = 201: allowed: 1 to 200, which is upstreams.bank.max_in_flight"),
    ("waiting_max = 8388609", "waiting_max = 8388609: allowed: a whole number of places from 1 to 8388608"),
    ("queueing_status = 302", "queueing_status = 302: allowed: 200, 202, 429 or 503"),
    ('upstream = "bonk"', 'upstream = "bonk": no such upstream; allowed: bank'),
    ('match = [{ path = "points" }]', 'match[0].path = "points": allowed: a path spelled plainly'),
    ('match = [{ path = "/points/*/x" }]', "and * only as the last segment"),
    ('match = [{ path = "/p%6Fints" }]', 'match[0].path = "/p%6Fints": allowed'),
    ('match = [{ path = "/points//x" }]', "match[0].path"),
    ('match = [{ path = "/points/../x" }]', "match[0].path"),
    ('match = [{ path = "/points;a" }]', "match[0].path"),
    ('match = [{ path = "/points?a" }]', "match[0].path"),
    ('match = [{ path = "/_waitroom/*" }]', 'not "/_waitroom", which is the gateway\'s own'),
    ('match = [{ path = "/_Waitroom" }]', 'not "/_waitroom", which is the gateway\'s own'),
    ('match = "/points/*"', 'match = "/points/*": allowed: a list of 1 to 1000 routes'),
    ('match = ["/points/*"]', 'match[0] = "/points/*": allowed: a list of 1 to 1000 routes'),
    ("active_max = -1", "active_max = -1: allowed: a whole number of admissions at a time from 1"),
    ("active_max = nan", "active_max = nan: allowed"),
    ("burst = inf", "burst = inf: allowed"),
    ("active_max = 99999999999999999999", "active_max = 99999999999999999999: allowed"),
    ('active_max = "2000"', 'active_max = "2000": allowed'),
    ("drain_rate = 2026-12-01", "drain_rate = 2026-12-01: allowed"),
    ('drain_rate = "٥/s"', 'drain_rate = "٥/s": allowed'),
    ('drain_rate = "-5/s"', 'drain_rate = "-5/s": allowed'),
    (f'drain_rate = "{"9" * 300}/s"', "99...: allowed: whole entries"),
    ('session = "1e99s"', 'session = "1e99s": allowed: a number and ms, s, m or h'),
    ('session = "999999999h"', 'session = "999999999h": allowed'),
    ('match = [{ path = "/p", hots = "x" }]', "match[0].hots: unknown key; did you mean host?"),
    ('match = [{ path = "/p", host = "https://x" }]', 'match[0].host = "https://x": allowed: a host name'),
    ('match = [{ path = "/p", host = "x.example" }]', "one of server.hosts (bank.example)"),
    ("match = []", "match = []: allowed: a list of 1 to 1000 routes"),
    ('entry = "//evil.example/"', 'entry = "//evil.example/": allowed: a path and query on the same host'),
    ('entry = "/\\\\evil.example/"', "entry"),
    ('bypass = [{ path = "/elsewhere" }]', 'bypass[0].path = "/elsewhere": allowed: a path that the room protects'),
    ("bypass = [{}]", "bypass[0]: allowed: either path or source"),
    ('bypass = [{ path = "/points/cashout/a", source = "10.0.0.1" }]', "bypass[0]: allowed: either path or source"),
    ('bypass = [{ source = "10.0.0.1/8" }]', 'bypass[0].source = "10.0.0.1/8": allowed: an IP address or network'),
    ('bypass = [{ source = "10.0.0.1" }, { source = "10.0.0.1" }]', 'bypass: 2 have name = "10.0.0.1/32"'),
    ('origins = ["https://app.example/"]', 'origins[0] = "https://app.example/": allowed: a list of origins'),
    ('origins = ["app.example"]', "origins[0]"),
    ('origins = ["null"]', "origins[0]"),
    ("opens_at = 2026-12-01T11:00:00", "opens_at = 2026-12-01T11:00:00: allowed: a date and time with its offset"),
    ('opens_at = "2026-12-01T11:00:00+09:00"', "without quotes"),
    (
        "closes_at = 2026-12-01T10:00:00+09:00\nopens_at = 2026-12-01T11:00:00+09:00",
        "closes_at = 2026-12-01T10:00:00+09:00: allowed: later than opens_at",
    ),
    ('message = { english = "x" }', "message"),
    ('customer_header = "X-Customer"', "customer_header: allowed: together with customer_secret_file"),
    ('customer_secret_file = "keys/bank.hmac"', "customer_secret_file: allowed: together with customer_header"),
    (
        'customer_header = "Waitroom-X"\ncustomer_secret_file = "keys/bank.hmac"',
        'customer_header = "Waitroom-X": allowed: a header\'s name',
    ),
    ("workers = 1", "workers: unknown key here; it belongs in [server]"),
    ("drain = 1", "drain: unknown key; did you mean drain_rate?"),
]


@pytest.mark.parametrize(("line", "part"), ROOM_FAULTS)
def test_each_fault_of_a_room_is_told_with_what_is_allowed(folder: Path, line: str, part: str) -> None:
    """Promise 14."""
    found = only(faults(folder, with_room(line)))
    assert found.startswith("rooms.cashout")
    assert part in found


@pytest.mark.parametrize("name", ["auth", "health", "x.json", "", "-a", "a-", "A", "a_b", "a/b", "a" * 64, "포인트"])
def test_room_ids_fit_into_urls_cookies_and_keys(folder: Path, name: str) -> None:
    """Section 8: `[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?`, not `auth`, `health`, `*.json`."""
    assert 'not "auth", "health" or "*.json"' in only(faults(folder, with_room(f'id = "{name}"')))


@pytest.mark.parametrize("name", ["a", "0", "point-cashout", "a.b", "a" * 63, "json"])
def test_other_room_ids_are_taken(folder: Path, name: str) -> None:
    """Section 8."""
    assert load(folder, with_room(f'id = "{name}"')).rooms[0].id == name


SERVER_FAULTS: Final = [
    ('public = "8080"', 'server.public = "8080": allowed: "address:port"'),
    ('public = "bank.example:80"', "server.public"),
    ('public = "::1:80"', "server.public"),
    ('public = "0.0.0.0:65536"', "server.public"),
    ('public = "127.0.0.1:9090"', 'another port than that of server.public, "127.0.0.1:9090"'),
    ('public = "0.0.0.0:9090"', 'another port than that of server.public, "0.0.0.0:9090"'),
    ('public = "[::]:9090"', 'another port than that of server.public, "[::]:9090"'),
    ('public = "localhost:9090"', 'another port than that of server.public, "localhost:9090"'),
    ('public = "*:8080"', 'server.public = "*:8080": allowed: "address:port"'),
    ("public = 8080", "server.public = 8080: allowed"),
    ('public = "127.0.0.1:9000"', 'upstreams.bank.urls[0] = "http://127.0.0.1:9000": is this gateway itself'),
    ('public = "0.0.0.0:9000"', "is this gateway itself (server.public); allowed: another"),
    ('state_dir = "key.pem"', "key.pem is no folder; allowed: a folder"),
    (f'state_dir = "key.pem/{"n" * 300}"', "is no folder; allowed: a folder"),
    ('state_dir = "key.pem/below"', "key.pem is no folder; allowed: a folder"),
    ('state_dir = "a\\u0000b"', 'server.state_dir = "a\\u0000b": allowed: a folder\'s name'),
    ('hosts = ["https://bank.example/"]', 'hosts[0] = "https://bank.example/": allowed'),
    ('hosts = ["은행.example"]', 'hosts[0] = "은행.example": allowed'),
    ('stop_grace = "-1s"', 'from "0s" to "5m"'),
    ('operator = "0.0.0.0:9090"', "allowed: a loopback address, or any with [[operators]]"),
    ('scheme = "http"', 'server.scheme = "http": allowed: "https", or "http" with --dev'),
    ('scheme = "h2"', 'server.scheme = "h2": allowed'),
    ("workers = 0", "server.workers = 0: allowed: a whole number of processes"),
    ("workers = 201", "upstreams.bank.max_in_flight = 200 with server.workers = 201: allowed: 201 or more"),
    ('header_bytes_max = "32k"', 'server.header_bytes_max = "32k": allowed: a number and B, KiB or MiB'),
    ('header_bytes_max = "1KiB"', 'from "8KiB" to "1MiB"'),
    ('stop_grace = "1d"', "server.stop_grace"),
    ('log_format = "xml"', 'server.log_format = "xml": allowed: "text" or "json"'),
    ("access_log = 1.5", "server.access_log = 1.5: allowed: a share of the requests from 0 (none) to 1 (all)"),
    ("access_log = nan", "server.access_log"),
    ("traces = -1", "server.traces = -1: allowed: a share of the requests from 0 (none) to 1 (all)"),
    ('request_id = "keep"', 'server.request_id = "keep": allowed: "pass" or "make"'),
    ("connections_max = 1", "server.connections_max = 1: allowed: a whole number of connections"),
]


@pytest.mark.parametrize(("line", "part"), SERVER_FAULTS)
def test_each_fault_of_the_server_is_told_with_what_is_allowed(folder: Path, line: str, part: str) -> None:
    """Promise 14, and section 8: an operator port that others reach needs operators."""
    key = line.partition("=")[0].strip()
    text = re.sub(rf"(?m)^{key} = .*\n", "", GOOD, count=1)
    assert part in only(faults(folder, text.replace("[server]", f"[server]\n{line}")))


def test_traces_need_what_makes_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 14: a gateway without the extra does not start and then say nothing."""
    text = GOOD.replace("[server]", "[server]\ntraces = 0.01")
    assert load(folder, text).server.traces == 0.01
    monkeypatch.setattr(config, "TRACING", ("no_such_folder.sdk",))
    assert only(faults(folder, text)) == 'server.traces = 0.01 needs the extra: pip install "waitroom[otel]"'
    monkeypatch.setattr(config, "TRACING", ("opentelemetry.no_such_part",))
    assert "needs the extra" in only(faults(folder, text))


@pytest.mark.parametrize(
    "networks",
    [["0.0.0.0/0"], ["::/0"], ["10.0.0.0/24", "0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["8000::/1", "::/1"]],
)
def test_nobody_trusts_everybody(folder: Path, networks: list[str]) -> None:
    """Section 8: source rules need a known client address; one that every client may forge is none."""
    text = GOOD.replace('["10.0.0.0/24"]', json.dumps(networks))
    found = only(faults(folder, text))
    assert found.startswith(f"server.trusted_proxies = {json.dumps(networks)}: allowed: the networks of your own")
    assert "whoever is trusted may forge the client's address" in found


@pytest.mark.parametrize(("network", "is_noted"), [("52.0.0.0/6", True), ("10.0.0.0/8", False), ("fc00::/7", False)])
def test_a_wide_public_network_of_proxies_is_noted(folder: Path, network: str, is_noted: bool) -> None:
    told = "\n".join(config.notes(load(folder, GOOD.replace("10.0.0.0/24", network))))
    assert (f"server.trusted_proxies: {network} is wide and public" in told) is is_noted


def test_operators_open_the_way_to_other_binds_and_need_real_tokens(folder: Path) -> None:
    """Section 8: bearer tokens, one for each."""
    opened = GOOD.replace("[server]", '[server]\noperator = "0.0.0.0:9090"')
    one = '[[operators]]\nname = "sre"\nrole = "operator"\ntoken_file = "keys/sre.token"\n'
    found = load(folder, opened + one)
    assert found.operators[0].token not in repr(found)
    assert "another operator's token" in only(faults(folder, opened + one + one.replace("sre", "two", 1)))
    assert 'no room is called "cashuot"' in only(faults(folder, opened + one + 'rooms = ["cashuot"]\n'))
    (folder / "keys/sre.token").write_text("short")
    assert "does not hold one bearer token of 16" in only(faults(folder, opened + one))
    (folder / "keys/sre.token").write_text(SECRET)
    (folder / "keys/sre.token").chmod(0o644)
    found_fault = only(faults(folder, opened + one))
    assert "is open to others (mode 0644): chmod 600 it" in found_fault
    assert SECRET not in found_fault


def test_plain_http_is_for_development(folder: Path) -> None:
    """Section 7: https is the default; plain http needs --dev."""
    assert load(folder, GOOD).server.https
    assert not load(folder, GOOD, dev=True).server.https
    assert load(folder, GOOD.replace("[server]", '[server]\nscheme = "https"'), dev=True).server.https


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{ path = "/pay" }', '{ path = "/pay" }'),
        ('{ path = "/pay" }', '{ path = "/Pay" }'),
        ('{ path = "/pay" }', '{ path = "/pay/" }'),
        ('{ path = "/pay" }', '{ path = "/pay/*" }'),
        ('{ path = "/pay/*" }', '{ path = "/PAY/now/*" }'),
        ('{ path = "/*" }', '{ path = "/pay" }'),
        ('{ path = "/pay", host = "bank.example" }', '{ path = "/pay" }'),
        ('{ path = "/pay", host = "bank.example" }', '{ path = "/pay", host = "BANK.example" }'),
        ('{ path = "/a" }, { path = "/pay" }', '{ path = "/b" }, { path = "/pay" }'),
        ('{ path = "/ｐay" }', '{ path = "/pay" }'),
    ],
)
def test_rooms_that_overlap_are_refused_by_name(folder: Path, one: str, other: str) -> None:
    """Section 8: a request is one room's; issue 2: overlapping rooms are bad input."""
    found = only(faults(folder, with_room(f"match = [{one}]") + second_room(other)))
    assert "rooms.cashout.match and rooms.second.match overlap" in found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{ path = "/pay" }', '{ path = "/pay/now" }'),
        ('{ path = "/pay/*" }', '{ path = "/payment/*" }'),
        ('{ path = "/pay", host = "bank.example" }', '{ path = "/pay", host = "www.bank.example" }'),
    ],
)
def test_rooms_side_by_side_are_taken(folder: Path, one: str, other: str) -> None:
    """Section 8."""
    text = with_room(f"match = [{one}]") + second_room(other)
    text = text.replace('hosts = ["bank.example"]', 'hosts = ["bank.example", "www.bank.example"]')
    assert len(load(folder, text).rooms) == 2


def second_room(match: str) -> str:
    return f"""
[[rooms]]
id = "second"
match = [{match}]
upstream = "bank"
drain_rate = "1/s"
active_max = 1
"""


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[server\n", "is not TOML: "),
        ("a = 1\na = 2\n", "is not TOML: "),
        ("", "rooms: missing"),
        ("a = " + "[" * 5000, "is nested too deeply"),
        (with_room("active_max = " + "9" * 5000), "has a number of thousands of digits"),
        (GOOD + "\0", "is not TOML: "),
        (GOOD.replace("key.pem", "k" * 300), "no such file; make one: waitroom keys new"),
        (GOOD + '\n["방"]\nx = 1', "방: unknown key; allowed: server"),
        (GOOD + '\n["\\u001b[31m"]', '"\\u001b[31m": unknown key'),
        (GOOD + '\n["\\u009b31m"]', '"\\u009b31m": unknown key'),
        ("rooms = [1]\n" + GOOD.partition("[[rooms]]")[0], "rooms[0] = 1: allowed: a table"),
        ("rooms = []\n" + GOOD.partition("[[rooms]]")[0], "rooms = []: allowed: one [[rooms]] table or more"),
        (GOOD.replace("[upstreams.bank]", "[[upstreams]]"), "upstreams = [a table]: allowed: one [upstreams.NAME]"),
        (
            GOOD.replace('[upstreams.bank]\nurls = ["http://127.0.0.1:9000"]', "[upstreams]\nbank = 5"),
            "upstreams.bank = 5: allowed: a table",
        ),
        (GOOD.replace("127.0.0.1:9000", "127.0.0.1:0"), 'urls[0] = "http://127.0.0.1:0": allowed'),
        (GOOD.replace("9000", "9000/app"), 'urls[0] = "http://127.0.0.1:9000/app": allowed: a list of 1 to 64 in [ ]'),
        (
            GOOD.replace('"http://127.0.0.1:9000"', '"http://h:80", "http://h"'),
            'upstreams.bank.urls: "http://h" stands there 2 times; allowed: each URL once',
        ),
        (GOOD.replace("[[rooms]]", "[rooms]"), "rooms = a table: allowed: one [[rooms]] table or more"),
        (GOOD.replace("[default]", "[defaults]"), "defaults: unknown key; did you mean default?"),
        (GOOD + second_room('{ path = "/x" }').replace("second", "cashout"), '2 have id = "cashout"'),
        (GOOD.replace("[redis]", "[redis]\nport = 6379"), "redis.port: unknown key"),
        (GOOD.replace('[redis]\nurl = "redis://127.0.0.1/0"\n', ""), "redis.url: missing; allowed: "),
        (GOOD.replace('signing_key_file = "key.pem"\n', ""), "waitroom keys new"),
        (GOOD.replace("[upstreams.bank]", "[upstreams.Bank]"), 'upstreams."Bank": allowed as a name'),
        ("redis = 5\n" + GOOD.replace('[redis]\nurl = "redis://127.0.0.1/0"\n', ""), "redis = 5: allowed: a table"),
        (GOOD.replace("http://127.0.0.1:9000", f"http://u:{SECRET}@h/"), 'urls[0] = "http://***@h/"'),
        (
            GOOD.replace("[upstreams.bank]", f'[upstreams.bank]\npassword = "{SECRET}"'),
            "upstreams.bank.password: unknown",
        ),
    ],
)
def test_what_is_no_configuration_is_refused_in_words(folder: Path, text: str, part: str) -> None:
    """Promise 14; secrets never appear in faults."""
    found = "\n".join(faults(folder, text))
    assert part in found
    assert SECRET not in found


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Promise 14."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(tmp_path / "none.toml", {})
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 2"):
        config.load(tmp_path / "latin.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory; name the file you mean"):
        config.load(tmp_path, {})


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(folder: Path) -> None:
    """Some editors write them; the file means the same."""
    (folder / "waitroom.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert config.load(folder / "waitroom.toml", {}).digest == load(folder, GOOD).digest


def test_a_room_that_stands_there_twice_is_told_once(folder: Path) -> None:
    """Promise 14: one mistake, one sentence."""
    twice = GOOD + "[[rooms]]" + GOOD.partition("[[rooms]]")[2].partition("[default]")[0]
    assert only(faults(folder, twice)) == 'rooms: 2 have id = "cashout"; allowed: each id once'


def test_an_empty_file_is_told_what_is_missing_and_nothing_twice(folder: Path) -> None:
    """Promise 14."""
    found = faults(folder, "# nothing yet\n")
    assert [fault.partition(":")[0] for fault in found] == [
        "redis.url",
        "tokens.signing_key_file",
        "upstreams",
        "rooms",
    ]


def test_a_missing_secret_comes_with_what_makes_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 14: the cure works as it is printed, typed where the command was typed."""
    text = GOOD.replace('signing_key_file = "key.pem"', 'signing_key_file = "new keys/a.pem"')
    text = text.replace("[upstreams.bank]", '[upstreams.bank]\nsigning_key_file = "new keys/bank.hmac"')
    text += '[[operators]]\nname = "sre"\nrole = "viewer"\ntoken_file = "sre.token"\n'
    monkeypatch.chdir(folder.parent)
    file = Path(folder.name) / "waitroom.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        config.load(file, {})
    cures = [fault.partition("make one: ")[2] for fault in refused.value.faults]
    assert cures[0] == f"waitroom keys new '{folder.name}/new keys/a.pem'"
    assert "mkdir -p" in cures[1]
    for cure in cures[1:]:
        subprocess.run(["sh", "-c", cure], check=True)
    new_key_file(folder / "new keys/a.pem")
    found = config.load(file, {}, read_key=load_key_file)
    assert (len(found.upstreams["bank"].signing_key), len(found.operators[0].token)) == (32, 64)


def test_weak_and_missing_signing_keys_are_refused_without_showing_them(folder: Path) -> None:
    """Issue 2: missing or weak keys."""
    text = GOOD.replace("[upstreams.bank]", '[upstreams.bank]\nsigning_key_file = "keys/bank.hmac"')
    (folder / "keys/bank.hmac").write_text("correct horse battery")
    found = only(faults(folder, text))
    assert "holds 21 bytes: 32 at least" in found
    assert "horse" not in found
    (folder / "keys/bank.hmac").unlink()
    assert "cannot be read: No such file" in only(faults(folder, text))
