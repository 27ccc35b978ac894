"""What must be true of every request and its answer, said without a look at how the gateway decides it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Final

from tests.fuzz.backends import might_serve
from tests.fuzz.bank import LEAK, PARTS, Field, Part, Recorded
from tests.fuzz.cases import EVIL, FOLDERS, Case
from tests.fuzz.tokens import Tokens
from tests.fuzz.wire import Got

HOSTS: Final = ("bank.example", "shop.example")
ONE_HOST: Final = {"deposit": "bank.example"}  # rooms of one host; the others are on all
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
COOKIE: Final = re.compile(rb"(?:__host-)?waitroom-", re.IGNORECASE)
TOKEN: Final = re.compile(rb"eyJ[\w-]+\.[\w-]+\.[\w-]+")
LINKS: Final = re.compile(r'(?:href|action|src)="([^"]*)"|content="\d+; ?url=([^"]*)"', re.IGNORECASE)
ABSOLUTE: Final = re.compile(rb"(?i)https?://([^/?#]*)(.*)", re.DOTALL)
# By the rules of the run's configuration, in plain letters; ".." and "//" are none.
BYPASSED: Final = re.compile(r"(?!.*(?://|/\.\.?(?:/|$)))/points/cashout/(?:static/[\w.~/-]*|rates)", re.ASCII)
MAY_BEAR: Final = re.compile(r"/_waitroom/[a-z]+/(?:ticket|status|admission|leave|renew)(?:\?.*)?", re.DOTALL)
GIVEN_UP: Final = frozenset((400, 408, 502, 503, 504, 508))  # answers of ours that stand in for the bank's


class Broken(AssertionError):
    """A promise that did not hold."""


@dataclass(slots=True)
class Happening:
    """One case as it went: what was sent, what reached the bank, what came back."""

    case: Case
    target: bytes
    fields: list[Field]  # of the request, as sent
    seen: list[Recorded]
    got: Got | None
    tokens: Tokens

    @property
    def part(self) -> Part:
        return PARTS[self.case.part]

    def values(self, name: bytes) -> list[bytes]:
        return [value.strip(b" \t") for key, value in self.fields if key.lower() == name]

    @property
    def host(self) -> str:
        """The host that counts, by RFC 9112, 3.2.2."""
        absolute = ABSOLUTE.fullmatch(self.target)
        host = absolute[1] if absolute else next(iter(self.values(b"host")), b"")
        return host.decode("latin-1").lower().partition(":")[0].removesuffix(".")

    @property
    def origin_form(self) -> bytes:
        absolute = ABSOLUTE.fullmatch(self.target)
        if not absolute:
            return self.target
        return absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]

    @property
    def path(self) -> str:
        return self.origin_form.partition(b"?")[0].decode("utf-8", "surrogateescape")

    def is_for(self, call: str) -> str | None:
        """The room whose call this is, in plain spelling."""
        found = re.fullmatch(rf"/_waitroom/([a-z]+)/{call}", self.path)
        return found[1] if found and found[1] in FOLDERS else None

    def borne(self, use: str, room: str) -> list[str]:
        """Every value that a cookie of exactly the right name has; or, where no cookie of the room came, a header."""
        cookies = b"; ".join(self.values(b"cookie")).split(b";")
        pairs = [
            (name.strip(b" \t"), value.strip(b" \t"))
            for name, mark, value in (c.partition(b"=") for c in cookies)
            if mark
        ]
        names = [f"__Host-waitroom-{kind}-{room}".encode() for kind in ("ticket", "admission")]
        if any(name in names for name, _ in pairs):
            found = [value for name, value in pairs if name == f"__Host-waitroom-{use}-{room}".encode()]
        else:
            found = self.values(f"waitroom-{use}".encode())
        return [value.decode("latin-1") for value in found]

    def admission(self, room: str) -> str | None:
        """The one good admission that came, by its text."""
        borne = self.borne("admission", room)
        text = self.tokens.meant(borne[0]) if len(borne) == 1 else ""
        return text if self.tokens.good.get(text, ("", ""))[0] == room else None

    @property
    def bears_ours(self) -> bool:
        return self.got is not None and any(COOKIE.match(cookie) for cookie in self.got.values(b"set-cookie"))


def judge(it: Happening, tally: Counter[str]) -> None:
    """Raises `Broken`. `tally` counts what was seen, so that a run that proves nothing shows."""
    for rule in RULES:
        rule(it, tally)


def broken(it: Happening, what: str) -> Broken:
    return Broken(f"{what}\n  {it.case}\n  reached the bank: {it.seen}\n  answer: {it.got}")


# --- promise 9: who reaches the bank ---------------------------------------------------------------------------------


def rooms_of(it: Happening) -> list[str]:
    return [
        room
        for room, folder in FOLDERS.items()
        if ONE_HOST.get(room, it.host) == it.host and might_serve(it.path, folder)
    ]


def nothing_passes_that_is_nobodys(it: Happening, tally: Counter[str]) -> None:
    if not it.seen:
        return
    if it.host not in HOSTS:
        raise broken(it, f"passed for a host that is not ours: {it.host}")
    if might_serve(it.path, "/_waitroom"):
        raise broken(it, "a path of ours reached the bank")
    if len(rooms_of(it)) > 1:
        raise broken(it, f"passed, and is of two rooms: {rooms_of(it)}")


def nobody_passes_without_an_admission(it: Happening, tally: Counter[str]) -> None:
    if not it.seen:
        return
    rooms = rooms_of(it)
    subjects = it.seen[0].values(b"waitroom-subject")
    if not rooms:
        # With a subject it was judged by a reading that no backend here has: to protect too much is no fault.
        tally["protected all the same" if subjects else "unprotected"] += 1
        return
    text = it.admission(rooms[0])
    if rooms[0] == "cashout" and it.case.method in {"GET", "HEAD"} and BYPASSED.fullmatch(it.path):
        tally["bypassed"] += 1
        if subjects:
            raise broken(it, "a bypassed request came with a subject")
    elif text is not None:
        tally["admitted"] += 1
        if subjects != [it.tokens.good[text][1].encode()]:
            raise broken(it, f"admitted under another name: {subjects}")
    elif rooms[0] in {"open", "lounge"} and _may_enter(it):
        tally["entered"] += 1
    else:
        raise broken(it, "passed without an admission")


def _may_enter(it: Happening) -> bool:
    """Instant entry: a navigation or an app, never HEAD, OPTIONS, Range or prefetch, and it leaves with an admission."""
    asked = b",".join(it.values(b"sec-purpose") + it.values(b"purpose")).lower()
    if it.case.method in {"HEAD", "OPTIONS"} or it.values(b"range") or b"prefetch" in asked:
        return False
    is_app = b"header" in it.values(b"waitroom-transport")
    return len(it.seen[0].values(b"waitroom-subject")) == 1 and (is_app or it.case.method == "GET")


def the_admitted_pass(it: Happening, tally: Counter[str]) -> None:
    """The other side, without which a gateway that lets nobody in would keep every promise here."""
    plain = it.target in {folder.encode() + b"/form" for folder in FOLDERS.values()}
    is_sound = not it.case.fields and it.case.host == "bank.example" and it.case.version == "HTTP/1.1"
    if plain and is_sound and it.case.framing == "none" and it.case.method in {"GET", "POST"}:
        room = next(room for room, folder in FOLDERS.items() if it.path.startswith(folder + "/"))
        if it.admission(room) is not None and not it.seen:
            raise broken(it, "an admission did not let its bearer pass")


# --- promise 10: what reaches it, and what comes back ----------------------------------------------------------------


def nothing_is_sent_twice(it: Happening, tally: Counter[str]) -> None:
    tries = (
        2
        if it.case.method in SAFE and not it.case.body and it.case.framing != "chunked" and it.part.name == "nothing"
        else 1
    )
    if len(it.seen) > tries:
        raise broken(it, f"sent {len(it.seen)} times")
    tally["repeated"] += len(it.seen) > 1
    if it.seen and it.case.framing == "cut":
        raise broken(it, "half a request reached the bank as a whole one")


def requests_arrive_as_they_were_sent(it: Happening, tally: Counter[str]) -> None:
    for request in it.seen:
        sent = (it.case.method.encode(), it.origin_form, it.case.body)
        if (request.method, request.target, request.body) != sent:
            raise broken(it, "method, target or body were changed")
        theirs = [
            (name, value) for name, value in request.fields if name.lower().replace(b"_", b"-").startswith(b"waitroom-")
        ]
        if any(name not in {b"Waitroom-Subject", b"Waitroom-Room", b"Waitroom-Signature"} for name, _ in theirs):
            raise broken(it, "a header of ours reached the bank")
        if len(theirs) not in {0, 3} or len({name for name, _ in theirs}) != len(theirs):
            raise broken(it, f"the bank is told who it is in two ways, or half: {theirs}")
        pairs = b";".join(request.values(b"cookie")).split(b";")
        if any(COOKIE.match(pair.strip(b" \t")) for pair in pairs):
            raise broken(it, "a cookie of ours reached the bank")
        if b"SID=abc; theme=dark" in it.values(b"cookie") and b"SID=abc; theme=dark" not in b"; ".join(
            request.values(b"cookie")
        ):
            raise broken(it, "a cookie of the bank's was lost")
        if not it.values(b"connection") and any(b"192.0.2.7" in v for v in it.values(b"x-forwarded-for")):
            tally["forwarded for"] += 1
        if request.values(b"x-forwarded-for")[-1:] and not request.values(b"x-forwarded-for")[-1].endswith(
            b"127.0.0.1"
        ):
            raise broken(it, "who connected is not told")
        if any(value != it.host.encode() and EVIL.encode() in value for value in request.values(b"x-forwarded-host")):
            raise broken(it, "a stranger's X-Forwarded-Host is believed")


def half_an_answer_never_looks_whole(it: Happening, tally: Counter[str]) -> None:
    got, part = it.got, it.part
    if not it.seen or got is None:
        return
    if not part.is_whole:
        tally["cut short"] += 1
        if it.case.method != "HEAD" and got.is_whole and got.status not in GIVEN_UP:
            raise broken(it, "half an answer looks whole")
    elif got.status == part.status:
        tally["answered"] += 1
        if it.case.method != "HEAD" and (got.body, got.is_whole) != (part.body, True):
            raise broken(it, "the bank's answer was changed")
    elif got.status not in GIVEN_UP:
        raise broken(it, "the bank's status was changed")
    else:
        tally["given up"] += 1


def nothing_fails(it: Happening, tally: Counter[str]) -> None:
    if it.got is None:
        tally["no answer"] += 1
        if it.case.framing != "cut":
            raise broken(it, "no answer")
        return
    tally[str(it.got.status)] += 1
    if it.got.status == 500 or (it.got.status > 504 and it.got.status != 508):
        raise broken(it, "an answer that says a fault of ours")
    if not it.got.is_whole and not it.seen:
        raise broken(it, "half an answer of ours")


# --- whose words they are --------------------------------------------------------------------------------------------


def nothing_of_theirs_leaks(it: Happening, tally: Counter[str]) -> None:
    if it.got is not None and any(LEAK in value for _, value in it.got.fields):
        raise broken(it, "what the bank tells the gateway reached the client")


def cookies_ride_where_they_may(it: Happening, tally: Counter[str]) -> None:
    if it.got is None or not it.bears_ours:
        return
    tally["with a cookie"] += 1
    ours = [cookie for cookie in it.got.values(b"set-cookie") if COOKIE.match(cookie)]
    is_passing = any(it.admission(room) for room in rooms_of(it)) or any(
        one.values(b"waitroom-subject") for one in it.seen
    )
    if it.got.status in GIVEN_UP and {"open", "lounge"} & set(rooms_of(it)):  # entered, but the bank did not answer
        is_passing = True
    if it.got.status in {206, 304} or not (is_passing or MAY_BEAR.fullmatch(it.origin_form.decode("latin-1"))):
        raise broken(it, "a cookie of ours on an answer that must not bear one")
    caching = b",".join(it.got.values(b"cache-control")).lower()
    if b"no-store" not in caching or b"public" in caching:
        raise broken(it, f"a cookie of ours on an answer that caches may keep: {caching!r}")
    for cookie in ours:
        wanted = (b"; Path=/", b"; HttpOnly", b"; SameSite=Lax", b"; Secure")
        if (
            not cookie.startswith(b"__Host-")
            or any(part not in cookie for part in wanted)
            or b"domain" in cookie.lower()
        ):
            raise broken(it, f"a cookie that others may read or set: {cookie!r}")


def tokens_are_told_to_apps_alone(it: Happening, tally: Counter[str]) -> None:
    if it.got is None or it.seen or not TOKEN.search(it.got.body):
        return
    tally["token in a body"] += 1
    room = next((room for room in FOLDERS if f"/_waitroom/{room}/" in it.path), "")
    cookies = b"; ".join(it.values(b"cookie"))
    if b"header" not in it.values(b"waitroom-transport") or f"__Host-waitroom-ticket-{room}=".encode() in cookies:
        raise broken(it, "a token in a body that a script of a page could read")


def claims_need_a_ticket(it: Happening, tally: Counter[str]) -> None:
    room = it.is_for("admission")
    if room is None or it.got is None or it.got.status != 200 or it.case.method != "POST":
        return
    gives = any(b"waitroom-admission" in cookie for cookie in it.got.values(b"set-cookie")) or TOKEN.search(it.got.body)
    if gives:
        tally["claimed"] += 1
        tickets = [it.tokens.tickets.get(text) for text in it.borne("ticket", room)]
        if tickets != [room]:
            raise broken(it, "an admission for no ticket")


# --- what other sites can do -----------------------------------------------------------------------------------------


def links_stay_here(it: Happening, tally: Counter[str]) -> None:
    """Open redirects: whatever return_to, Referer and Host say, our own answers lead to paths of this host."""
    if it.got is None or it.seen:
        return
    places = [value.decode("utf-8", "replace") for value in it.got.values(b"location")]
    if any(b"text/html" in value for value in it.got.values(b"content-type")):
        places += [unescape(one or other) for one, other in LINKS.findall(it.got.body.decode())]
        if b"<script>" in it.origin_form and b'"><script>' in it.got.body:
            raise broken(it, "a script in the page")
    for place in places:
        tally["links"] += 1
        if not re.fullmatch(r"(?:/(?![/\\])[^\x00-\x1f\x7f]*|data:[^\"]*|#.*)?", place):
            raise broken(it, f"leads away: {place!r}")


def nothing_told_is_echoed(it: Happening, tally: Counter[str]) -> None:
    """Cache poisoning: an answer of ours that a cache may keep says nothing that a request said."""
    if it.got is None or it.seen or not any(b"public" in value for value in it.got.values(b"cache-control")):
        return
    tally["cacheable"] += 1
    said = b" ".join((it.got.body, *(value for _, value in it.got.fields)))
    if EVIL.encode() in said or it.bears_ours:
        raise broken(it, "a cacheable answer echoes the request")


def other_sites_change_nothing(it: Happening, tally: Counter[str]) -> None:
    room = it.is_for("(?:ticket|admission|leave)")
    if room is None or it.got is None or it.case.method not in {"POST", "DELETE"}:
        return
    sites, origins = it.values(b"sec-fetch-site"), it.values(b"origin")
    own = f"https://{it.case.host.strip().lower()}".encode()
    is_foreign = sites != [b"same-origin"] if sites else any(origin not in {b"", own} for origin in origins)
    if is_foreign and len(sites) < 2 and len(origins) < 2:
        tally["cross-site"] += 1
        if it.got.status < 400:
            raise broken(it, "another site moved a visitor")


def what_is_json_parses(it: Happening, tally: Counter[str]) -> None:
    if (
        it.got is not None
        and not it.seen
        and it.got.body
        and any(b"json" in value for value in it.got.values(b"content-type"))
    ):
        try:
            json.loads(it.got.body)
        except ValueError as fault:
            raise broken(it, f"no JSON: {fault}") from None


RULES: Final[tuple[Callable[[Happening, Counter[str]], None], ...]] = (
    nothing_passes_that_is_nobodys,
    nobody_passes_without_an_admission,
    the_admitted_pass,
    nothing_is_sent_twice,
    requests_arrive_as_they_were_sent,
    half_an_answer_never_looks_whole,
    nothing_fails,
    nothing_of_theirs_leaks,
    cookies_ride_where_they_may,
    tokens_are_told_to_apps_alone,
    claims_need_a_ticket,
    links_stay_here,
    nothing_told_is_echoed,
    other_sites_change_nothing,
    what_is_json_parses,
)
