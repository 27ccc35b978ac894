"""Judges from bytes alone whether they are one whole, plain GET, and whether the next byte of a connection begins a request.

Both exist for the express way (`web/express.py`), which answers the crowd's few fixed questions before aiohttp's parser has seen
them. There must never be two opinions on where a request ends, so both know only the simplest case and say "no" to all else; that
then goes the usual way. A test feeds the same bytes to aiohttp's parser and holds the two together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.rules.framing import is_host

FIELDS_MAX: Final = 64
BYTES_MAX: Final = 16_384
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]{1,5})(?=\r\n|\Z)", re.I)
_PRINTABLE: Final = bytes((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"  # RFC 9110, 5.6.2, in lower case
# A field that frames a body, asks for another protocol or for a connection's end: the usual way knows what to do.
_NOT_PLAIN: Final = frozenset(
    (b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"trailer", b"te", b"proxy-connection")
)
_REPEATED: Final = frozenset((b"x-forwarded-for", b"via"))  # each proxy may add one of its own; nobody here reads them


def plain_fields(data: bytes) -> dict[bytes, bytes] | None:
    """The fields of a whole HTTP/1.1 GET without a body, names in lower case; None for everything that is not quite that.

    The caller has looked at the request line. Any field that comes twice and counts, a folded line, a bare CR or LF, a control
    byte, an odd name or Host: None.
    """
    if not data.endswith(_END) or len(data) > BYTES_MAX:
        return None
    lines = data[:-4].split(b"\r\n")
    count = len(lines)
    # What is left without printable bytes must be the line ends alone: so none stands elsewhere, and none is bare.
    if count > FIELDS_MAX or data.translate(None, _PRINTABLE) != b"\r\n" * (count + 1):
        return None
    fields: dict[bytes, bytes] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        fields[name.lower()] = value.strip(b" \t")
    if len(fields) != count - 1 and not _REPEATED.issuperset(_repeated(lines)):
        return None
    if b"" in fields or b"".join(fields).translate(None, _TOKEN):
        return None
    if not _NOT_PLAIN.isdisjoint(fields) or not is_host(fields.get(b"host", b"")):
        return None
    return fields if fields.get(b"connection", b"keep-alive").lower() == b"keep-alive" else None


def is_whole_post(data: bytes) -> bool:
    """Whether this is one HTTP/1.1 POST and all of its body, of a plain Content-Length, with nothing out of the ordinary."""
    head, end, body = data.partition(_END)
    lengths = _LENGTH.findall(head)
    if not data.startswith(b"POST ") or not end or len(lengths) != 1 or int(lengths[0]) != len(body):
        return False
    return plain_fields(_LENGTH.sub(b"", head) + _END) is not None


def _repeated(lines: list[bytes]) -> set[bytes]:
    """Names of more than one field of a head."""
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    return {name for name in names if names.count(name) > 1}


class Whereabouts(Enum):
    """Where in its requests a connection stands."""

    BETWEEN = "between"  # the next byte begins a request
    IN_HEAD = "in head"
    IN_BODY = "in body"
    UNKNOWN = "unknown"  # chunked, pipelined, upgraded: never to be known again


@dataclass(slots=True)
class Boundary:
    """Follows what a connection sent and what the parser made of it, only as far as it can be sure."""

    at: Whereabouts = Whereabouts.BETWEEN
    _left_bytes: int = 0

    def follow(self, data: bytes, requests: int, body_bytes: int | None) -> None:
        """`data` went to the parser and completed so many heads; the last one's body has `body_bytes`, None: not known."""
        if not data and not requests:  # the parser was only asked to go on
            return
        match self.at:
            case Whereabouts.UNKNOWN:
                return
            case Whereabouts.IN_BODY:
                left_bytes = self._left_bytes - len(data) if not requests else -1
            case Whereabouts.BETWEEN | Whereabouts.IN_HEAD if not requests:
                self.at = Whereabouts.IN_HEAD
                return
            case _:
                left_bytes = self._left_after_head(data, requests, body_bytes)
        self._left_bytes = left_bytes
        if left_bytes < 0:
            self.at = Whereabouts.UNKNOWN
        else:
            self.at = Whereabouts.IN_BODY if left_bytes else Whereabouts.BETWEEN

    def _left_after_head(self, data: bytes, requests: int, body_bytes: int | None) -> int:
        """Bytes of body still to come, negative where that is not sure.

        The first empty line of `data` ends the head, unless the head's own end was cut in two, or empty lines came before it:
        then a later or an earlier one is taken for it. Either way `data` begins with CR or LF. Without a body that does no
        harm, as whatever follows the true end up to an empty line would have been a second head; with one, it is not sure.
        """
        end = data.find(_END)
        if requests != 1 or body_bytes is None or end < 0:
            return -1
        beyond_bytes = len(data) - end - len(_END)
        if not body_bytes:
            return -beyond_bytes
        return body_bytes - beyond_bytes if data[:1] not in b"\r\n" else -1
