"""What `waitroom audit check` does: reads the record of rooms from files and from Redis, judges it, and says so.

Exit codes: 0 kept, 1 broken, 2 cannot be judged (events are missing, or nothing is there).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.errors import StartError, WaitroomError
from gateway.overview import columns
from gateway.queue.connect import open_redis
from gateway.queue.record import Told, read_file, read_stream
from gateway.rules.audit import TITLES, Judged, Verdict, judge, merge
from gateway.rules.events import Event, instant

log = logging.getLogger("waitroom.audit")
SHOWN_MAX: Final = 20  # violations and gaps in full; the rest is counted


def inquire(files: Sequence[Path], redis_url: str | None, room: str | None) -> tuple[str, int]:
    """What to print, and the exit code."""
    try:
        return _inquire(files, redis_url, room)
    except WaitroomError as fault:
        return f"{fault}\nCANNOT BE JUDGED: not all that was named could be read.", Verdict.UNDECIDED.value
    except MemoryError:
        said = "CANNOT BE JUDGED: the record does not fit into memory; give one room (--room), or fewer files."
        return said, Verdict.UNDECIDED.value
    except Exception:
        log.exception("audit_check_failed")
        return "CANNOT BE JUDGED: the checker failed, which is no verdict; see above.", Verdict.UNDECIDED.value


def _inquire(files: Sequence[Path], redis_url: str | None, room: str | None) -> tuple[str, int]:
    told = {path: read_file(path) for path in files}
    rooms = {one for each in told.values() for one in each.rooms} if room is None else {room}
    stream = asyncio.run(_read(redis_url, room)) if redis_url is not None and room is not None else []
    said = [sentence for path, each in told.items() for sentence in _read_of(path, each)]
    if redis_url is not None:
        said.append(f"read the stream of room {room} in Redis: {len(stream):,} events")
    verdicts: list[Verdict] = []
    for one in sorted(rooms):
        judged = judge(merge(stream, *(each.rooms.get(one, []) for each in told.values())))
        verdicts.append(judged.verdict)
        said += ["", *report(one, judged)]
    if not rooms:
        said.append("CANNOT BE JUDGED: there is no event in what was given.")
    worst = max(verdicts, key=[Verdict.KEPT, Verdict.UNDECIDED, Verdict.BROKEN].index, default=Verdict.UNDECIDED)
    return "\n".join(said).strip("\n"), worst.value


async def _read(url: str, room: str) -> list[Event]:
    if url == "embedded":
        raise WaitroomError(
            "--redis embedded: while its gateway runs, give unix:// and what STATE_DIR/valkey/socket says."
        )
    try:
        connection = await open_redis(url, "")
    except (StartError, ValueError) as fault:
        raise WaitroomError(f"--redis: {fault}") from None
    try:
        return await read_stream(connection, room)
    finally:
        await connection.close()


def _read_of(path: Path, told: Told) -> Iterator[str]:
    counts = [f"{len(events):,} of room {room}" for room, events in sorted(told.rooms.items())]
    yield f"read {path}: {', '.join(counts) or 'it holds no event'}"
    if told.strange_lines:
        yield f"{path}: {told.strange_lines} line(s) were passed over; the first: {told.first_fault}"
    if told.is_cut_short:
        yield f"{path}: the last line is cut short, and was passed over: its writer died, or is writing just now"


def report(room: str, judged: Judged) -> list[str]:
    """The table of a room, what was found, and the verdict in one sentence."""
    lines = [f"room {room}: {sum(judged.kinds.values()):,} events, {judged.first} to {judged.last}"]
    if judged.kinds:
        lines[0] += f", {instant(judged.from_us)} to {instant(judged.until_us)}"
        lines += columns([["promise", "", "judged by", "broken"], *_rows(judged)]).splitlines()
        lines += [f"  {sentence}" for sentence in _remarks(judged)]
    shown = [str(one) for one in judged.violations]
    shown += [
        f"missing: {_range(*gap)}, between {instant(before_us)} and {instant(after_us)}; what they may have changed is not judged"
        for gap, (before_us, after_us) in zip(judged.gaps, judged.gap_times_us, strict=True)
    ]
    shown += [f"two different events bear the number {seq}" for seq in judged.conflicts]
    lines += [f"  - {one}" for one in shown[:SHOWN_MAX]]
    if len(shown) > SHOWN_MAX:
        lines.append(f"  - and {len(shown) - SHOWN_MAX} more")
    return [*lines, _sentence(judged)]


def _rows(judged: Judged) -> Iterator[list[str]]:
    entries = sum(judged.entries.values())
    side = "above" if judged.fullest > 0 else "below"
    fullest = f"; the fullest window was {abs(judged.fullest):.1f} {side} its limit" if entries else ""
    by = {
        1: f"{entries:,} entries ({judged.entries['claim']:,} by claim, {judged.entries['instant']:,} at once){fullest}",
        2: f"{judged.most_active:,} slots taken at most",
        3: f"{judged.kinds['call']:,} moves of the cursor, {judged.kinds['claim']:,} batches at the door",
        4: f"{judged.kinds['join']:,} batches of joins, {judged.kinds['leave']:,} of places given up",
    }
    for number, title in TITLES.items():
        broken = sum(one.promise == number for one in judged.violations)
        yield [str(number), title, by[number], str(broken)]


def _remarks(judged: Judged) -> Iterator[str]:
    if judged.first > 1:
        yield f"begins with event {judged.first}: of those before nothing is known"
    for first, last in judged.left_out:
        why = "left out when a loss of Redis was healed; never given, or lost with it: the files of all gateways say which"
        yield f"{_range(first, last)}: {why}"
    if judged.steps_back:
        yield f"Redis' time stepped back {judged.steps_back} time(s); windows across that are judged by the room's clock alone"
    if judged.asides:
        yield f"{judged.asides:,} claim(s) were overtaken that nobody had tried for half a second"
    if judged.bypassed:
        counts = ", ".join(f"{rule} {count:,}" for rule, count in sorted(judged.bypassed.items()))
        yield f"let past the queue by a rule, which no promise limits: {counts}"


def _range(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"


def _sentence(judged: Judged) -> str:
    missing = sum(last - first + 1 for first, last in judged.gaps)
    match judged.verdict:
        case Verdict.KEPT:
            return "KEPT: promises 1 to 4 held in every event of this record, and none is missing between the first and the last."
        case Verdict.BROKEN:
            return f"BROKEN: {len(judged.violations)} violation(s) of promises 1 to 4."
        case Verdict.UNDECIDED if not judged.kinds:
            return "CANNOT BE JUDGED: there is no event of this room in what was given."
        case Verdict.UNDECIDED if judged.conflicts:
            return "CANNOT BE JUDGED: two records are mixed here, of two Redis masters at once or of a room that began anew."
        case Verdict.UNDECIDED:
            return f"CANNOT BE JUDGED: {missing:,} event(s) are missing; give the other gateways' files, or the stream, too."
