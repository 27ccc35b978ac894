"""Owns which requests are protected: host and target in, the room, upstream or refusal out.

Theory. A gateway and a backend may read one target differently: one decodes `%2F` and the other does not, one is blind
to case, one takes `/a;x=1/b` for `/a/b`. Whoever finds a spelling that we read as unprotected and the backend as
protected has walked round the queue. We cannot know the backend, so a target is judged by *all* its readings: the set
that is closed under what backends are known to do, in any order and any number of times,

    decode percent (twice at most)    `\\` as `/`              merge slashes             remove dot segments
    cut `;parameters`                 cut at a decoded `?`/`#`  take `//host` for a host  read overlong and wide letters

and compared without case.

Invariants:
- One reading in a room makes the request that room's; readings in two rooms are refused, as nobody can say whose it is.
- A protected path answers with and without its final slash, and a folder rule takes the folder itself in.
- Bypass rules are the other way round: they open, so they hold for plain spelling alone, to the letter, case included.
- A way to `/_waitroom/` that is not spelled so is refused: no backend ever sees one.
- What no reading can be trusted of is refused: control characters, bytes beyond ASCII, a broken percent, two hosts.

Cost. Nearly every target is *plain*: letters and digits and a few signs, no empty and no dot segment. It has one
reading, itself, and costs a match of one regular expression and a dict look-up for each of its first folders, no more
than the deepest rule has. Others pay for their readings, within `READINGS_MAX` and `ODD_PATH_BYTES_MAX`. Nothing is
remembered between requests.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.model import Bypass, Config, Room
from gateway.notation import fold, folder_of, normal_host

OURS: Final = "/_waitroom"
DECODINGS_MAX: Final = 2
READINGS_MAX: Final = 48  # honest targets have 1 to 8
ODD_PATH_BYTES_MAX: Final = 2048  # of a path that is not plain; 220 syllables of Hangul, percent-encoded

# Segments of unreserved characters and sub-delims without `;` (RFC 3986, 3.3), none of them empty but the last, none
# of them `.` or `..`. Anything else has more than one reading, or none.
_PLAIN = re.compile(r"(?:(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,=:@-]+)+/?|/)\Z")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_UNSENDABLE = re.compile(r"[^!-~]|#")  # a fragment is never sent (RFC 9112, 3.2)
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SLASHES = re.compile(r"/{2,}")
_PARAMETERS = re.compile(r";[^/]*")
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_AUTHORITY = re.compile(r"//[^/]*")
# Two bytes for one ASCII character, as decoders before 2010 took them: %C0%AF is "/". Surrogates are undecodable bytes.
_OVERLONG = re.compile("[\udcc0\udcc1][\udc80-\udcbf]")
_ABSOLUTE = re.compile(r"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Protected:
    """The room's: only who is admitted passes."""

    room: Room


@dataclass(frozen=True, slots=True)
class Bypassed:
    """The room's, but let past its queue by a rule of the configuration."""

    room: Room
    rule: Bypass


@dataclass(frozen=True, slots=True)
class Unprotected:
    """No room's: passed on to the upstream of this name."""

    upstream: str


@dataclass(frozen=True, slots=True)
class Ours:
    """The gateway's own: what follows `/_waitroom/` in the path, as sent, without the query."""

    rest: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Not served; the reason is a sentence for the client."""

    status: int
    reason: str


Route = Protected | Bypassed | Unprotected | Ours | Refused

_BAD_TARGET: Final = Refused(400, "The request target cannot be read in one way only.")
_TWO_HOSTS: Final = Refused(400, "The request names two hosts, or none.")
_NOT_OURS: Final = Refused(421, "This gateway does not serve that host.")
_NO_ROUTE: Final = Refused(404, "Nothing is served there.")


# --- the public part -------------------------------------------------------------------------------------------------


class Routes:
    """The configuration's routes, ready to be asked. Immutable; a reload builds another."""

    def __init__(self, rules: _Rules, hosts: Iterable[str], default_upstream: str | None) -> None:
        self._rules = rules
        self._hosts = frozenset(hosts)
        self._rest = _NO_ROUTE if default_upstream is None else Unprotected(default_upstream)

    @classmethod
    def build(cls, config: Config) -> Routes:
        return cls(_Rules(config.rooms), config.server.hosts, config.default_upstream)

    def match(self, host: str | None, target: str, method: str = "GET", client: str | None = None) -> Route:
        """Whose request this is. `target`: as in the request line; `client`: the address, None if it is not known."""
        if _UNSENDABLE.search(target) is not None or method == "CONNECT":
            return _BAD_TARGET
        if not target.startswith("/"):
            found = _ABSOLUTE.fullmatch(target)
            if found is None:
                return _BAD_TARGET  # `*` and the authority form name nothing that we could pass on
            if host and normal_host(host) != normal_host(found[1]):
                return _TWO_HOSTS
            host, target = found[1], origin_form(target)
        path = target.partition("?")[0]
        if path.startswith(OURS + "/") or path == OURS:
            return _ours(path)
        known_host = host if host in self._hosts else normal_host(host or "")
        if known_host is None:
            return _TWO_HOSTS
        if self._hosts and known_host not in self._hosts:
            return _NOT_OURS
        return (
            self._judge_odd(known_host, path)
            if _PLAIN.match(path) is None
            else self._judge_plain(known_host, path, method, client)
        )

    def _judge_plain(self, host: str, path: str, method: str, client: str | None) -> Route:
        folded = path.lower()
        if folded.startswith(OURS + "/") or folded == OURS:
            return _BAD_TARGET
        guard = self._rules.guard_of(host, folded)
        if guard is None:
            return self._rest
        if guard.bypasses and method in {"GET", "HEAD"}:
            return guard.let_past(path, client)
        return guard.protected

    def _judge_odd(self, host: str, path: str) -> Route:
        """A path that is not plain, by all its readings. No bypass rule holds for it."""
        seen = readings(path)
        if seen is None:
            return _BAD_TARGET
        guards = {guard.protected.room.id: guard for reading in seen if (guard := self._rules.guard_of(host, reading))}
        if len(guards) > 1 or any(reading.startswith(OURS + "/") or reading == OURS for reading in seen):
            return _BAD_TARGET
        return next((guard.protected for guard in guards.values()), self._rest)


def is_plain(target: str) -> bool:
    """Whether the target has one reading only: what an edge may judge by itself, and all that bypass rules hold for."""
    return _PLAIN.match(target.partition("?")[0]) is not None


def origin_form(target: str) -> str:
    """What the upstream is sent of a target that `match` let through: path and query, byte for byte (RFC 9112)."""
    found = None if target.startswith("/") else _ABSOLUTE.fullmatch(target)
    if found is None:
        return target
    return found[2] if found[2].startswith("/") else f"/{found[2]}"


def readings(path: str) -> frozenset[str] | None:
    """All paths, case folded, that some backend may take this one for; None if it must be refused."""
    if len(path) > ODD_PATH_BYTES_MAX or _BROKEN_PERCENT.search(path) is not None:
        return None
    seen: set[tuple[str, int]] = set()
    todo = [(path, 0)]
    while todo:
        reading, decodings = todo.pop()
        if (reading, decodings) in seen:
            continue
        if len(seen) == READINGS_MAX or _CONTROLS.search(reading) is not None:
            return None
        seen.add((reading, decodings))
        todo += [(step(reading), decodings) for step in _STEPS]
        if decodings < DECODINGS_MAX and "%" in reading:
            todo.append((_decoded(reading), decodings + 1))
    return frozenset(fold(reading) for reading, _ in seen)


# --- readings --------------------------------------------------------------------------------------------------------


def _decoded(path: str) -> str:
    """Percent-decoded once, as UTF-8; bytes that are none stay themselves, as surrogates."""
    return unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4: `.` and `..` segments taken for what they mean."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if segments[-1] in {".", ".."} and kept and kept[-1] else "")


def _ascii_of_overlong(found: re.Match[str]) -> str:
    lead, trail = (ord(character) & 0xFF for character in found[0])
    return chr((lead & 1) << 6 | trail & 0x3F)


_STEPS: Final = (
    lambda path: path.replace("\\", "/"),
    lambda path: _SLASHES.sub("/", path),
    _without_dots,
    lambda path: _PARAMETERS.sub("", path),
    lambda path: _QUERY.sub("", path),
    lambda path: (_AUTHORITY.sub("", path, 1) or "/") if path.startswith("//") else path,
    lambda path: path if path.isascii() else unicodedata.normalize("NFKC", path),
    lambda path: _OVERLONG.sub(_ascii_of_overlong, path),
)


def _ours(path: str) -> Route:
    """A path that begins with our own prefix to the letter, so no upstream will see it, whatever follows."""
    rest = path[len(OURS) + 1 :]
    # Edges put the visitor's own path behind `auth/`, spelled as the visitor did.
    return Ours(rest) if _PLAIN.match(path) is not None or rest.startswith("auth/") else _BAD_TARGET


# --- rules -----------------------------------------------------------------------------------------------------------


class _Guard:
    """A room with its bypass rules, ready to be asked."""

    def __init__(self, room: Room) -> None:
        self.protected = Protected(room)
        self.bypasses = bool(room.bypass)
        self._exact = {
            rule.path: Bypassed(room, rule) for rule in room.bypass if rule.path and not folder_of(rule.path)
        }
        self._folders = [
            (folder, Bypassed(room, rule)) for rule in room.bypass if rule.path and (folder := folder_of(rule.path))
        ]
        self._sources = [
            (ipaddress.ip_network(rule.source), Bypassed(room, rule)) for rule in room.bypass if rule.source is not None
        ]

    def let_past(self, path: str, client: str | None) -> Route:
        if (exact := self._exact.get(path)) is not None:
            return exact
        for folder, bypassed in self._folders:
            if path.startswith(folder):
                return bypassed
        if self._sources and (address := _address(client)) is not None:
            for network, bypassed in self._sources:
                if address.version == network.version and address in network:
                    return bypassed
        return self.protected


def _address(client: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(client or "")
    except ValueError:
        return None
    # A socket that listens on both families shows IPv4 clients as ::ffff:192.0.2.1.
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


class _Rules:
    """Which room guards a path, by host; `None` stands for rules that hold on every host."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self._exact: dict[tuple[str | None, str], _Guard] = {}
        self._folders: dict[tuple[str | None, str], _Guard] = {}
        for room in rooms:
            guard = _Guard(room)
            for match in room.match:
                folder = folder_of(match.path)
                rules = self._exact if folder is None else self._folders
                rules[match.host, fold(match.path if folder is None else folder).rstrip("/")] = guard
        self._deepest = max((path.count("/") for _, path in self._folders), default=-1)
        self._hosts = {host for host, _ in (*self._exact, *self._folders) if host is not None}
        self._has_any_host = any(host is None for host, _ in (*self._exact, *self._folders))

    def guard_of(self, host: str, folded: str) -> _Guard | None:
        """The guard of a path that is case folded already."""
        if host in self._hosts and (guard := self._find(host, folded)) is not None:
            return guard
        return self._find(None, folded) if self._has_any_host else None

    def _find(self, host: str | None, folded: str) -> _Guard | None:
        bare = folded.rstrip("/")
        if (guard := self._exact.get((host, bare))) is not None:
            return guard
        # "/a/b/c" lies in the folders "", "/a", "/a/b" and, as the folder itself, "/a/b/c".
        end = 0
        for _ in range(self._deepest + 1):
            if (guard := self._folders.get((host, bare[:end] if end >= 0 else bare))) is not None:
                return guard
            if end < 0:
                return None
            end = bare.find("/", end + 1)
        return None
