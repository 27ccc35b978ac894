"""Requests made of drawn bytes: structure first (a spelling, a credential, a body), then what is wrong with it.

Hypothesis draws one string of bytes a request, and each byte makes one choice: a draw a choice costs ten times as much, and a
hundred thousand requests shall fit into minutes. Zero is the plainest choice, so what it shrinks to is plain. Tokens are drawn by
name and made bytes of by the run, whose keys are new each time; so a seed replays the same requests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tests.fuzz.bank import PARTS

# The rooms of the run: one that opens tomorrow, one of a single host, one whose door lets all in, and one that nobody joins, so
# that it is idle and newcomers enter at once.
JOINED: Final = ("cashout", "deposit", "open")
ROOMS: Final = (*JOINED, "lounge")
FOLDERS: Final = {"cashout": "/points/cashout", "deposit": "/deposit", "open": "/open", "lounge": "/lounge"}
EVIL: Final = "evil.example"


T = TypeVar("T")
CHOICES: Final = 64  # bytes a request; who needs more gets the plainest


class Dice:
    """Choices out of bytes."""

    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def below(self, count: int) -> int:
        number = next(self._left, 0)
        return (number << 8 | next(self._left, 0)) % count if count > 64 else number % count

    def of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def one_in(self, count: int) -> bool:
        return self.below(count) == count - 1


@dataclass(frozen=True, slots=True)
class Bearing:
    """A token that is named, in a field: `kind` of the room's tokens, perhaps with a byte changed."""

    kind: str
    room: str
    place: int = 0
    byte: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    method: str
    target: str
    version: str
    fields: tuple[tuple[str, str], ...]
    bearings: tuple[tuple[str, Bearing], ...]  # cookie or header name -> what it bears
    body: bytes
    framing: str  # none, counted, chunked, cut
    part: str
    host: str


# --- targets ---------------------------------------------------------------------------------------------------------

_PLAIN: Final = (
    "/points/cashout", "/points/cashout/", "/points/cashout/form", "/points/cashout/static/app.js", "/points/cashout/rates",
    "/points/cashout/static/../form", "/deposit", "/deposit/rates", "/open", "/open/a", "/lounge", "/lounge/form",
    "/lounge/a", "/", "/free", "/free/a.css", "/points",
    "/points/other", "/static/points/cashout", "/pointscashout", "/deposits", "/_waitroom", "/openly",
)  # fmt: skip
_WAYS: Final = (
    "//",
    "///",
    "/./",
    "\\",
    "/x/../",
    "/.//",
    "/;/",
    "/%2e/",
    "%2f",
    "%5c",
    "/..;/",
    "%252f",
    "/%c0%ae/",
    "／",
)
_BEFORE: Final = (
    "/static/..", "/free/x/../..", "/.", "/x\\..", "//bank.example", "/%2fbank.example", "http://bank.example",
    "HTTP://Bank.Example:8080",
    "http://evil.example", "//evil.example", "/%2e%2e", "/x/..%2f..", "http://bank.example@evil.example",
    "http://user@bank.example",
    "/x;/..", "/%00", "/%ff", "/_waitroom/..", "/_waitroom/auth/..", "\\", "*", "",
)  # fmt: skip
_BEHIND: Final = (
    "?", "?a=1", "?return_to=/points/cashout", "#x", "%3f", "%23", ";v=1", ";jsessionid=A.1", "/", "//", "/.", "/..",
    "%00", "%0d%0aX:1",
    "%2500", " ", "\x00", "\t", "\x7f", "é", "%", "%4", "%u002f", "?" + "a" * 300, "?a\\..\\b", "/.hidden", "~", "%20",
)  # fmt: skip
_SOUP: Final = "/.\\;%25cCfFeE0x_?#aw"


def _respelled(dice: Dice, path: str) -> str:
    """One disguise."""
    place = dice.below(len(path) or 1)
    match dice.below(9):
        case 0 | 1:  # an octet encoded, once or twice, in either case
            code = dice.of(("%{:02x}", "%{:02X}", "%25{:02x}", "%25{:02X}", "%2525{:02x}"))
            return path[:place] + code.format(ord(path[place]) & 0xFF) + path[place + 1 :] if path else path
        case 2:
            return path[:place] + path[place : place + 1].swapcase() + path[place + 1 :]
        case 3 | 4:
            at = path.find("/", place)
            return path if at < 0 else path[:at] + dice.of(_WAYS) + path[at + 1 :]
        case 5 | 6:
            return dice.of(_BEFORE) + path
        case 7:
            return path + dice.of(_BEHIND)
        case _:
            return path[:place] + "".join(dice.of(_SOUP) for _ in range(dice.below(12))) + path[place:]


_DISGUISES: Final = (0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 4)


def _path(dice: Dice) -> str:
    path = dice.of(_PLAIN)
    for _ in range(dice.of(_DISGUISES)):
        path = _respelled(dice, path)
    return path


_BACKS: Final = (
    "/points/cashout/form", "//evil.example", "/\\evil.example", "https://evil.example", "/%0d%0aSet-Cookie:x=1", "/%00",
    "javascript:alert(1)",
    "%2f%2fevil.example", "/%5cevil.example", "", "/" + "a" * 1100, "/a?b=c%26d", "/%09/evil.example",
    "%20//evil.example", "///evil.example",
    "/\ud55c", '/"><script>', "/%ed%a0%80",
)  # fmt: skip
_CALLS: Final = (
    ("POST", "/ticket"), ("POST", "/ticket"), ("GET", "/status"), ("GET", "/status"), ("POST", "/admission"), ("DELETE",
    "/ticket"),
    ("POST", "/leave"), ("GET", "/board"), ("GET", "/"), ("GET", "/renew"), ("GET", ""), ("PUT", "/ticket"), ("OPTIONS",
    "/ticket"),
    ("HEAD", "/status"), ("GET", "/nothing"), ("POST", "/board"), ("GET", "/ticket"), ("POST", "/status"), ("TRACE", "/status"),
)  # fmt: skip
_SITES: Final = (
    "/_waitroom/health", "/_waitroom/jwks.json", "/_waitroom/openapi.json", "/_waitroom/auth",
    "/_waitroom/auth/points/cashout/form",
    "/_waitroom/auth/free", "/_waitroom/", "/_waitroom/nobody/status", "/_waitroom/auth?room=cashout",
    "/_waitroom/auth?room=open&mode=page",
    "/_waitroom/auth?room=deposit&mode=redirect", "/_waitroom/auth/%2e%2e/points/cashout",
    "/_waitroom/auth//x?mode=page", "/_waitroom/CASHOUT/",
)  # fmt: skip


def _ours(dice: Dice) -> tuple[str, str]:
    if dice.one_in(4):
        return dice.of(("GET", "POST", "HEAD", "DELETE")), dice.of(_SITES)
    method, call = dice.of(_CALLS)
    target = f"/_waitroom/{dice.of(JOINED)}{call}"
    if dice.one_in(3):
        target += f"?return_to={dice.of(_BACKS)}"
    if dice.one_in(10):
        target = _respelled(dice, target)
    return method, target


# --- fields ----------------------------------------------------------------------------------------------------------

_HOSTS: Final = ("bank.example",) * 70 + (
    "shop.example", "BANK.example", "bank.example.", "bank.example:8443", EVIL, "bank.example.evil.example", "",
    "bank.example, evil.example",
    "[::1]", "127.0.0.1", "bank.example@evil.example", "bank.example\x00", "bank.example/..", "xn--bnk-sla.example",
    " bank.example", "bank.example:99999",
)  # fmt: skip
_FIELDS: Final = tuple(
    (name, value)
    for name, values in {
        "Accept": ("text/html", "text/html", "*/*", "application/json", "TEXT/HTML;q=0"),
        "Sec-Fetch-Mode": ("navigate", "navigate", "cors", "no-cors", "", "NAVIGATE"),
        "Sec-Fetch-Site": ("same-origin", "cross-site", "none", "same-site", "x" * 50),
        "Sec-Fetch-Dest": ("document", "iframe", "empty"),
        "Origin": ("https://bank.example", "https://evil.example", "null", "", "https://bank.example.evil.example"),
        "Referer": ("https://bank.example/points/cashout/form", "https://evil.example/", "https://[",
            "https://bank.example//evil.example"),
        "Waitroom-Transport": ("header", "header", "cookie"),
        "X-Requested-With": ("XMLHttpRequest",),
        "Range": ("bytes=0-3",),
        "Sec-Purpose": ("prefetch", "prefetch;prerender"),
        "Purpose": ("prefetch",),
        "X-Forwarded-For": ("192.0.2.7", "192.0.2.7, 127.0.0.1", "unknown", "127.0.0.1", "::ffff:192.0.2.7", "x" * 60),
        "X-Forwarded-Host": (EVIL, "shop.example"),
        "X-Forwarded-Proto": ("http", "javascript"),
        "X-Real-IP": ("192.0.2.7",),
        "Forwarded": ("for=192.0.2.7;host=evil.example",),
        "X-Original-URI": ("/free", "/points/cashout/static/app.js"),
        "X-Original-URL": ("/points/cashout/form",),
        "X-Rewrite-URL": ("/points/cashout/form",),
        "X-Forwarded-Uri": ("/free",),
        "X-Forwarded-Prefix": ("/points/cashout",),
        "X-HTTP-Method-Override": ("GET", "DELETE"),
        "Waitroom-Subject": ("00000000-0000-0000-0000-000000000001",),
        "WAITROOM_SUBJECT": ("00000000-0000-0000-0000-000000000001",),
        "Waitroom-Room": ("cashout",),
        "waitroom-signature": ("t=1,v1=00",),
        "Waitroom-Release": ("1",),
        "Waitroom-Remaining": ("0",),
        "Connection": ("close", "keep-alive", "Waitroom-Subject, Waitroom-Admission", "Cookie", "X-Forwarded-For, Host",
            "Upgrade", "TE"),
        "Via": ("1.1 edge", "1.1 waitroom", "1.0 waitroomer"),
        "TE": ("trailers",),
        "Trailer": ("X-Case",),
        "Upgrade": ("websocket", "h2c"),
        "If-None-Match": ('"1"', "*"),
        "Accept-Language": ("ko", "ko-KR,ko;q=0.9,en;q=0.8"),
        "Cookie": ("SID=abc; theme=dark", "waitroom-ticket-cashout=x", "SID", ";;", "=x", "a=b=c; \xe9=\xff",
            "__Host-waitroom-x=1; SID=2"),
        "Content-Type": ("application/json", "application/x-www-form-urlencoded", "text/plain",
            "application/json; charset=latin-1", "multipart/form-data"),
        "Content-Encoding": ("gzip",),
        "Authorization": ("Basic YTpi", "Bearer x"),
        "Cache-Control": ("no-cache", "only-if-cached"),
        "User-Agent": ("x" * 400, "\xec\x95\x88"),
        "X-Value": ("a\x00b", "a\nb", "\t a \t", "\x80\xff"),
        "X Space": ("1",),
    }.items()
    for value in values
)  # fmt: skip

# --- credentials -----------------------------------------------------------------------------------------------------

# Good ones first: they must pass, or nothing below would prove anything. The run has a table of these names.
GOOD: Final = ("good", "good 2", "aging", "passing")
_KINDS: Final = (
    ("good",) * 14 + ("good 2", *["aging"] * 4, "passing", "ticket", "ticket 2", "dismissed") + ("hostile",) * 6
)
_CARRIERS: Final = (
    *[("cookie", "__Host-waitroom-admission-{room}")] * 8,
    ("cookie", "__Host-waitroom-ticket-{room}"),
    ("cookie", "__Host-waitroom-ticket-{room}"),
    *[("header", "Waitroom-Admission")] * 4,
    ("header", "Waitroom-Ticket"),
    ("header", "waitroom_admission"),
    ("header", "Authorization"),
    ("cookie", "waitroom-admission-{room}"),
    ("cookie", "__host-waitroom-admission-{room}"),
    ("cookie", "__Host-waitroom-admission-{other}"),
    ("cookie", " \t__Host-waitroom-admission-{room} "),
    ("cookie", '"__Host-waitroom-admission-{room}"'),
    ("cookie", "__Secure-waitroom-admission-{room}"),
)
_EDITS: Final = 'AZaz09-_.=+/ \t"%;,\x00\xff'
_BORNE: Final = (0, 0, 1, 1, 1, 1, 1, 1, 2, 3)


def _bearing(dice: Dice, hostile: Sequence[str], room: str) -> tuple[str, Bearing]:
    way, name = dice.of(_CARRIERS)
    if dice.one_in(6):
        room = dice.of(ROOMS)
    name = name.format(room=room, other=ROOMS[(ROOMS.index(room) + 1) % len(ROOMS)])
    kind = dice.of(_KINDS)
    if kind == "hostile":
        kind = dice.of(hostile)
    elif kind == "good" and "icket" in name and dice.one_in(2):
        kind = "ticket"
    if dice.one_in(8):
        return f"{way}:{name}", Bearing(kind, room, dice.below(400), dice.of(_EDITS))
    return f"{way}:{name}", Bearing(kind, room)


# --- bodies ----------------------------------------------------------------------------------------------------------

_LEAVES: Final = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "0123456789abcdef",
    "\ud800",
    "\x00",
    "한글" * 20,
    "k" * 255,
    float("nan"),
    float("inf"),
)


def _json(dice: Dice, depth: int = 0) -> Any:
    match dice.below(4) if depth < 3 else 0:
        case 2:
            return [_json(dice, depth + 1) for _ in range(dice.below(3))]
        case 3:
            return {dice.of(("key", "Key", "", "a")): _json(dice, depth + 1) for _ in range(dice.below(3))}
        case _:
            return dice.of(_LEAVES)


_BODIES: Final = (
    b"", b"{}", b'{"key": "0123456789abcdef"}', b'{"key": "0123456789abcdef-2"}', b'{"key": "short"}',
    b'{"key": null}', b'{"key": 1e999}',
    b'{"key": "' + b"k" * 257 + b'"}', b'"0123456789abcdef"', b"[" * 4000,
    b'{"key": "\\ud800\\udfff\\ud800 and sixteen"}', b"\xff\xfe{}", b"NaN",
    b"9" * 4000, b"key=0123456789abcdef", b'{"key": "0123456789abcdef", "key": "x"}', b"{" * 9, b"\x00",
    b" " * 5000, b'{"key": {"key": []}}',
    b"GET /points/cashout/form HTTP/1.1\r\nHost: bank.example\r\n\r\n", b"0\r\n\r\nGET /points/cashout HTTP/1.1\r\n\r\n",
)  # fmt: skip


def _body(dice: Dice) -> bytes:
    if not dice.one_in(4):
        return dice.of(_BODIES)
    document: Any = _json(dice)
    text = json.dumps({"key": document} if dice.one_in(2) else document, ensure_ascii=dice.one_in(2))
    return text.encode("utf-8", "surrogatepass")


# --- the whole -------------------------------------------------------------------------------------------------------

_METHODS: Final = (
    ("GET",) * 6
    + ("POST",) * 4
    + ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "CONNECT", "G3T")
)
_VERSIONS: Final = ("HTTP/1.1",) * 60 + ("HTTP/1.0", "HTTP/2.0", "HTTP/1.2")
_NAMES: Final = tuple(PARTS)
_PLAYED: Final = _NAMES[:8] * 4 + ("counted",) * 12 + _NAMES[8:] + ("nothing",) * 4
_FRAMINGS: Final = ("none",) * 4 + ("counted",) * 12 + ("chunked",) * 6 + ("cut",)
_COUNTS: Final = (0, 1, 1, 2, 2, 3, 4, 6)


def case_of(choices: bytes, hostile: Sequence[str]) -> Case:
    """One request, and the part that the bank plays if it gets there. `hostile` are names of tokens that never count."""
    dice = Dice(choices)
    if dice.one_in(4):
        method, target = _ours(dice)
    else:
        method, target = dice.of(_METHODS), _path(dice)
    fields = tuple(dice.of(_FIELDS) for _ in range(dice.of(_COUNTS)))
    room = next(
        (room for room, folder in FOLDERS.items() if folder in target.lower() or f"/{room}" in target), "cashout"
    )
    bearings = tuple(_bearing(dice, hostile, room) for _ in range(dice.of(_BORNE)))
    if target.startswith("/_waitroom/") and not dice.one_in(3):
        bearings += ((f"cookie:__Host-waitroom-ticket-{room}", Bearing("ticket", room)),)
    framing, body = "none", b""
    if method not in {"GET", "HEAD", "CONNECT"} or dice.one_in(16):
        framing, body = dice.of(_FRAMINGS), _body(dice)
        body = b"" if framing == "none" else body
        if dice.one_in(2):
            fields = (*fields, ("Content-Type", "application/json"))
    return Case(
        method=method,
        target=target,
        version=dice.of(_VERSIONS),
        fields=fields,
        bearings=bearings,
        body=body,
        framing=framing,
        part=dice.of(_PLAYED),
        host=dice.of(_HOSTS),
    )
