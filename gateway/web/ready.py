"""An answer whose head was built beforehand: written in one piece, without aiohttp's own work on headers.

For the few answers that a crowd asks for all the time (polls, the board, the waiting page): building the head for each costs more
than all that is decided about them (`docs/performance.md`).
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Final

from aiohttp import web

JSON_HEAD: Final = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_CLOSE: Final = b"Connection: close\r\n"


class ReadyHead:
    """Status line and fields of an answer; the Date is made once a second."""

    def __init__(self, status_line: str, fields: dict[str, str]) -> None:
        lines = [status_line, "Server: waitroom", *(f"{name}: {value}" for name, value in fields.items())]
        self._opening = "\r\n".join(lines).encode("latin-1") + b"\r\nDate: "
        self._second = -1
        self._dated = b""

    def of(self, body_bytes: int, now_s: float, *cookies: str) -> bytes:
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._dated = self._opening + formatdate(second, usegmt=True).encode() + b"\r\nContent-Length: "
        head = b"%b%d\r\n" % (self._dated, body_bytes)
        for cookie in cookies:
            head += b"Set-Cookie: %b\r\n" % cookie.encode("latin-1")
        return head


class Ready(web.StreamResponse):
    """Head and body as bytes. For HTTP/1.1 requests that are not HEAD and were read whole; `fits` says which."""

    def __init__(self, head: bytes, body: bytes) -> None:  # not StreamResponse's: none of its state is needed
        self._head = head
        self._whole = body
        self._is_kept = True

    @staticmethod
    def fits(request: web.BaseRequest) -> bool:
        return request.version == (1, 1) and request.method != "HEAD" and request.content.is_eof()

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return self._is_kept

    @property
    def status(self) -> int:
        return int(self._head[9:12])  # "HTTP/1.1 200 ..."

    def close_after(self) -> None:
        """The connection ends with this answer."""
        self._is_kept = False

    async def prepare(self, request: web.BaseRequest) -> None:
        if not request.keep_alive:
            self._is_kept = False
        self._writer = request.writer
        transport = request.transport
        if transport is not None:
            end = b"\r\n" if self._is_kept else _CLOSE + b"\r\n"
            transport.write(self._head + end + self._whole)

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait while the client takes nothing: else one that asks on and on would fill our memory."""
        await self._writer.drain()
