"""Owns where an answer's body ends: by its length, by chunks, or with the connection (RFC 9112, 6 and 7)."""

from __future__ import annotations

import re
from typing import Final

from gateway.rules.headers import CHUNKED, UNTIL_CLOSE

LINE_MAX: Final = 4096  # a chunk's size and extensions; as much as h11 and nginx put up with
TRAILERS_MAX: Final = 16_384
# 15 digits keep a size under 2^60; one more and readers of 64 bits begin to disagree.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?")


class Body:
    """Takes one body out of what a connection has received; bytes behind it stay in the buffer.

    Trailers are read and dropped, which RFC 9110, 6.5.1 leaves an intermediary free to do.
    """

    __slots__ = ("_is_at_size", "_left", "_trailer_bytes", "is_chunked", "is_done", "is_until_close")

    def __init__(self, length: int) -> None:
        self.is_chunked = length == CHUNKED
        self.is_until_close = length == UNTIL_CLOSE
        self.is_done = length == 0
        self._left = max(length, 0)
        self._is_at_size = True  # chunked: a size line comes next; else data, or the line end behind it
        self._trailer_bytes = -1  # not there yet

    def take(self, buffer: bytearray) -> bytes:
        """What the buffer holds of the body, removed from it; ValueError if it breaks the framing."""
        if self.is_done or not buffer:
            return b""
        if self.is_chunked:
            return self._take_chunks(buffer)
        if self.is_until_close or len(buffer) <= self._left:
            piece = bytes(buffer)
            buffer.clear()
        else:
            piece = bytes(memoryview(buffer)[: self._left])
            del buffer[: self._left]
        if not self.is_until_close:
            self._left -= len(piece)
            self.is_done = self._left == 0
        return piece

    def is_whole_at_close(self) -> bool:
        """True if a connection that ends here has delivered all of the body."""
        return self.is_done or self.is_until_close

    def _take_chunks(self, buffer: bytearray) -> bytes:
        pieces: list[bytearray] = []
        at = 0
        while not self.is_done:
            if self._trailer_bytes >= 0 or self._is_at_size:
                line_end = self._line_end(buffer, at)
                if line_end < 0:
                    break
                self._read_line(bytes(buffer[at:line_end]))
                at = line_end + 2
            elif self._left:
                piece = buffer[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
            else:
                if len(buffer) - at < 2:
                    break
                if buffer[at : at + 2] != b"\r\n":
                    raise ValueError("chunk longer than its size")
                at += 2
                self._is_at_size = True
        del buffer[:at]
        return b"".join(pieces)

    @staticmethod
    def _line_end(buffer: bytearray, at: int) -> int:
        end = buffer.find(b"\r\n", at, at + LINE_MAX)
        if end < 0 and len(buffer) - at >= LINE_MAX:
            raise ValueError("line in chunked coding too long")
        return end

    def _read_line(self, line: bytes) -> None:
        if self._trailer_bytes >= 0:
            self._trailer_bytes += len(line) + 2
            self.is_done = not line
            if self._trailer_bytes > TRAILERS_MAX:
                raise ValueError("trailers too long")
            return
        match = _SIZE.fullmatch(line)
        if match is None:
            raise ValueError("chunk size")
        self._is_at_size = False
        self._left = int(match[1], 16)
        if self._left == 0:
            self._trailer_bytes = 0
