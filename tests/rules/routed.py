"""What the tests of `rules/routes.py` match against: two rooms, three hosts, and all that is not protected."""

from __future__ import annotations

from typing import Final

from gateway.model import Bypass, Config, Match, Room, Server, Tokens, Upstream
from gateway.rules.routes import Protected, Refused, Route, Routes, Unprotected
from tests.conftest import make_room

STATIC: Final = Bypass("static", path="/points/cashout/static/*")
RATES: Final = Bypass("rates", path="/points/cashout/rates")
BRANCHES: Final = Bypass("branches", source="192.0.2.0/24")
BRANCHES_V6: Final = Bypass("branches6", source="2001:db8::/32")
CASHOUT: Final = make_room(
    "cashout",
    match=(Match("/points/cashout/*", "bank.example"), Match("/포인트/*", "bank.example")),
    bypass=(STATIC, RATES, BRANCHES, BRANCHES_V6),
)
DEPOSIT: Final = make_room("deposit", match=(Match("/deposit"),))
HOSTS: Final = ("bank.example", "www.bank.example", "2001:db8::1")


def build(*rooms: Room, hosts: tuple[str, ...] = HOSTS, default: str | None = "bank") -> Routes:
    return Routes.build(
        Config(
            server=Server(("127.0.0.1", 0), ("127.0.0.1", 0), hosts),
            redis_url="embedded",
            tokens=Tokens("-"),
            rooms=rooms,
            upstreams={"bank": Upstream("bank", ("http://127.0.0.1:9000",))},
            default_upstream=default,
        )
    )


ROUTES: Final = build(CASHOUT, DEPOSIT)
IN_CASHOUT: Final = Protected(CASHOUT)
IN_DEPOSIT: Final = Protected(DEPOSIT)
PAST: Final = Unprotected("bank")


def match(target: str, host: str | None = "bank.example", method: str = "GET", client: str | None = None) -> Route:
    return ROUTES.match(host, target, method, client)


def status_of(route: Route) -> int:
    return route.status if isinstance(route, Refused) else 0
