"""A client that sees every byte: requests as cases spell them, answers read strictly, and what is left behind one."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Final

from tests.fuzz.bank import Field

TURNS: Final = 6  # of the loop, in which a gateway that read two requests in one would say more
DEADLINE_S: Final = 30.0  # nothing here takes a second; the machine may
# A version that is refused is refused in its own name: 400 under HTTP/2.0.
_STATUS: Final = re.compile(rb"HTTP/(?:1\.[01]|[12]\.[02](?= 400)) ([1-5][0-9][0-9])(?: [^\r\n\x00]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\x00]*?)[ \t]*")


class Desync(AssertionError):
    """The connection said something that is no answer, or said more than one."""


@dataclass(slots=True)
class Got:
    """One answer, as far as it came. `is_whole`: nobody who reads it would miss anything."""

    status: int
    fields: list[Field] = field(default_factory=list)
    body: bytes = b""
    is_whole: bool = True

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


class Wire:
    """One connection that is kept as long as the gateway keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        return self._streams is not None

    async def ask(self, request: bytes, method: str) -> Got | None:
        """The answer, or None where the connection ended without one."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if reader._buffer:  # type: ignore[attr-defined]  # what nobody asked for is an answer to somebody else
            raise Desync(f"said without being asked: {bytes(reader._buffer)[:200]!r}")  # type: ignore[attr-defined]
        writer.write(request)
        try:
            got, is_kept = await _answer(reader, method)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            return None
        if not is_kept:
            self.close()
        return got

    async def begin(self, request: bytes) -> None:
        """Send a part of a request and go away."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request)
        await writer.drain()
        writer.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _answer(reader: asyncio.StreamReader, method: str) -> tuple[Got, bool]:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        got = _head(head[:-4])
        if got.status >= 200:
            break
    lengths, codings = got.values(b"content-length"), got.values(b"transfer-encoding")
    if len(lengths) > 1 or (lengths and codings) or (codings and codings != [b"chunked"]):
        raise Desync(f"framed twice: {head[:300]!r}")
    is_kept = b"close" not in b",".join(got.values(b"connection")).lower() and head.startswith(b"HTTP/1.1")
    try:
        if method == "HEAD" or got.status in {204, 304}:
            pass
        elif codings:
            async for piece in _chunks(reader):
                got.body += piece
        elif lengths:
            got.body = await reader.readexactly(int(lengths[0]))
        else:
            is_kept = False
            while piece := await reader.read(65_536):
                got.body += piece
    except (ConnectionError, asyncio.IncompleteReadError) as fault:
        got.body += getattr(fault, "partial", b"")
        got.is_whole = is_kept = False
    return got, is_kept


async def _chunks(reader: asyncio.StreamReader):  # type: ignore[no-untyped-def]
    while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
        yield (await reader.readexactly(size + 2))[:-2]
    if await reader.readexactly(2) != b"\r\n":
        raise Desync("trailers nobody announced")


def _head(block: bytes) -> Got:
    start, *lines = block.split(b"\r\n")
    status = _STATUS.fullmatch(start)
    fields = [_FIELD.fullmatch(line) for line in lines]
    if status is None or None in fields:
        raise Desync(f"not an answer's head: {block[:300]!r}")
    return Got(int(status[1]), [(found[1], found[2]) for found in fields if found is not None])
