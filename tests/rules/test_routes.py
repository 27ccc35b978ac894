"""Whose request is it: tables of hosts, rules and plainly spelled targets."""

from __future__ import annotations

import pytest

from gateway.model import Match
from gateway.rules.routes import Bypassed, Ours, Protected, Route, origin_form
from tests.conftest import make_room
from tests.rules.routed import (
    BRANCHES,
    BRANCHES_V6,
    CASHOUT,
    DEPOSIT,
    IN_CASHOUT,
    IN_DEPOSIT,
    PAST,
    RATES,
    STATIC,
    build,
    match,
    status_of,
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", PAST),
        ("/balance", PAST),
        ("/balance?next=/points/cashout/", PAST),
        ("/points/cashout", IN_CASHOUT),
        ("/points/cashout/", IN_CASHOUT),
        ("/points/cashout?x=1", IN_CASHOUT),
        ("/points/cashout/form/a.b", IN_CASHOUT),
        ("/points/cashouts", PAST),
        ("/points/cash", PAST),
        ("/deposit", IN_DEPOSIT),
        ("/deposit/", IN_DEPOSIT),
        ("/deposit/terms", PAST),
        ("/%ED%8F%AC%EC%9D%B8%ED%8A%B8/a", IN_CASHOUT),
        ("/%ed%8f%ac%ec%9d%b8%ed%8a%b8/", IN_CASHOUT),
        ("/%E1%84%91%E1%85%A9%E1%84%8B%E1%85%B5%E1%86%AB%E1%84%90%E1%85%B3/", IN_CASHOUT),  # decomposed, as by macOS
        ("/%C6%F7%C0%CE%C6%AE/", PAST),  # EUC-KR: other bytes, a name of its own
        ("/search?q=100%&t=%00", PAST),  # queries are not judged
    ],
)
def test_a_plain_request_is_its_rooms_or_nobodys(target: str, expected: Route) -> None:
    """Promise 9: nothing reaches a protected upstream without a valid admission."""
    assert match(target) == expected


@pytest.mark.parametrize(
    "host", ["bank.example", "BANK.Example", "bank.example:8080", "bank.example.", "bank.example.:443", "bank.example:"]
)
def test_hosts_are_compared_in_lower_case_without_port_and_final_dot(host: str) -> None:
    """Section 8. A room of one host guards it in each of its spellings."""
    assert match("/points/cashout", host) == IN_CASHOUT
    assert match("/points/cashout", "www.bank.example") == PAST
    assert match("/deposit", host) == IN_DEPOSIT


@pytest.mark.parametrize("host", ["[2001:db8::1]", "[2001:DB8:0::1]:8080", "[2001:db8:0:0:0:0:0:1]"])
def test_ipv6_hosts_are_compared_by_address(host: str) -> None:
    """Section 8: IPv6 literals, too."""
    assert match("/deposit", host) == IN_DEPOSIT


def test_without_a_list_every_host_is_ours_and_without_a_default_the_rest_is_404() -> None:
    """Section 8."""
    routes = build(DEPOSIT, hosts=(), default=None)
    assert routes.match("anything.example", "/deposit") == IN_DEPOSIT
    assert status_of(routes.match("anything.example", "/balance")) == 404
    assert status_of(routes.match("anything.example", "/%62alance")) == 404


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        ("/_waitroom/health", "health"),
        ("/_waitroom/cashout/status?x=1", "cashout/status"),
        ("/_waitroom/", ""),
        ("/_waitroom", ""),
        ("/_waitroom/auth/x/..%2f%252e/points//cashout;a", "auth/x/..%2f%252e/points//cashout;a"),
        ("http://bank.example/_waitroom/jwks.json", "jwks.json"),
    ],
)
@pytest.mark.parametrize("host", ["bank.example", "10.1.2.3", None])
def test_our_own_paths_are_ours_on_every_host(target: str, rest: str, host: str | None) -> None:
    """Section 8. Probes ask by address, edges by any name."""
    if not (target.startswith("http") and host == "10.1.2.3"):
        assert match(target, host) == Ours(rest)


@pytest.mark.parametrize(
    ("target", "method", "client", "expected"),
    [
        ("/points/cashout/static/app.js", "GET", None, Bypassed(CASHOUT, STATIC)),
        ("/points/cashout/static/app.js?v=2", "HEAD", None, Bypassed(CASHOUT, STATIC)),
        ("/points/cashout/static/app.js", "POST", None, IN_CASHOUT),
        ("/points/cashout/static", "GET", None, IN_CASHOUT),
        ("/points/cashout/STATIC/app.js", "GET", None, IN_CASHOUT),
        ("/points/cashout/static/%61pp.js", "GET", None, IN_CASHOUT),
        ("/points/cashout/static/../form", "GET", None, IN_CASHOUT),
        ("/points/cashout/static/..%2fform", "GET", None, IN_CASHOUT),
        ("/points/cashout/static/..;/form", "GET", None, IN_CASHOUT),
        ("/points/cashout/static/..\\form", "GET", None, IN_CASHOUT),
        ("/points/cashout/static//app.js", "GET", None, IN_CASHOUT),
        ("/points/cashout/rates", "GET", None, Bypassed(CASHOUT, RATES)),
        ("/points/cashout/rates/", "GET", None, IN_CASHOUT),
        ("/points/cashout/rates.json", "GET", None, IN_CASHOUT),
        ("/points/cashout/form", "GET", "192.0.2.9", Bypassed(CASHOUT, BRANCHES)),
        ("/points/cashout/form", "GET", "::ffff:192.0.2.9", Bypassed(CASHOUT, BRANCHES)),
        ("/points/cashout/form", "GET", "2001:db8::7", Bypassed(CASHOUT, BRANCHES_V6)),
        ("/points/cashout/form", "POST", "192.0.2.9", IN_CASHOUT),
        ("/points/cashout/f%6frm", "GET", "192.0.2.9", IN_CASHOUT),
        ("/points/cashout/form", "GET", "192.0.3.9", IN_CASHOUT),
        ("/points/cashout/form", "GET", None, IN_CASHOUT),
        ("/points/cashout/form", "GET", "unknown", IN_CASHOUT),
        ("/balance", "GET", "192.0.2.9", PAST),
    ],
)
def test_bypass_rules_open_to_the_letter_only(target: str, method: str, client: str | None, expected: Route) -> None:
    """Section 8: GET and HEAD, exact path or folder, plain spelling, known client address."""
    assert match(target, method=method, client=client) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a%2Fb//c?x=%zz", "/a%2Fb//c?x=%zz"),
        ("http://bank.example/a%2Fb?", "/a%2Fb?"),
        ("HTTPS://bank.example", "/"),
        ("http://bank.example:80?x=1", "/?x=1"),
    ],
)
def test_the_upstream_gets_the_path_and_query_byte_for_byte(target: str, expected: str) -> None:
    """Promise 10: the target reaches the upstream unchanged; the absolute form becomes the origin form (RFC 9112)."""
    assert origin_form(target) == expected


def test_a_host_rule_and_a_rule_for_all_hosts_stand_side_by_side() -> None:
    """A room of all hosts is looked at, too, where a host has rooms of its own."""
    assert match("/deposit", "www.bank.example") == IN_DEPOSIT
    assert match("/deposit", "bank.example") == IN_DEPOSIT
    everything = make_room("all", match=(Match("/*"),))
    assert build(everything).match("bank.example", "/any/thing") == Protected(everything)
    assert build(everything).match("bank.example", "/") == Protected(everything)
