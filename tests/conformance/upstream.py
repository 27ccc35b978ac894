"""The upstream of the corpus: records every request byte for byte and answers as the case says."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Final

from gateway.tasks import Owner
from tests.conformance.case import OK, Act, Case, Must, Until
from tests.conformance.line import Line

PROBED: Final = OK.replace(b"Length: 2", b"Length: 5")[:-2] + b"probe"
PATIENCE_S: Final = 4.0
SETTLE_S: Final = 1.0
NOBODY: Final = Case("nobody", "", "", (), Must.FREE, "")
_NAME: Final = re.compile(rb"(?im)^x-case: *([\w-]+)")
_LENGTH: Final = re.compile(rb"(?im)^content-length: *(\d+)\r$")
_CHUNKED: Final = re.compile(rb"(?im)^transfer-encoding:.*chunked\r$")
_LAST: Final = re.compile(rb"(?:\A|\r\n)0+\r\n(?:[^\r\n]+\r\n)*\r\n")


@dataclass(slots=True)
class Record:
    """What reached the upstream of one case."""

    case: Case
    requests: list[bytes] = field(default_factory=list)
    part: bytes = b""


class Upstream:
    """`expect` a case, run it, then `settle`: every connection ends, so that nothing is left for the next case."""

    def __init__(self) -> None:
        self._owner = Owner()
        self._server: asyncio.Server | None = None
        self._lines: list[Line] = []
        self._records: dict[str, Record] = {}
        self._latest = Record(NOBODY)
        self.probes = 0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accepted, "127.0.0.1", 0, backlog=1024)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def expect(self, case: Case) -> Record:
        self._latest = self._records[case.name] = Record(case)
        return self._latest

    async def settle(self) -> None:
        """End every connection in order, and wait until the other side has done so, too."""
        until_s = time.monotonic() + SETTLE_S
        for line in self._lines:
            line.end()
        for line in self._lines:
            while not line.is_ended and time.monotonic() < until_s:
                await line.more(until_s - time.monotonic())
            line.close()
        self._lines.clear()

    async def close(self) -> None:
        await self._owner.close()
        for line in self._lines:
            line.reset()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _accepted(self) -> Line:
        line = Line()
        self._lines.append(line)
        self._owner.start(self._serve(line), "serve")
        return line

    async def _serve(self, line: Line) -> None:
        while (head := await self._head(line)) is not None:
            found = _NAME.search(head)
            record = self._records.get(found[1].decode(), self._latest) if found else self._latest
            if b" /open/probe " in head:
                self.probes += 1
                await line.send(PROBED)
                continue
            steps = (Act.BODY, OK) if record.requests or record.part else record.case.answer
            record.part = head
            for step in steps:
                if step is Act.BODY:
                    await self._body(line, head, record)
                else:
                    await line.perform(step, PATIENCE_S)
                if isinstance(step, Until):  # read, and no request
                    line.got.clear()
            await self._body(line, head, record)
            if record.part:  # it ended inside a body
                break
        line.close()

    async def _head(self, line: Line) -> bytes | None:
        while (end := line.got.find(b"\r\n\r\n")) < 0:
            if line.is_ended:
                if line.got:  # not even a head
                    self._latest.part = bytes(line.got)
                return None
            await line.more(PATIENCE_S)
        head = bytes(line.got[: end + 4])
        del line.got[: end + 4]
        return head

    async def _body(self, line: Line, head: bytes, record: Record) -> None:
        """Take the body behind a head, once."""
        if record.part != head:
            return
        while (length := _body_length(head, line.got)) is None or length > len(line.got):
            record.part = head + line.got
            if line.is_ended:
                return
            await line.more(PATIENCE_S)
        record.part = b""
        record.requests.append(head + line.got[:length])
        del line.got[:length]


def _body_length(head: bytes, got: bytearray) -> int | None:
    if _CHUNKED.search(head):
        last = _LAST.search(got)
        return None if last is None else last.end()
    length = _LENGTH.search(head)
    return int(length[1]) if length else 0
