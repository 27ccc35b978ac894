"""The client of the corpus: sends a case to a program, reads what comes as strictly as a client may, and tells what it saw."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.conformance.case import Case, Observation
from tests.conformance.line import Line
from tests.conformance.upstream import Record, Upstream

PATIENCE_S: Final = 3.0
PROBE: Final = b"GET /open/probe HTTP/1.1\r\nHost: bank.example\r\nX-Case: probe\r\nConnection: close\r\n\r\n"
_START: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n")
_FIELD: Final = re.compile(rb"(?im)^(content-length|transfer-encoding|connection): *([^\r]*)\r$")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;[^\r\n]*)?\r\n")


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    body: bytes
    is_whole: bool
    is_last: bool  # it said that the connection ends, or only the end can end it

    @property
    def is_final(self) -> bool:
        return self.status >= "200" or self.status == "101"


def answers_in(got: bytes, methods: tuple[str, ...], *, is_ended: bool, is_reset: bool) -> Iterator[Answer]:
    """The answers that have come, in order; bytes that are none come as one of status `???`."""
    finals = 0
    while got:
        start, end = _START.match(got), got.find(b"\r\n\r\n")
        if start is None or end < 0:
            if start is None and b"\r\n" in got:
                yield Answer("???", got, is_whole=False, is_last=True)
            elif is_ended:
                yield Answer("head", got, is_whole=False, is_last=True)
            return
        head, got, status = got[: end + 2], got[end + 4 :], start[1].decode()
        if status < "200" and status != "101":
            yield Answer(status, b"", is_whole=True, is_last=False)
            continue
        fields = {name.lower(): value.lower() for name, value in _FIELD.findall(head)}
        method = methods[finals] if finals < len(methods) else "GET"
        finals += 1
        is_bodiless = method == "HEAD" or status in {"204", "304"}
        if is_bodiless:
            body, rest, is_whole = b"", got, True
        elif status == "101" or (method == "CONNECT" and status == "200"):
            body, rest, is_whole = got, b"", True
        else:
            body, rest, is_whole = _body(fields, got, is_over=is_ended and not is_reset)
        until_close = not is_bodiless and fields.keys().isdisjoint((b"content-length", b"transfer-encoding"))
        is_last = b"close" in fields.get(b"connection", b"") or until_close
        yield Answer(status, body, is_whole, is_last)
        if not is_whole:
            return
        got = rest


def _body(fields: dict[bytes, bytes], got: bytes, *, is_over: bool) -> tuple[bytes, bytes, bool]:
    """A body, what comes behind it, and whether it is whole."""
    if b"transfer-encoding" in fields:
        body = b""
        while (size := _SIZE.match(got)) is not None:
            count, got = int(size[1], 16), got[size.end() :]
            if count == 0:
                end = 2 if got.startswith(b"\r\n") else got.find(b"\r\n\r\n") + 4
                return body, got[end:], end >= 2 and (got.startswith(b"\r\n") or end > 3)
            body += got[:count]
            if got[count : count + 2] != b"\r\n":
                return body, b"", False
            got = got[count + 2 :]
        return body, b"", False
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        return got[:length], got[length:], len(got) >= length
    return got, b"", is_over


class Client:
    """One case before one program."""

    def __init__(self, case: Case, line: Line) -> None:
        self._case = case
        self._line = line
        self._until_s = 0.0

    @property
    def answers(self) -> list[Answer]:
        line = self._line
        found = answers_in(bytes(line.got), self._case.methods, is_ended=line.is_ended, is_reset=line.is_reset)
        return list(found)

    async def run(self) -> str:
        """Send all, read all; what became of the connection."""
        for step in self._case.send:
            await self._line.perform(step, PATIENCE_S)
        self._until_s = time.monotonic() + PATIENCE_S
        await self._read(self._case.answers)
        answers = self.answers
        if answers and (
            answers[-1].status == "101" or (answers[-1].status == "200" and "CONNECT" in self._case.methods)
        ):
            return "tunnel"
        if not self._line.is_ended and answers and answers[-1].is_whole and not answers[-1].is_last:
            count = len([answer for answer in answers if answer.is_final])
            await self._line.perform(PROBE, PATIENCE_S)
            await self._read(count + 1)
        await self._read(1000)
        return self._end()

    def _end(self) -> str:
        answers = self.answers
        if answers and answers[-1].body == b"probe" and answers[-1].is_whole:
            return "kept"
        if any(answer.status == "???" for answer in answers) or b"probe" in self._line.got:
            return "askew"
        return "closed" if self._line.is_ended else "open"

    async def _read(self, finals: int) -> None:
        while not self._line.is_ended:
            answers = [answer for answer in self.answers if answer.is_final]
            if len(answers) >= finals and answers[finals - 1].is_whole:
                return
            if not await self._line.more(self._until_s - time.monotonic()):
                return


async def observe(case: Case, port: int, upstream: Upstream) -> tuple[Observation, Record, bytes]:
    """Run a case, which is placed already: what was observed, what reached the upstream, what reached the client."""
    record = upstream.expect(case)
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(Line, "127.0.0.1", port)
    client = Client(case, line)
    try:
        end = await client.run()
        answers = client.answers
    finally:
        line.reset()
    if not case.is_slow:
        await upstream.settle()
    if end == "kept":
        answers.pop()
    told = tuple(answer.status + ("" if answer.is_whole else " cut") for answer in answers)
    passed = b"".join(record.requests) + record.part
    got = bytes(line.got)
    marks = []
    if _has_any(case.hides, passed) or _has_any(case.lacks, got):
        marks.append("leaks")
    if record.requests and not (_has_all(case.sees, passed) and _has_all(case.gets, got)):
        marks.append("loses")
    return Observation(told, end, len(record.requests), bool(record.part), tuple(marks)), record, got


def _has_any(found: tuple[bytes, ...], text: bytes) -> bool:
    return any(piece.lower() in text.lower() for piece in found)


def _has_all(found: tuple[bytes, ...], text: bytes) -> bool:
    return all(piece.lower() in text.lower() for piece in found)
