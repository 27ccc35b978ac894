"""Owns which framing of a request is refused: whatever two readers might take for different things."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from gateway.rules.headers import Header

LENGTH_DIGITS_MAX: Final = 18  # parsers keep lengths in 64 bits, and to aiohttp's 2^64 - 1 means none
VERSIONS: Final = frozenset(((1, 0), (1, 1)))
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}))(?::[0-9]{1,5})?")


def framing_fault(version: tuple[int, int], headers: Iterable[Header]) -> str | None:
    """Why a request may not be forwarded, or None; RFC 9112, 3.2 and 6.3, where aiohttp 3.14 is more forgiving."""
    hosts, codings, lengths, upgrades = _framing(headers)
    if version not in VERSIONS:
        return "HTTP version is not 1.0 or 1.1"
    if codings and (fault := _coding_fault(version, codings, lengths)):
        return fault
    if lengths and not (len(lengths) == 1 and is_length(lengths[0])):
        return "Content-Length is not one number"
    if (codings or lengths not in ([], [b"0"])) and any(b"websocket" in value.lower() for value in upgrades):
        return "WebSocket with a body"  # aiohttp loses its way in the bytes after one that is refused
    if len(hosts) > 1 or (not hosts and version == (1, 1)):
        return "Host is not there once"
    if hosts and not is_host(hosts[0]):
        return "Host is not a name with an optional port"
    return None


def _framing(headers: Iterable[Header]) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]]:
    """Values of Host, Transfer-Encoding, Content-Length and Upgrade."""
    hosts: list[bytes] = []
    codings: list[bytes] = []
    lengths: list[bytes] = []
    upgrades: list[bytes] = []
    for name, value in headers:
        # Lengths first: this runs for every request, and lower() costs more than a look at a number.
        if len(name) == 4 and name.lower() == b"host":
            hosts.append(value)
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            codings.append(value)
        elif len(name) == 14 and name.lower() == b"content-length":
            lengths.append(value)
        elif len(name) == 7 and name.lower() == b"upgrade":
            upgrades.append(value)
    return hosts, codings, lengths, upgrades


def is_length(value: bytes) -> bool:
    """A Content-Length that every reader takes for the same number."""
    return value.isdigit() and len(value) <= LENGTH_DIGITS_MAX


def is_host(value: bytes) -> bool:
    """A name or address with an optional port (RFC 9112, 3.2)."""
    return _HOST.fullmatch(value) is not None


def _coding_fault(version: tuple[int, int], codings: list[bytes], lengths: list[bytes]) -> str | None:
    # Two readers that disagree on the last coding disagree on where the next request begins.
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        return "Transfer-Encoding is not exactly: chunked"
    if version == (1, 0):
        return "Transfer-Encoding in HTTP/1.0"
    return "Transfer-Encoding with Content-Length" if lengths else None
