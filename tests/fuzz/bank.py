"""An upstream that records every request byte for byte, by the number of its case, and plays the part that the case asks for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Final, cast

CASE: Final = b"x-case"  # the header that numbers requests; nothing the gateway does may take it away
LEAK: Final = b"leaked-by-the-bank"
Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """What the bank answers: head, then the body as it travels; `has_end`: the connection ends after it."""

    name: str
    head: bytes
    sent: bytes = b""
    body: bytes = b""  # what a client must read of a whole one
    status: int = 200
    is_whole: bool = True
    has_end: bool = False


def _head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


_LEAKS: Final = tuple(
    f"{name}: {LEAK.decode()}"
    for name in ("Waitroom-Subject", "waitroom-internal", "WAITROOM_ROOM", "Waitroom-Signature", "Waitroom-Ticket")
)
PARTS: Final = {
    part.name: part
    for part in (
        Part("counted", _head("200 OK", "Content-Length: 4", "Cache-Control: public, max-age=60"), b"bank", b"bank"),
        Part("chunked", _head("200 OK", "Transfer-Encoding: chunked"), b"2\r\nba\r\n2;x=1\r\nnk\r\n0\r\n\r\n", b"bank"),
        Part("until close", _head("200 OK"), b"bank", b"bank", has_end=True),
        Part("no content", _head("204 No Content"), status=204),
        Part("not modified", _head("304 Not Modified", 'ETag: "1"'), status=304),
        Part("partial", _head("206 Partial Content", "Content-Range: bytes 0-3/9", "Content-Length: 4"), b"bank", b"bank", 206),
        Part("hinted", _head("103 Early Hints", "Link: </a.css>") + _head("200 OK", "Content-Length: 4"), b"bank", b"bank"),
        Part("leaking", _head("200 OK", "Content-Length: 4", "Set-Cookie: SID=1; Path=/", *_LEAKS), b"bank", b"bank"),
        Part("dismissing", _head("200 OK", "Content-Length: 4", "Waitroom-Release: 1"), b"bank", b"bank"),
        Part("sending away", _head("302 Found", "Location: https://bank.example/next", "Content-Length: 0"), status=302),
        Part("short", _head("200 OK", "Content-Length: 400"), b"bank", is_whole=False, has_end=True),
        Part("short chunks", _head("200 OK", "Transfer-Encoding: chunked"), b"4\r\nbank\r\n", is_whole=False, has_end=True),
        Part("half a chunk", _head("200 OK", "Transfer-Encoding: chunked"), b"8\r\nbank", is_whole=False, has_end=True),
        Part("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", is_whole=False, has_end=True),
        Part("nothing", b"", is_whole=False, has_end=True),
        Part("two lengths", _head("200 OK", "Content-Length: 4", "Content-Length: 5"), b"bank", is_whole=False, has_end=True),
        Part("bare line end", b"HTTP/1.1 200 OK\r\nContent-Length: 4\nX: 1\r\n\r\n", b"bank", is_whole=False, has_end=True),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recorded:
    """One whole request as it came."""

    method: bytes
    target: bytes
    fields: tuple[Field, ...]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


class RecordingBank:
    """`parts` says what each case is answered; `seen` what came of it; `strays` what came of none, which is smuggled."""

    def __init__(self) -> None:
        self.parts: dict[int, str] = {}
        self.seen: dict[int, list[Recorded]] = defaultdict(list)
        self.strays: list[bytes] = []
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await self._server.wait_closed()

    def part_of(self, request: Recorded) -> Part:
        number = request.values(CASE)
        if len(number) != 1 or not number[0].isdigit() or int(number[0]) not in self.parts:
            self.strays.append(b" ".join((request.method, request.target, *map(b": ".join, request.fields))))
            return PARTS["counted"]
        self.seen[int(number[0])].append(request)
        return PARTS[self.parts[int(number[0])]]


class _Connection(asyncio.Protocol):
    """Strict: what is not exactly one request after another is a stray."""

    def __init__(self, bank: RecordingBank) -> None:
        self._bank = bank
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by descent
        self._bank._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._bank._connections.discard(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._data += data
        while (found := _request_in(self._data)) is not None:
            request, self._data = found
            part = self._bank.part_of(request)
            self._transport.write(part.head if request.method == b"HEAD" else part.head + part.sent)
            if part.has_end:
                self._transport.close()


def _request_in(data: bytes) -> tuple[Recorded, bytes] | None:
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark:
        return None
    start, *lines = head.split(b"\r\n")
    method, _, target = start.partition(b" ")
    fields = tuple((name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines))
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    if any(name.lower() == b"transfer-encoding" for name, _ in fields):
        found = _unchunked(rest)
        if found is None:
            return None
        body, rest = found
    else:
        length = int(lengths[0]) if lengths else 0
        if len(rest) < length:
            return None
        body, rest = rest[:length], rest[length:]
    return Recorded(method, target.removesuffix(b" HTTP/1.1"), fields, body), rest


def _unchunked(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        size, mark, data = data.partition(b"\r\n")
        if not mark:
            return None
        length = int(size.partition(b";")[0], 16)
        if len(data) < length + 2:
            return None
        if length == 0:
            return body, data[2:]
        body, data = body + data[:length], data[length + 2 :]
