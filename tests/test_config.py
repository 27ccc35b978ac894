"""Holds the configuration: what a file means, every fault of one at once, the environment, and the manual."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from gateway import config, notation, schema
from gateway.draft import TABLE_KEYS
from gateway.environment import variables
from gateway.model import Bypass, Match, Rate, Role
from gateway.overview import overview
from gateway.reference import reference
from tests.authority import Authority
from tests.documents import GOOD, SECRET, faults, furnish, load, only, with_room

EXAMPLE: Final = Path(__file__).parent.parent / "deploy" / "waitroom.example.toml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path)


# --- the manual ------------------------------------------------------------------------------------------------------


def test_the_manual_is_a_configuration_that_starts(folder: Path) -> None:
    """Issue 2, item 2: `deploy/waitroom.example.toml` is the manual."""
    found = load(folder, EXAMPLE.read_text())
    room = found.rooms[0]
    assert room.match == (Match("/points/cashout/*", "bank.example"),)
    assert room.bypass == (
        Bypass("/points/cashout/static/*", path="/points/cashout/static/*"),
        Bypass("branches", source="192.0.2.0/24"),
    )
    assert (room.settings.drain_rate, room.settings.burst, room.max_in_flight) == (Rate(50, "s"), 50, 120)
    assert (room.session_s, room.session_max_s, room.claim_window_s, room.absence_max_s) == (600, 3600, 120, 600)
    assert found.operators[0].role is Role.OPERATOR
    assert found.default_upstream == "bank"
    assert "with these figures the cap allows 3.33 entries/s when nobody releases, not 50" in "\n".join(
        config.notes(found)
    )


@pytest.mark.parametrize(("title", "table"), TABLE_KEYS.items())
def test_the_manual_documents_every_key(title: str, table: type[schema.Table]) -> None:
    """Style, Redis: the configuration file is the manual. A key counts where it stands, commented out or not."""
    heading = re.escape(title.replace("NAME", "bank"))
    section = re.search(rf"(?ms)^{heading}\n(.*?)(?=^\[|\Z)", EXAMPLE.read_text())
    assert section is not None
    missing = [key for key in table.model_fields if not re.search(rf"(?m)^(?:# )?{key} = ", section[1])]
    assert missing == []


def test_the_manual_shows_the_defaults(folder: Path) -> None:
    """A value that the manual marks as the default is the default."""
    text = EXAMPLE.read_text()
    for title, table in TABLE_KEYS.items():
        section = re.search(rf"(?ms)^{re.escape(title.replace('NAME', 'bank'))}\n(.*?)(?=^\[|\Z)", text)
        assert section is not None
        for key, written in re.findall(r"(?m)^(\w+) = (\S+) +# default(?![ :]*\")", section[1]):
            value = tomllib.loads(f"x = {written}")["x"]
            shown = table.model_validate(table.SPECIMEN | {key: value})
            assert getattr(shown, key) == table.model_fields[key].default


def test_every_commented_line_of_the_manual_is_good_too(folder: Path) -> None:
    """What is shown as possible is possible."""
    text = re.sub(r"(?m)^# (\w+ = )", r"\1", EXAMPLE.read_text())
    (folder / "keys/customer.hmac").write_bytes(bytes(range(200, 240)))
    (folder / "keys/customer.hmac").chmod(0o600)
    (folder / "keys/bank-ca.pem").write_text(Authority("the bank's own").pem)
    room = load(folder, text).rooms[0]
    assert room.customer_secret == bytes(range(200, 240))
    assert room.opens_at_s == 1_796_090_400
    assert room.settings.stock == 10_000
    assert room.settings.message == {"ko": "11시에 시작합니다.", "en": "We start at 11."}
    assert room.board_poll_s == 5


# --- what a file means -----------------------------------------------------------------------------------------------


def test_defaults_follow_from_what_is_given(folder: Path) -> None:
    """Section 4: burst is one second of the rate; section 13: the room leaves other routes a share."""
    found = load(folder, GOOD)
    room = found.rooms[0]
    assert (room.settings.burst, room.max_in_flight, room.entry) == (50, 120, "/points/cashout/")
    assert load(folder, with_room('drain_rate = "10/h"')).rooms[0].settings.burst == 2
    assert load(folder, with_room('drain_rate = "90/min"')).rooms[0].settings.burst == 2
    assert load(folder, with_room('match = [{ path = "/포인트/*" }]')).rooms[0].entry == "/%ED%8F%AC%EC%9D%B8%ED%8A%B8/"
    assert found.server.public == ("0.0.0.0", 8080)
    assert found.server.operator == ("127.0.0.1", 9090)


def test_files_are_found_from_the_file_that_names_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway may be started from anywhere."""
    monkeypatch.chdir(folder)
    (folder / "waitroom.toml").write_text(GOOD)
    monkeypatch.chdir("/")
    found = config.load(folder / "waitroom.toml", {})
    assert found.tokens.signing_key_file == str(folder / "key.pem")
    assert found.server.state_dir == str(folder / "state")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("ab" * 32, b"\xab" * 32),
        ("AB" * 40 + "\n", b"\xab" * 40),
        ("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s", b"\xab" * 32),
        ("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n", b"\xab" * 32),
        ("a password of thirty-two characters, or more", b"a password of thirty-two characters, or more"),
    ],
)
def test_signing_keys_are_read_as_hex_base64url_or_raw(folder: Path, written: str, key: bytes) -> None:
    """Section 8: a key per upstream for Waitroom-Signature."""
    (folder / "keys/bank.hmac").write_text(written)
    text = GOOD.replace("[upstreams.bank]", '[upstreams.bank]\nsigning_key_file = "keys/bank.hmac"')
    found = load(folder, text).upstreams["bank"]
    assert found.signing_key == key
    assert repr(key) not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://localhost",
        "redis://user:p%40ss@redis.internal:6380/3?socket_timeout=1",
        "redis://[::1]:6379/0",
        "rediss://redis.internal/0",
        "rediss://redis.internal/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
        "unix:///run/redis.sock",
        "unix://user:pw@/run/redis.sock?db=2",
        "redis+sentinel://s1,s2:26380,s3/mymaster/0",
        "redis+sentinel://:pw@s1/mymaster",
        "redis+cluster://n1:7000,n2:7001",
        "redis+cluster://n1/0",
    ],
)
def test_each_form_of_a_redis_url_is_taken(folder: Path, url: str) -> None:
    """Section 5 and issue 2, item 3."""
    assert load(folder, GOOD.replace("redis://127.0.0.1/0", url)).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://a b/0",
        "redis://h:port/0",
        "redis://h/zero",
        "redis://h1,h2/0",
        "unix://run",
        "redis+sentinel://s1",
        "redis+sentinel://s1//0",
        "redis+cluster://n1/2",
        f"redis://:{SECRET}@h:x/0",
        "redis://h/0?bogus=1",
        "redis://h/0?socket_timeout=soon",
        "redis://h/0?socket_timeout=1&socket_timeout=2",
        "redis://h/0?ssl_ca_certs=ca.pem",
        f"redis://h/0?password={SECRET}",
        "redis+sentinel://s1/mymaster?socket_timeout=1",
        "redis://h/0#x",
    ],
)
def test_other_redis_urls_are_refused_without_showing_them(folder: Path, url: str) -> None:
    """Promise 14; a password is never shown."""
    found = only(faults(folder, GOOD.replace("redis://127.0.0.1/0", url)))
    assert found.startswith("redis.url = (not shown")
    assert "redis+sentinel://host1" in found
    assert SECRET not in found


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("embedded", "embedded: a Valkey of its own, its data in state_dir"),
        (f"redis://user:{SECRET}@redis.internal", "redis.internal:6379/0"),
        (f"redis://:{SECRET}@[::1]:6380/3?socket_timeout=1", "[::1]:6380/3"),
        ("redis://[::1]", "[::1]:6379/0"),
        (f"rediss://:p@ss{SECRET}@redis.internal/0", "redis.internal:6379/0 with TLS"),
        (f"unix://user:{SECRET}@/run/redis.sock?db=2", "socket /run/redis.sock, db 2"),
        (f"redis+sentinel://:{SECRET}@s1,s2:26380/mymaster/1", "mymaster/1, by sentinels s1:26379, s2:26380"),
        (f"redis+cluster://:{SECRET}@n1:7000,n2", "cluster, by n1:7000, n2:6379"),
    ],
)
def test_check_shows_where_redis_is_and_never_the_password(folder: Path, url: str, place: str) -> None:
    """`waitroom check` tells one Redis from another; what opens it is not shown."""
    shown = overview(load(folder, GOOD.replace("redis://127.0.0.1/0", url)))
    assert f"redis            {place}\n" in shown
    assert SECRET not in shown


def test_the_digest_is_the_same_on_every_gateway_and_holds_no_password(folder: Path) -> None:
    """Section 11, `config_info`: gateways of one site differ in addresses and files, not in rooms."""
    found = load(folder, GOOD)
    here = GOOD.replace("[server]", '[server]\npublic = "127.0.0.1:1"\nstate_dir = "elsewhere"')
    assert load(folder, here, {"WAITROOM_REDIS_URL": f"redis://:{SECRET}@h/0"}).digest == found.digest
    assert load(folder, with_room("active_max = 2001")).digest != found.digest
    assert SECRET not in repr(load(folder, here, {"WAITROOM_REDIS_URL": f"redis://:{SECRET}@h/0"}))


# --- the environment -------------------------------------------------------------------------------------------------


def test_the_environment_stands_in_for_keys(folder: Path) -> None:
    """Issue 2, item 2: TOML plus environment."""
    found = load(
        folder,
        GOOD.replace("[upstreams.bank]", "[upstreams.old-bank]").replace('upstream = "bank"', 'upstream = "old-bank"'),
        {
            "WAITROOM_SERVER_PUBLIC": "[::]:80",
            "WAITROOM_SERVER_HOSTS": "bank.example, www.bank.example",
            "WAITROOM_SERVER_CONNECTIONS_MAX": "100",
            "WAITROOM_SERVER_HEADER_BYTES_MAX": "16KiB",
            "WAITROOM_SERVER_ACCESS_LOG": "0.01",
            "WAITROOM_SERVER_REQUEST_ID": "make",
            "WAITROOM_SERVER_TRACES": "0.02",
            "WAITROOM_REDIS_URL": "unix:///run/redis.sock",
            "WAITROOM_TOKENS_SIGNING_KEY_FILE": "keys/2026-11.pem",
            "WAITROOM_UPSTREAMS_OLD_BANK_URLS": "http://10.0.0.1:9000,http://10.0.0.2:9000",
            "WAITROOM_UPSTREAMS_OLD_BANK_MAX_IN_FLIGHT": "50",
            "WAITROOM_REDIS_PORT_6379_TCP": "tcp://10.0.0.3:6379",  # an orchestrator's, of a service "waitroom-redis"
            "WAITROOM_SERVER_SERVICE_HOST": "10.0.0.4",
            "WAITROOM_PORT": "tcp://10.0.0.5:80",
            "WAITROOM_VERSION": "1.2",  # of somebody's own making
            "PATH": "/bin",
        },
    )
    assert found.server.public == ("::", 80)
    assert found.server.hosts == ("bank.example", "www.bank.example")
    assert (found.server.connections_max, found.server.header_bytes_max) == (100, 16_384)
    assert (found.server.access_log, found.server.makes_request_ids, found.server.traces) == (0.01, True, 0.02)
    assert found.redis_url == "unix:///run/redis.sock"
    assert found.tokens.signing_key_file == str(folder / "keys/2026-11.pem")
    assert found.upstreams["old-bank"].urls == ("http://10.0.0.1:9000", "http://10.0.0.2:9000")
    assert found.upstreams["old-bank"].max_in_flight == 50


def test_secrets_come_from_files(folder: Path) -> None:
    """Issue 2, item 2: `*_FILE` for secrets."""
    secret = folder / "redis_url"
    secret.write_text(f"redis://:{SECRET}@redis.internal/0\n")
    secret.chmod(0o600)
    text = GOOD.replace('[redis]\nurl = "redis://127.0.0.1/0"\n', "")
    found = load(folder, text, {"WAITROOM_REDIS_URL_FILE": str(secret)})
    assert found.redis_url == f"redis://:{SECRET}@redis.internal/0"
    both = {"WAITROOM_REDIS_URL_FILE": str(secret), "WAITROOM_REDIS_URL": "embedded"}
    assert (
        only(faults(folder, GOOD, both))
        == "WAITROOM_REDIS_URL_FILE: WAITROOM_REDIS_URL is set too; allowed: one of the two"
    )
    assert "cannot be read" in only(faults(folder, GOOD, {"WAITROOM_REDIS_URL_FILE": str(folder / "none")}))


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("WAITROOM_SERVER_PUBLC", "x", "WAITROOM_SERVER_PUBLC: unknown variable; did you mean WAITROOM_SERVER_PUBLIC?"),
        ("WAITROOM_UPSTREAMS_BONK_URLS", "x", "did you mean WAITROOM_UPSTREAMS_BANK_URLS?"),
        ("WAITROOM_SEVER_PUBLIC", "x", "WAITROOM_SEVER_PUBLIC: unknown variable; did you mean WAITROOM_SERVER_PUBLIC?"),
        ("WAITROOM_ROOMS_CASHOUT_DRAIN_RATE", "5/s", "rooms and operators are in the file only"),
        ("WAITROOM_REDIS_URL_FILE", "", 'WAITROOM_REDIS_URL_FILE: ""; allowed: the name of a file'),
        ("WAITROOM_REDIS_URL_FILE", "/", "WAITROOM_REDIS_URL_FILE: / is a folder"),
        ("WAITROOM_SERVER_PUBLIC_FILE", "x", "WAITROOM_SERVER_PUBLIC_FILE: unknown variable"),
        ("WAITROOM_SERVER_WORKERS", "two", 'WAITROOM_SERVER_WORKERS: "two"; allowed: a whole number of processes'),
        ("WAITROOM_SERVER_PUBLIC", "8080", 'server.public (from WAITROOM_SERVER_PUBLIC) = "8080": allowed'),
        ("WAITROOM_SERVER_ACCESS_LOG", "1%", '1%"; allowed: a share of the requests from 0'),
        ("WAITROOM_SERVER_HOSTS", "a,b/c", 'server.hosts[1] (from WAITROOM_SERVER_HOSTS) = "b/c": allowed'),
    ],
)
def test_faults_of_the_environment_name_the_variable(folder: Path, variable: str, value: str, part: str) -> None:
    """Promise 14."""
    assert part in only(faults(folder, GOOD, {variable: value}))


def test_the_guide_has_every_setting_as_it_is() -> None:
    """docs/configuration.md: key, unit, default and bounds; after a change: waitroom check --settings."""
    guide = (EXAMPLE.parent.parent / "docs" / "configuration.md").read_text()
    assert reference() in guide
    tables: list[type[schema.Table]] = [*TABLE_KEYS.values(), schema.MatchTable, schema.BypassTable]
    for table in tables:
        assert [key for key in table.model_fields if f"| `{key}` | " not in guide] == []
    assert '| `session` | `"10m"` |' in reference()
    assert '| `header_bytes_max` | `"32KiB"` |' in reference()


def test_the_guide_names_the_scheme() -> None:
    """docs/configuration.md says how variables are made, by examples that exist."""
    guide = (EXAMPLE.parent.parent / "docs" / "configuration.md").read_text()
    known = variables(["bank", "old-bank"])
    named = set(re.findall(r"WAITROOM_[A-Z0-9_]+[A-Z0-9]", guide))
    assert named
    assert {name for name in named if name.removesuffix("_FILE") not in known and name not in known} == set()


# --- notes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("active_max = 2000", "active_max = 2000"), "the cap allows 3.33 entries/s when nobody releases, not 50"),
        (("active_max = 2000", "active_max = 2000"), "For 50/s without releases: active_max >= 30000"),
        (("active_max = 2000", "active_max = 10"), "burst 50 is more than active_max 10"),
        (("active_max = 2000", "active_max = 2000"), "a full line of 5,000,000 takes 27.8 h at 50/s"),
        (("active_max = 2000", "active_max = 9\nmax_in_flight = 200"), "shares add up to 200 of max_in_flight 200"),
        (("active_max = 2000", "active_max = 9\npaused = true"), "is paused by the file"),
        (("active_max = 2000", 'active_max = 9\nentry = "/"'), "its entry / is not among its own routes"),
        (('[default]\nupstream = "bank"', ""), "what matches no room gets 404"),
        (('hosts = ["bank.example"]', ""), "requests for any host are answered"),
        (('url = "redis://127.0.0.1/0"', 'url = "embedded"'), "embedded: one gateway on this machine"),
        (("[upstreams.bank]", '[upstreams.spare]\nurls = ["http://h"]\n[upstreams.bank]'), "nothing is sent there"),
    ],
)
def test_check_says_what_follows_from_the_figures(folder: Path, change: tuple[str, str], part: str) -> None:
    """Section 13: `waitroom check` also says what follows."""
    assert part in "\n".join(config.notes(load(folder, GOOD.replace(*change))))


def test_a_host_that_gets_round_a_room_is_noted(folder: Path) -> None:
    """Promise 9: a room of one host before an upstream that other hosts reach by [default]."""
    text = with_room('match = [{ path = "/points/cashout/*", host = "bank.example" }]')
    text = text.replace('hosts = ["bank.example"]', 'hosts = ["bank.example", "m.bank.example"]')
    assert "is protected at bank.example only, while m.bank.example reaches the same upstream" in "\n".join(
        config.notes(load(folder, text))
    )


# --- notation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "default"),
    [("1/h", 2, 2), ("8/s", 2, 8), ("50/s", 13, 50), ("3000/min", 13, 50), ("1000/s", 250, 1000)],
)
def test_bursts_are_measured_by_the_rate(text: str, low: int, default: int) -> None:
    """Section 4: burst >= max(2, 0.25 s of the rate), default 1 s."""
    rate = notation.parse_rate(text)
    assert str(rate) == text
    assert (notation.burst_min(rate), notation.burst_default(rate)) == (low, default)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("500ms", 0.5), ("90s", 90), ("10m", 600), ("1h", 3600), ("1.5s", 1.5)]
)
def test_durations_are_read_and_written(text: str, seconds: float) -> None:
    assert notation.parse_duration(text) == seconds
    assert notation.duration_text(seconds) == text


@pytest.mark.parametrize("text", ["", "10", "-1s", "1d", "1 s", "1e3s", "١s", "1s\n", "10m30s", "9" * 20 + "s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a number and ms, s, m or h"):
        notation.parse_duration(text)


def test_every_field_says_what_is_allowed() -> None:
    """Promise 14: a fault without what is allowed cannot happen."""
    from gateway.environment import allowed

    tables: list[type[Any]] = [*TABLE_KEYS.values(), schema.MatchTable, schema.BypassTable]
    for table in tables:
        assert table.model_validate(table.SPECIMEN)  # it stands in for faulty keys, so it has to be good itself
        for field in table.model_fields.values():
            assert allowed(field)
