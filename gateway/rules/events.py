"""Owns how an event of a room's record is written: by the scripts (`tell` in root.lua), and as a line of JSON.

A script tells at most one event a call, as one text: kind, number, Redis' time, the room's clock (both microseconds) and epoch, a
space between; then lists of whole numbers, the figures first, each ended by ";"; then a tail, which is text or the hexes of
ids (8 bytes each) one after the other. What each kind has is `SHAPES`; what it means is docs/audit.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

ID_BYTES: Final = 16
LINE_BYTES_MAX: Final = 1_048_576  # 500 ids and numbers are 20 KB


@dataclass(frozen=True, slots=True)
class Shape:
    """What an event of a kind has. `ids`: the groups of its tail, and the figure or list that says how many; '' is the rest."""

    figures: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    ids: tuple[tuple[str, str], ...] = ()
    has_text: bool = False


DOOR: Final = ("rate", "burst", "active_max", "active")
SHAPES: Final[Mapping[str, Shape]] = {
    "join": Shape(
        ("first", "count"),
        ("seated", "replaced"),
        (("new", "count"), ("seated", "seated"), ("called", "")),
    ),
    "call": Shape(("passed_before", "passed", "looked"), ("called",)),
    "claim": Shape(
        (*DOOR, "lease_us"),
        ("arrived", "entered", "reserved", "aside"),
        (("arrived", "arrived"), ("entered", "entered"), ("gone", "")),
    ),
    "enter": Shape((*DOOR, "lease_us", "ahead"), ("places", "tickets"), (("entered", "places"),)),
    "leave": Shape((), ("places", "tickets"), (("left", "places"),)),
    "release": Shape(("freed",), (), (("released", ""),)),
    "back": Shape((), (), (("back", ""),)),
    "upkeep": Shape(
        ("first", "count"),
        ("lapsed_at_us", "absent"),
        (("new", "count"), ("lapsed", "lapsed_at_us"), ("absent", "absent"), ("gone", "")),
    ),
    "settings": Shape(("rate", "burst", "active_max", "paused", "stock", "version"), has_text=True),
    "stock": Shape(("left",)),
    "reset": Shape(("voids_admissions", "ended", "passed"), has_text=True),
    "heal": Shape(
        ("had", "known", "lost", "next", "passed", "hold_us", "active", "rate", "burst", "active_max", "paused")
    ),
    "respend": Shape(("told",), ("removed",)),
    "bypass": Shape(has_text=True),
}
HEAD: Final = ("room", "seq", "kind", "at_us", "clock_us", "epoch")


class NotAnEvent(ValueError):
    """A text or a line that is none of ours; it says why."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `ids` are the second hexes of visitors' ids in hex: the last 16 digits of the UUID."""

    seq: int
    kind: str
    at_us: int  # Redis' time
    clock_us: int  # the room's own
    epoch: int
    figures: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text: str = ""


def entered(event: Event) -> tuple[str, ...]:
    """Who entered by it."""
    return event.ids.get("entered", ())


def instant(at_us: int) -> str:
    """Redis' time as RFC 3339 in UTC, to the microsecond."""
    try:
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)
    except OverflowError:
        return f"{at_us} us"
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse(told: bytes) -> Event:
    """Read what a script told. Raises NotAnEvent."""
    kind, _, rest = told.partition(b" ")
    shape = SHAPES.get(kind.decode("ascii", "replace"))
    if shape is None:
        raise NotAnEvent(f"there is no kind of event {kind[:20]!r}")
    parts = rest.split(b" ", 4)
    try:
        seq, at_us, clock_us, epoch = map(int, parts[:4])
        *lists, tail = parts[4].split(b";", len(shape.lists) + bool(shape.figures))
        rows = [tuple(map(int, row.split())) for row in lists]
        figures = dict(zip(shape.figures, rows.pop(0), strict=True)) if shape.figures else {}
        named = dict(zip(shape.lists, rows, strict=True))
        ids = _ids(shape, figures, named, b"" if shape.has_text else tail)
    except (ValueError, IndexError) as fault:
        raise NotAnEvent(f"an event of kind {kind.decode()} is cut short or garbled: {fault}") from None
    text = tail.decode("utf-8", "replace") if shape.has_text else ""
    return Event(seq, kind.decode(), at_us, clock_us, epoch, figures, named, ids, text)


def _ids(
    shape: Shape, figures: Mapping[str, int], lists: Mapping[str, tuple[int, ...]], tail: bytes
) -> dict[str, tuple[str, ...]]:
    if len(tail) % ID_BYTES:
        raise ValueError("an id is 16 bytes")
    hexes = [tail[i : i + ID_BYTES].hex() for i in range(0, len(tail), ID_BYTES)]
    groups: dict[str, tuple[str, ...]] = {}
    for name, source in shape.ids:
        count = len(hexes) if not source else figures[source] if source in figures else len(lists[source])
        if count > len(hexes):
            raise ValueError(f"{count} {name} are announced, {len(hexes)} follow")
        groups[name], hexes = tuple(hexes[:count]), hexes[count:]
    if hexes:
        raise ValueError(f"{len(hexes)} ids too many")
    return groups


def line(room: str, event: Event) -> bytes:
    """The event as a line of JSON; groups of nobody are left out."""
    head = (room, event.seq, event.kind, event.at_us, event.clock_us, event.epoch)
    document: dict[str, Any] = dict(zip(HEAD, head, strict=True)) | dict(event.figures)
    document |= {name: row for name, row in event.lists.items() if row}
    document |= {f"{name}_ids": row for name, row in event.ids.items() if row}
    if event.text:
        document["text"] = event.text
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def read_line(text: bytes) -> tuple[str, Event]:
    """The room and the event of a line. Raises NotAnEvent."""
    if len(text) > LINE_BYTES_MAX:
        raise NotAnEvent("a line is longer than any of ours")
    try:
        document = json.loads(text)
        room, seq, kind, at_us, clock_us, epoch = (document[name] for name in HEAD)
        shape = SHAPES[kind]
        figures = {name: _whole(document[name]) for name in shape.figures}
        lists = {name: tuple(map(_whole, document.get(name, ()))) for name in shape.lists}
        ids = {name: tuple(map(_hex, document.get(f"{name}_ids", ()))) for name, _ in shape.ids}
        head = [_whole(value) for value in (seq, at_us, clock_us, epoch)]
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        raise NotAnEvent(f"a line is no event ({type(fault).__name__}: {str(fault)[:80]})") from None
    if not isinstance(room, str):
        raise NotAnEvent("a line is no event: its room is no text")
    for name, source in shape.ids:
        count = None if not source else figures[source] if source in figures else len(lists[source])
        if count is not None and count != len(ids[name]):
            raise NotAnEvent(f"a line is no event: {count} {name} are announced, {len(ids[name])} follow")
    return room, Event(head[0], kind, head[1], head[2], head[3], figures, lists, ids, str(document.get("text", "")))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _hex(value: Any) -> str:
    if not isinstance(value, str) or len(bytes.fromhex(value)) != ID_BYTES:
        raise ValueError(f"{value!r} is no id")
    return value
