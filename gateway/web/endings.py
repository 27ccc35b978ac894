"""Owns which request must be its connection's last: one behind which aiohttp's parser loses its way.

It takes the last trailer of a chunked request for the first field of the next one: whoever shares a connection with others,
behind an edge, could write into their requests. And it drops what came in one piece with a request that asks for another
protocol than WebSocket, also half a request, whose rest it then reads as one. `docs/conformance.md` has both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeGuard

from aiohttp import http_parser
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.rules.framing import is_length

Parsed = tuple[http_parser.RawRequestMessage, StreamReader]
PLAIN_END: Final = b"\r\n0\r\n\r\n"  # of a chunked body without trailers, as all but a few write it


class Endings:
    """Follows one connection; `see` what went to its parser."""

    __slots__ = ("_chunked", "_last_bytes")

    def __init__(self) -> None:
        self._chunked: Parsed | None = None  # its end was not seen yet
        self._last_bytes = b""  # received since

    def see(self, data: bytes, new: Sequence[tuple[object, StreamReader]]) -> Iterable[Parsed]:
        """What the connection must end with, now that the parser has made these of `data`."""
        if not new and self._chunked is None:
            return ()
        found: list[Parsed] = []
        if new and self._chunked is not None:  # its end was somewhere in these bytes
            found.append(self._chunked)
            self._chunked = None
        for one in new:
            if is_request(one) and (is_lost(one) or (one[0].chunked and one is not new[-1])):
                found.append(one)
            elif is_request(one) and one[0].chunked:
                self._chunked, self._last_bytes = one, b""
        if self._chunked is not None:
            self._last_bytes = (self._last_bytes + data)[-len(PLAIN_END) :]
            if self._chunked[1].is_eof():
                if self._last_bytes != PLAIN_END:
                    found.append(self._chunked)
                self._chunked = None
        return found


def unseen(new: Iterable[tuple[object, StreamReader]]) -> list[Parsed]:
    """The same of requests whose bytes were not seen: every one that may have lost the parser its way."""
    return [one for one in new if is_request(one) and (one[0].chunked or is_lost(one))]


def is_request(one: tuple[object, StreamReader]) -> TypeGuard[Parsed]:
    """And not what could not be parsed as one."""
    return isinstance(one[0], http_parser.RawRequestMessage)


def is_lost(one: Parsed) -> bool:
    """It asks for another protocol than the one that the parser can come back from."""
    return one[0].upgrade and one[0].headers.get("Upgrade", "").lower() != "websocket"


def body_bytes_of(message: object, payload: StreamReader) -> int | None:
    """How long the body of a parsed head is, None where only its end will tell."""
    if not isinstance(message, http_parser.RawRequestMessage):  # it could not be parsed
        return None
    # A length that is too long for aiohttp's parser leads it to no body at all: the field has the last word.
    length = message.headers.get("Content-Length", "0" if payload is EMPTY_PAYLOAD else "").encode(
        "utf-8", "surrogateescape"
    )
    return int(length) if is_length(length) else None
