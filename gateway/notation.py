"""Owns how people write rates, durations, sizes, addresses, hosts and paths, and the words for what is allowed.

Every `parse_` function is pure and total over text: it returns the value, or raises `ValueError` whose text is what is
allowed, ready to be shown to the person who wrote something else.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from gateway.model import PERMIT_UNITS, Rate

RATE_PER_S_MAX: Final = 100_000
# The door counts in 1 / PERMIT_UNITS of a permit, in Lua's doubles: a full bucket must stay exact, below 2^53.
BURST_MAX: Final = 1_000_000
assert BURST_MAX * PERMIT_UNITS < 2**53

RATE_ALLOWED: Final = f'whole entries per s, min or h, up to {RATE_PER_S_MAX}/s: "50/s", "3000/min", "10/h"'
DURATION_ALLOWED: Final = 'a number and ms, s, m or h: "500ms", "90s", "10m", "1h"'
SIZE_ALLOWED: Final = 'a number and B, KiB or MiB: "32KiB"'
ADDRESS_ALLOWED: Final = '"address:port" with an IP address or "localhost", such as "0.0.0.0:8080" or "[::]:8080"'
HOST_ALLOWED: Final = 'a host name or IP address without scheme, port and path: "bank.example"'
UPSTREAM_URL_ALLOWED: Final = 'http or https, host and port, no path and no password: "http://127.0.0.1:9000"'
ORIGIN_ALLOWED: Final = 'scheme://host[:port] without a path: "https://bank.example"'
PATH_ALLOWED: Final = (
    'a path spelled plainly, exact ("/pay") or a folder ("/pay/*"): no %, ;, ?, #, \\, //, "." or ".." segments, '
    'and * only as the last segment; and not "/_waitroom", which is the gateway\'s own'
)
ROOM_ID_ALLOWED: Final = (
    '1 to 63 of a-z, 0-9, "." and "-", a letter or digit at both ends; not "auth", "health" or "*.json"'
)
REDIS_URL_ALLOWED: Final = (
    '"embedded", redis://host[:port][/db], rediss://..., unix:///path[?db=0], '
    "redis+sentinel://host1[:port],host2[:port]/name[/db] or redis+cluster://host1[:port],host2[:port]; after ? only "
    "db (unix), socket_timeout, socket_connect_timeout, and of rediss ssl_ca_certs, ssl_certfile, ssl_keyfile, "
    "ssl_cert_reqs"
)

_RATE = re.compile(r"([1-9][0-9]{0,11})/(s|min|h)", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)", re.ASCII)
_DURATION_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,9})(B|KiB|MiB)", re.ASCII)
_SIZE_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024 * 1024}
_ROOM_ID = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII)
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_UNPLAIN_SEGMENT = re.compile(r"[%;?#\\*\x00-\x20\x7f-\x9f]")


# --- figures ---------------------------------------------------------------------------------------------------------


def parse_rate(text: str) -> Rate:
    """`"50/s"` as `Rate(50, "s")`."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(RATE_ALLOWED)
    rate = Rate(int(found[1]), found[2])
    if rate.per_second > RATE_PER_S_MAX:
        raise ValueError(RATE_ALLOWED)
    return rate


def burst_min(rate: Rate) -> int:
    """A quarter of a second of the rate, at least 2: smaller ones starve the door (`facts.md`: 30-73 % of 1,000/s)."""
    return max(2, -(-rate.units_per_us * 250_000 // PERMIT_UNITS))


def burst_default(rate: Rate) -> int:
    """One second of the rate, at least 2."""
    return max(2, -(-rate.units_per_us * 1_000_000 // PERMIT_UNITS))


def parse_duration(text: str) -> float:
    """`"10m"` in seconds."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(DURATION_ALLOWED)
    return float(found[1]) * _DURATION_S[found[2]]


def duration_text(seconds: float) -> str:
    """The shortest way to write it: 600 is "10m", 90 "90s", 0.5 "500ms"."""
    if seconds == 0:
        return "0s"
    for unit in ("h", "m", "s"):
        if seconds >= _DURATION_S[unit] and (seconds / _DURATION_S[unit]).is_integer():
            return f"{int(seconds / _DURATION_S[unit])}{unit}"
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


def parse_size(text: str) -> int:
    """`"32KiB"` in bytes."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(SIZE_ALLOWED)
    return int(found[1]) * _SIZE_BYTES[found[2]]


def size_text(size_bytes: int) -> str:
    """The shortest way to write it: 32768 is "32KiB"."""
    unit = next(unit for unit in ("MiB", "KiB", "B") if size_bytes % _SIZE_BYTES[unit] == 0)
    return f"{size_bytes // _SIZE_BYTES[unit]}{unit}"


# --- places ----------------------------------------------------------------------------------------------------------


def parse_room_id(text: str) -> str:
    """The id itself. It stands in URLs, cookie names, Redis keys and metric labels, hence so narrow."""
    if _ROOM_ID.fullmatch(text) is None or text in {"auth", "health"} or text.endswith(".json"):
        raise ValueError(ROOM_ID_ALLOWED)
    return text


def parse_address(text: str) -> tuple[str, int]:
    """`"127.0.0.1:9090"` as host and port; port 0 asks the system for a free one."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_number = _PORT.fullmatch(port) is not None and int(port) < 65536
    if not colon or not is_number or (":" in host and bare == host):
        raise ValueError(ADDRESS_ALLOWED)
    if bare != "localhost":
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise ValueError(ADDRESS_ALLOWED) from None
    return bare, int(port)


def address_text(address: tuple[str, int]) -> str:
    """What `parse_address` reads."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def normal_host(text: str) -> str | None:
    """What is compared of a Host header (RFC 9110, 7.2): lower case, no port, no final dot; None if it is no host."""
    host = text.lower()
    if host.startswith("["):
        address, bracket, port = host[1:].partition("]")
        if not bracket or (port and (port[0] != ":" or not _is_port_or_empty(port[1:]))):
            return None
        try:
            return ipaddress.IPv6Address(address).compressed
        except ValueError:
            return None
    host, _, port = host.partition(":")
    host = host.removesuffix(".")
    if not _is_port_or_empty(port) or len(host) > 253 or _HOST_NAME.fullmatch(host) is None:
        return None
    return host


def _is_port_or_empty(text: str) -> bool:
    return not text or (_PORT.fullmatch(text) is not None and int(text) < 65536)


def parse_host(text: str) -> str:
    """A host of the file as `normal_host` compares it; IPv6 with or without brackets."""
    host = normal_host(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
    if host is None or (":" in text and ":" not in host) or text.endswith("."):
        raise ValueError(HOST_ALLOWED)
    return host


def parse_origin(text: str) -> str:
    """An origin as browsers send it (RFC 6454): lower case, no path, no default port."""
    try:
        parts = urlsplit(text.lower())
        port = parts.port
    except ValueError:
        raise ValueError(ORIGIN_ALLOWED) from None
    is_bare = not (parts.path or parts.query or parts.fragment) and "@" not in parts.netloc and text[-1] not in "?#:"
    if parts.scheme not in {"http", "https"} or not is_bare or normal_host(parts.netloc) is None or port == 0:
        raise ValueError(ORIGIN_ALLOWED)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (
        f":{port}" if port not in {None, {"http": 80, "https": 443}[parts.scheme]} else ""
    )


def parse_upstream_url(text: str) -> str:
    """Scheme, host and port only: the path is the request's own."""
    try:
        return parse_origin(text)
    except ValueError:
        raise ValueError(UPSTREAM_URL_ALLOWED) from None


def parse_network(text: str) -> str:
    """An address or network (CIDR) in its usual spelling; "10.0.0.1" is one address."""
    return str(ipaddress.ip_network(text))  # its own ValueError tells host bits and typing errors apart


# --- path patterns ---------------------------------------------------------------------------------------------------


def parse_path(text: str) -> str:
    """A path pattern, exact or a folder. Spelled plainly, so that there is one thing it can mean."""
    if not text.startswith("/") or len(text) > 1024:
        raise ValueError(PATH_ALLOWED)
    stem = folder_of(text)
    segments = (text if stem is None else stem)[1:].split("/")
    # Only the last segment may be empty: "/" and "/pay/" are paths, "/pay//now" is a spelling of another one.
    if any(segment in {".", ".."} or _UNPLAIN_SEGMENT.search(segment) for segment in segments) or "" in segments[:-1]:
        raise ValueError(PATH_ALLOWED)
    if fold(segments[0]) == "_waitroom":  # a room there would protect nothing: such requests never get to rooms
        raise ValueError(PATH_ALLOWED)
    return text


def folder_of(pattern: str) -> str | None:
    """`"/pay/"` for the pattern `"/pay/*"`; None for an exact one."""
    return pattern[:-1] if pattern.endswith("/*") else None


def can_overlap(one: str, other: str) -> bool:
    """Whether some path can match both patterns. Case and a final slash make no difference: upstreams differ there."""
    (one_path, one_folder), (other_path, other_folder) = _covered(one), _covered(other)
    if one_path == other_path:
        return True
    return (one_folder and other_path.startswith(one_path)) or (other_folder and one_path.startswith(other_path))


def _covered(pattern: str) -> tuple[str, bool]:
    folder = folder_of(pattern)
    return fold(pattern if folder is None else folder).rstrip("/") + "/", folder is not None


def fold(path: str) -> str:
    """A path as rules compare it: without case, and without the ways Unicode has to write one character (UAX 15)."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


# --- Redis URLs ------------------------------------------------------------------------------------------------------


def parse_redis_url(text: str) -> str:
    """The URL itself, its form checked: redis-py reads some of them, `queue/connect.py` the rest."""
    if text == "embedded":
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or "#" in text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError(REDIS_URL_ALLOWED)
    place, _, query = rest.partition("?")
    if scheme == "unix":
        is_good = place.rpartition("@")[2].startswith("/") and len(place.rpartition("@")[2]) > 1
    elif scheme in _REDIS_PATHS:
        authority, _, path = place.rpartition("@")[2].partition("/")
        hosts = authority.split(",")
        is_good = all(_is_host_and_port(host) for host in hosts)
        is_good &= len(hosts) == 1 or scheme in {"redis+sentinel", "redis+cluster"}
        is_good &= _REDIS_PATHS[scheme].fullmatch(path) is not None
    else:
        is_good = False
    if not is_good or not _are_redis_options(scheme, query):
        raise ValueError(REDIS_URL_ALLOWED)
    return text


def redis_place(url: str) -> str:
    """What the URL leads to, for a person: never its user, its password or anything behind the question mark but db."""
    if url == "embedded":
        return "embedded: a Valkey of its own, its data in state_dir"
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    where = place.rpartition("@")[2]
    if scheme == "unix":
        return f"socket {where}, db {dict(parse_qsl(query)).get('db', '0')}"
    hosts, _, path = where.partition("/")
    port = SENTINEL_PORT if scheme == "redis+sentinel" else REDIS_PORT
    told = ", ".join(host if re.search(r":[0-9]+\Z", host) else f"{host}:{port}" for host in hosts.split(","))
    if scheme == "redis+cluster":
        return f"cluster, by {told}"
    if scheme == "redis+sentinel":
        name, _, db = path.partition("/")
        return f"{name}/{db or 0}, by sentinels {told}"
    return f"{told}/{path or 0}" + (" with TLS" if scheme == "rediss" else "")


def _are_redis_options(scheme: str, query: str) -> bool:
    """Whether the library takes all of them: it fails at the start on those it does not know."""
    options = parse_qsl(query, keep_blank_values=True)
    known = {**_REDIS_OPTIONS[""], **_REDIS_OPTIONS.get(scheme, {})} if scheme != "redis+sentinel" else {}
    return len(options) == len(dict(options)) and all(
        name in known and known[name].fullmatch(value) is not None for name, value in options
    )


REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_SECONDS = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?", re.ASCII)
_FILE = re.compile(r".{1,1000}")
_REDIS_OPTIONS: Final = {
    "": {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS},
    "unix": {"db": re.compile(r"[0-9]{1,4}", re.ASCII)},
    "rediss": {
        "ssl_ca_certs": _FILE,
        "ssl_certfile": _FILE,
        "ssl_keyfile": _FILE,
        "ssl_cert_reqs": re.compile("none|optional|required"),
    },
}
_REDIS_PATHS: Final = {
    "redis": re.compile(r"[0-9]{0,4}", re.ASCII),
    "rediss": re.compile(r"[0-9]{0,4}", re.ASCII),
    "redis+sentinel": re.compile(r"[A-Za-z0-9._-]{1,128}(?:/[0-9]{1,4})?", re.ASCII),
    "redis+cluster": re.compile(r"0?", re.ASCII),  # a cluster has the one database
}


def _is_host_and_port(text: str) -> bool:
    return normal_host(text) is not None and not text.endswith(":")
