"""Owns what an intermediary does to HTTP/1.1 heads: fields it removes, adds, cuts or reads."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

Header = tuple[bytes, bytes]  # as on the wire: bytes that are not UTF-8 (EUC-KR file names) must survive
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 9110, 7.6.1, and the three RFC 2616 counted among them. `Trailer` goes because trailers are not passed on.
HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade".split()
)
# What `Connection: <name>` may not take away: a client could otherwise hide itself from the upstream's own checks.
END_TO_END: Final = frozenset(
    b"host cookie set-cookie authorization content-length content-type content-encoding content-range cache-control "
    b"date expect forwarded location origin referer via x-real-ip x-forwarded-for x-forwarded-host "
    b"x-forwarded-proto".split()
)
_TOLD_BY_TRUSTED: Final = frozenset((b"x-forwarded-proto", b"x-forwarded-host"))
# What a rule below looks at, by direction. Every other field passes as it came, and most fields are such.
_KNOWN_IN_REQUESTS: Final = HOP_BY_HOP | _TOLD_BY_TRUSTED | {b"host", b"cookie", b"x-forwarded-for"}
_PASSED_IN_ANSWERS: Final = frozenset((b"content-length", b"content-type", b"date"))
_KNOWN_IN_ANSWERS: Final = HOP_BY_HOP | _PASSED_IN_ANSWERS
# Names are judged once for each spelling and remembered, a name cut to more bytes than any known one has: clients invent names.
NAMES_MAX: Final = 2048
NAME_BYTES_MAX: Final = 32
assert max(map(len, _KNOWN_IN_REQUESTS | _KNOWN_IN_ANSWERS)) < NAME_BYTES_MAX
HOPS_MAX: Final = 255  # what a larger Max-Forwards is taken for: no way is longer
HOPS_DIGITS: Final = 10
ADDRESSES_MAX: Final = 4096  # read once while they are remembered: reading one costs ten look-ups
_PLAIN_OPTIONS: Final = frozenset((b"keep-alive", b"close", b"upgrade", b"te", b""))
# Both end before a line's end or where the block ends, and nowhere else. Possessive: a long line costs its length, once.
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*+))?+(?=\r\n|\Z)")
_FIELD: Final = re.compile(rb"\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)(?=\r\n|\Z)")
_OUR_COOKIE: Final = re.compile(rb"(?i)[ \t]*(?:__host-)?waitroom-")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def is_looped(via: Iterable[str], name: str) -> bool:
    """True if a request has come through a gateway of this name before (RFC 9110, 7.6.3)."""
    for value in via:
        for element in value.split(","):
            protocol_and_name = element.split()
            if len(protocol_and_name) >= 2 and protocol_and_name[1].lower() == name.lower():
                return True
    return False


def split_target(target: str, host: str) -> tuple[str, str]:
    """Host and origin-form target of a request, byte for byte but for a `#fragment`, which no request may carry.

    In absolute form the target's own authority counts and Host is ignored (RFC 9112, 3.2.2): whoever judges a request
    and whoever forwards it must both use this.
    """
    target = target.partition("#")[0]
    if target.startswith("/") or target == "*":
        return host, target
    scheme, _, rest = target.partition("://")
    if scheme.lower() not in {"http", "https"}:
        return host, target
    cut = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:cut].rpartition("@")[2], rest[cut:]
    return authority, path if path.startswith("/") else "/" + path


# --- to the upstream -------------------------------------------------------------------------------------------------


class Hop(NamedTuple):
    """This gateway's part of the way: who connected, under which scheme and host, and what it calls itself in Via."""

    peer: str
    scheme: str
    host: str
    via: str = "waitroom"
    is_peer_trusted: bool = False


def to_upstream(headers: Sequence[Header], hop: Hop, added: Iterable[Header] = ()) -> list[Header]:
    """The request fields an upstream gets, in their order and bytes, ours last.

    Removed: hop-by-hop fields and those named by Connection, every spelling of `Waitroom-*`, our cookies. A trusted
    peer's X-Forwarded-Proto and -Host stand; anyone else's are replaced.
    """
    host = hop.host.encode("utf-8", "surrogateescape")
    kept: list[Header] = []
    forwarded_for: list[bytes] = []
    told: set[bytes] = set()
    options: list[bytes] = []
    for field in headers:
        key = _known_in_request(field[0][:NAME_BYTES_MAX])
        if not key:
            kept.append(field)
        elif key == b"host":  # in its place and spelling; an absolute-form target may have overruled its value
            kept.append((field[0], host))
        elif key == b"cookie":
            if (rest := without_our_cookies(field[1])) is not None:
                kept.append((field[0], rest))
        elif key == b"x-forwarded-for":
            forwarded_for.append(field[1])
        elif key == b"connection":
            options.append(field[1])
        elif key in _TOLD_BY_TRUSTED and hop.is_peer_trusted:
            told.add(key)
            kept.append(field)
    if options:
        kept = _without_named(kept, options)
    kept.extend(_forwarded(hop, host, forwarded_for, told))
    kept.append((b"Via", b"1.1 " + hop.via.encode()))
    kept.extend(added)
    return kept


def replaced(fields: Iterable[Header], ours: Sequence[Header]) -> list[Header]:
    """With ours in place of all fields of their names, for either direction; an empty value only removes."""
    names = {name.lower() for name, _ in ours}
    return [*(field for field in fields if field[0].lower() not in names), *(field for field in ours if field[1])]


def is_last_hop(fields: Iterable[Header]) -> bool:
    """Whether `Max-Forwards: 0` says that an OPTIONS ends here (RFC 9110, 7.6.2)."""
    return any(name.lower() == b"max-forwards" and set(value) == {0x30} for name, value in fields)


def one_hop_less(fields: Iterable[Header]) -> list[Header]:
    """The same fields with Max-Forwards, which is not 0, counted down; what is no number is the upstream's to judge."""
    return [
        (name, _one_less(value)) if name.lower() == b"max-forwards" and value.isdigit() else (name, value)
        for name, value in fields
    ]


def _one_less(digits: bytes) -> bytes:
    return b"%d" % (min(int(digits) if len(digits) < HOPS_DIGITS else HOPS_MAX, HOPS_MAX) - 1)


def _forwarded(hop: Hop, host: bytes, forwarded_for: list[bytes], told: set[bytes]) -> list[Header]:
    """The X-Forwarded fields that are ours to write: `told` names those a trusted peer has written."""
    if hop.peer:
        forwarded_for.append(hop.peer.encode())
    fields = [(b"X-Forwarded-For", b", ".join(forwarded_for))] if forwarded_for else []
    if b"x-forwarded-proto" not in told:
        fields.append((b"X-Forwarded-Proto", hop.scheme.encode()))
    if b"x-forwarded-host" not in told:
        fields.append((b"X-Forwarded-Host", host))
    return fields


def without_our_cookies(cookie: bytes) -> bytes | None:
    """A Cookie field without our tickets and admissions, every other byte kept; None if nothing is left."""
    pairs = cookie.split(b";")
    kept = [pair for pair in pairs if _OUR_COOKIE.match(pair) is None]
    if len(kept) == len(pairs):
        return cookie
    rest = b";".join(kept)
    if _OUR_COOKIE.match(pairs[0]) is not None:
        rest = rest.lstrip(b" \t")
    return rest if rest.strip(b" \t;") else None


def cookie_values(cookies: Iterable[str], name: str) -> list[str]:
    """Every value the Cookie fields give that name, in order: more than one is a reason to believe none."""
    values: list[str] = []
    for cookie in cookies:
        if name not in cookie:
            continue
        for pair in cookie.split(";"):
            key, equals, value = pair.partition("=")
            if equals and key.strip(" \t") == name:
                values.append(value.strip(" \t"))
    return values


def signature(key: bytes, room: str, subject: str, now_s: int) -> str:
    """`Waitroom-Signature`: proves to an upstream that room and subject come from a gateway that knows its key."""
    mac = hmac.digest(key, f"{now_s}.{room}.{subject}".encode(), "sha256")
    return f"t={now_s},v1={mac.hex()}"


# --- who it is -------------------------------------------------------------------------------------------------------


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """The address a request came from: the first from the right that is not a trusted proxy; None if not known.

    `peer` is who connected. Only trusted proxies are believed, each about the one before it; if all are trusted the
    left-most is the client. A trusted proxy that says nothing, or something that is no address, leaves it unknown.
    """
    if not trusted:
        return _spelled(peer)
    address = _address(peer)
    if address is None:
        return None
    if not _is_within(address, trusted):
        return str(address)
    elements = [element for value in forwarded_for for element in value.split(",")]
    address = None
    for element in reversed(elements):
        if (address := _address(element.strip())) is None:
            return None
        if not _is_within(address, trusted):
            break
    return None if address is None else str(address)


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    address = _address(peer)
    return address is not None and _is_within(address, trusted)


@lru_cache(ADDRESSES_MAX)
def _spelled(text: str) -> str | None:
    """The one spelling of an address."""
    return None if (address := _address(text)) is None else str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as proxies write it: bare, with a port, in brackets, IPv4 inside IPv6, with a zone."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


# --- to the client ---------------------------------------------------------------------------------------------------

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2


class Head(NamedTuple):
    """An upstream's answer up to its body. `length` is the body's bytes, `CHUNKED` or `UNTIL_CLOSE`.

    `fields` are those a client gets; `known` has the values of the others, and of some of them, by lower-case name.
    """

    status: int
    reason: bytes
    headers: list[Header]
    fields: list[Header]
    known: dict[bytes, list[bytes]]
    length: int
    is_reusable: bool  # the connection may carry another request after this answer


def parse_head(block: bytes, method: str) -> Head | str:
    """An answer's head, without the empty line that ends it; or what is wrong with it.

    As strict as RFC 9112 lets a gateway be: an answer that two readers could frame differently is none. No folded
    lines, no bare CR or LF, no control bytes.
    """
    start = _STATUS_LINE.match(block)
    if start is None:
        return "status line"
    headers: list[Header] = _FIELD.findall(block, start.end())
    if len(headers) != block.count(b"\r\n", start.end()):  # every line must be a field: what is none is not skipped
        return "header field"
    if b" \r\n" in block or b"\t\r\n" in block or block.endswith((b" ", b"\t")):
        headers = [(name, value.rstrip(b" \t")) for name, value in headers]
    minor, code, reason = start.groups()
    status = int(code)
    fields, known = _sorted(headers, status)
    options = _options(known.get(b"connection", ()))
    persists = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    length = _body_length(minor, known.get(b"transfer-encoding", ()), known.get(b"content-length", ()))
    if isinstance(length, str):
        return length
    if method == "HEAD" or status < 200 or status in {204, 304}:
        length = 0
    return Head(status, reason or b"", headers, fields, known, length, persists and length != UNTIL_CLOSE)


def _body_length(minor: bytes, codings: Sequence[bytes], lengths: Sequence[bytes]) -> int | str:
    if codings:
        is_chunked = len(codings) == 1 and codings[0].lower() == b"chunked"
        return "Transfer-Encoding" if not is_chunked or minor == b"0" or lengths else CHUNKED
    if not lengths:
        return UNTIL_CLOSE
    if (len(lengths) > 1 and len(set(lengths)) > 1) or not lengths[0].isdigit() or len(lengths[0]) > 18:
        return "Content-Length"
    return int(lengths[0])


def to_client(headers: Iterable[Header], status: int = 200) -> list[Header]:
    """The answer's fields a client gets, in their order and bytes: no hop-by-hop ones, none of `Waitroom-*`."""
    return _sorted(headers, status)[0]


def _sorted(headers: Iterable[Header], status: int) -> tuple[list[Header], dict[bytes, list[bytes]]]:
    """Those a client gets, and the values of those that a rule knows, by name."""
    kept: list[Header] = []
    known: dict[bytes, list[bytes]] = {}
    for field in headers:
        key = _known_in_answer(field[0][:NAME_BYTES_MAX])
        if not key:
            kept.append(field)
            continue
        if key in known:
            known[key].append(field[1])
        else:
            known[key] = [field[1]]
        if key in _PASSED_IN_ANSWERS:
            kept.append(field)
    if b"connection" in known:
        kept = _without_named(kept, known[b"connection"])
    if (status < 200 or status == 204) and b"content-length" in known:  # may not carry a length (RFC 9110, 8.6)
        kept = [field for field in kept if field[0].lower() != b"content-length"]
    return kept, known


def serialize(start_line: bytes, headers: Iterable[Header]) -> bytes:
    """A whole head. The fields' bytes are the caller's to vouch for: parsed ones, or `encode`d."""
    return b"\r\n".join((start_line, *map(b": ".join, headers), b"", b""))


def encode(headers: Iterable[tuple[str, str]]) -> list[Header]:
    """Fields of ours as bytes; the inverse of how `decode` and aiohttp read them. No field can smuggle in a line."""
    fields = [(n.encode("utf-8", "surrogateescape"), v.encode("utf-8", "surrogateescape")) for n, v in headers]
    for name, value in fields:
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise ValueError(f"control byte in header field {name!r}")
    return fields


def decode(headers: Iterable[Header]) -> list[tuple[str, str]]:
    return [(n.decode("utf-8", "surrogateescape"), v.decode("utf-8", "surrogateescape")) for n, v in headers]


def _options(connection: Iterable[bytes]) -> set[bytes]:
    """What Connection fields list, in lower case."""
    return {option.strip() for value in connection for option in value.lower().split(b",")}


def _without_named(fields: list[Header], connection: Iterable[bytes]) -> list[Header]:
    """Without the fields that Connection asks to remove, but for those it may not."""
    options = _options(connection) - _PLAIN_OPTIONS - END_TO_END
    return [field for field in fields if field[0].lower() not in options] if options else fields


@lru_cache(NAMES_MAX)
def _known_in_request(name: bytes) -> bytes:
    """The name in lower case if a rule for requests knows it, else nothing."""
    key = name.lower()
    return key if key in _KNOWN_IN_REQUESTS or _is_ours(key) else b""


@lru_cache(NAMES_MAX)
def _known_in_answer(name: bytes) -> bytes:
    key = name.lower()
    return key if key in _KNOWN_IN_ANSWERS or _is_ours(key) else b""


def _is_ours(key: bytes) -> bool:
    """True for `waitroom-*` in lower case; servers of the CGI family read an underscore as the same letter."""
    return key.startswith((b"waitroom-", b"waitroom_"))
