"""A room's record outside of the scripts: the file that a gateway writes before it answers, and the ways to read it again.

Theory of operation
    The scripts number each event and keep it in a stream of bounded length. Where a file is configured, what this process
    caused is appended to it before the caller gets its answer: one write a line, so that the workers of a gateway share a
    file. When it fails the gateway serves on, says so once in the log and counts each line; the numbers show the gap, and the
    stream still has those events. A file that was moved away (logrotate) is made anew.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import WaitroomError
from gateway.queue.connect import Connection
from gateway.queue.store import RoomStore
from gateway.rules.events import LINE_BYTES_MAX, Event, NotAnEvent, line, parse, read_line

log = logging.getLogger("waitroom.record")

STREAM_PAGE: Final = 500  # events a call: 2 MB at the worst
READ_STREAM: Final = "return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])"


class RecordFile:
    """A gateway's own file, JSON lines. `on_lost` is told the room of each event that could not be written."""

    def __init__(self, path: Path, on_lost: Callable[[str], None]) -> None:
        self._path = path
        self._on_lost = on_lost
        self._file: int | None = None
        self._is_torn = False  # the file ends within a line
        self._is_failing = False

    def write(self, room: str, event: Event) -> None:
        """Append the event, and come back when the system has it. Never raises."""
        try:
            self._append(line(room, event))
        except OSError as fault:
            self._on_lost(room)
            self._close()
            if not self._is_failing:
                log.error("audit_not_written", extra={"file": str(self._path), "fault": str(fault)})  # noqa: TRY400
            self._is_failing = True
            return
        if self._is_failing:
            log.info("audit_written_again", extra={"file": str(self._path)})
        self._is_failing = False

    def _append(self, text: bytes) -> None:
        file = self._open()
        text = b"\n" + text if self._is_torn else text
        self._is_torn = (written := os.write(file, text)) < len(text)
        if self._is_torn:
            raise OSError(f"{written} of {len(text)} bytes were taken")

    def _open(self) -> int:
        """The open file, or a new one where it was moved or removed."""
        if self._file is not None:
            try:
                if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
                    return self._file
            except FileNotFoundError:
                pass
            self._close()
        file = self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(file).st_size
        self._is_torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"  # a crash has cut it short
        return file

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        self._close()


class Bypassed:
    """Requests let past the queue by a rule. They ask Redis nothing, so they are counted here, and told once a second."""

    def __init__(self, store: RoomStore) -> None:
        self._store = store
        self._counts: Counter[str] = Counter()

    def note(self, rule: str) -> None:
        self._counts[rule] += 1

    async def flush(self) -> None:
        """Tell the record; what fails is told again. Raises Unreachable."""
        counts, self._counts = self._counts, Counter()
        try:
            if counts and self._store.room.audit_bytes:
                await self._store.tell_bypassed(counts)
        except BaseException:
            self._counts += counts
            raise


@dataclass(slots=True)
class Told:
    """What a file tells: the events of each room, and what in it is none of ours."""

    rooms: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    strange_lines: int = 0
    first_fault: str = ""
    is_cut_short: bool = False  # the last line is not whole: its writer died, or is writing just now


def read_file(path: Path) -> Told:
    """Raises WaitroomError where the file cannot be read."""
    told = Told()
    try:
        with path.open("rb") as file:
            while text := file.readline(LINE_BYTES_MAX + 1):
                is_whole = text.endswith(b"\n")
                if not text.strip():
                    continue
                try:
                    room, event = read_line(text)
                except NotAnEvent as fault:
                    told.is_cut_short = not is_whole and len(text) <= LINE_BYTES_MAX
                    told.strange_lines += not told.is_cut_short
                    told.first_fault = told.first_fault or ("" if told.is_cut_short else str(fault))
                    continue
                told.rooms[room].append(event)
    except OSError as fault:
        raise WaitroomError(f"{path} cannot be read: {fault.strerror}.") from None
    return told


async def read_stream(connection: Connection, room: str) -> list[Event]:
    """What the stream of a room still holds. Raises Unreachable, and WaitroomError where it is none of ours."""
    events: list[Event] = []
    after = "-"
    while True:
        rows = await connection.run("0" * 40, READ_STREAM, [f"waitroom:{{{room}}}:audit"], [after, STREAM_PAGE])
        try:
            events += [parse(fields[1]) for _, fields in rows]
        except (NotAnEvent, ValueError, IndexError) as fault:
            raise WaitroomError(f"the stream of room {room} holds what is no event: {fault}.") from None
        if len(rows) < STREAM_PAGE:
            return events
        after = f"({rows[-1][0].decode()}"
