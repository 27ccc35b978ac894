"""Owns the reading of the document into tables: each table is judged by itself, and every fault becomes a sentence.

A faulty key does not hide the others: it is set aside, a specimen takes its place, and the rest of the table is read
again, so that what depends on two keys (`relations.py`) is judged wherever both are good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway import schema
from gateway.environment import SECRET_KEYS, allowed

T = TypeVar("T", bound=schema.Table)

TABLE_KEYS: Final[dict[str, type[schema.Table]]] = {
    "[server]": schema.ServerTable,
    "[redis]": schema.RedisTable,
    "[tokens]": schema.TokensTable,
    "[audit]": schema.AuditTable,
    "[[operators]]": schema.OperatorTable,
    "[upstreams.NAME]": schema.UpstreamTable,
    "[[rooms]]": schema.RoomTable,
    "[default]": schema.DefaultTable,
}


@dataclass(frozen=True, slots=True)
class Checked(Generic[T]):
    """A table as read. Keys in `faulty` hold a specimen or their default, and must not be judged any further."""

    key: str
    table: T
    faulty: frozenset[str]

    def has(self, *keys: str) -> bool:
        """Whether all of these can be relied on."""
        return self.faulty.isdisjoint(keys)


@dataclass(slots=True)
class Draft:
    """All tables of the document, good or not."""

    server: Checked[schema.ServerTable]
    redis: Checked[schema.RedisTable]
    tokens: Checked[schema.TokensTable]
    audit: Checked[schema.AuditTable]
    operators: list[Checked[schema.OperatorTable]]
    upstreams: dict[str, Checked[schema.UpstreamTable]]
    rooms: list[Checked[schema.RoomTable]]
    default: Checked[schema.DefaultTable] | None
    faults: list[str] = field(default_factory=list)


def read(document: dict[str, Any], origins: Mapping[str, str]) -> Draft:
    """The document's tables with all faults of their shape. `origins`: keys that an environment variable set."""
    reader = _Reader(origins)
    reader.unknown_keys("", document, schema.ROOT_TABLES)
    server = reader.table(schema.ServerTable, "server", document.get("server", {}))
    redis = reader.table(schema.RedisTable, "redis", document.get("redis", {}))
    tokens = reader.table(schema.TokensTable, "tokens", document.get("tokens", {}))
    audit = reader.table(schema.AuditTable, "audit", document.get("audit", {}))
    operators = [
        reader.table(schema.OperatorTable, f"operators[{index}]", raw)
        for index, raw in enumerate(reader.tables("operators", document.get("operators", [])))
    ]
    upstreams = {
        name: reader.table(schema.UpstreamTable, f"upstreams.{name}", raw)
        for name, raw in reader.named_tables("upstreams", document.get("upstreams", {})).items()
    }
    rooms = [
        reader.table(schema.RoomTable, _room_key(index, raw), raw)
        for index, raw in enumerate(reader.tables("rooms", document.get("rooms")))
    ]
    default = document.get("default")
    checked_default = None if default is None else reader.table(schema.DefaultTable, "default", default)
    return Draft(server, redis, tokens, audit, operators, upstreams, rooms, checked_default, reader.faults)


def _room_key(index: int, raw: object) -> str:
    name = raw.get("id") if isinstance(raw, dict) else None
    return f"rooms.{name}" if isinstance(name, str) and re.fullmatch(r"[a-z0-9.-]{1,63}", name) else f"rooms[{index}]"


class _Reader:
    """Collects the faults while tables are read one after the other."""

    def __init__(self, origins: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self._origins = origins

    def table(self, model: type[T], key: str, raw: object) -> Checked[T]:
        if not isinstance(raw, dict):
            self.faults.append(f"{key} = {shown(raw)}: allowed: a table")
            return Checked(key, model.model_validate(model.SPECIMEN), frozenset(model.model_fields))
        try:
            return Checked(key, model.model_validate(raw), frozenset())
        except ValidationError as refused:
            errors = refused.errors(include_url=False, include_context=False)
        faulty = frozenset(str(error["loc"][0]) for error in errors)
        self.faults += [self._sentence(model, key, error) for error in errors]
        good = {name: value for name, value in raw.items() if name not in faulty}
        return Checked(key, model.model_validate(model.SPECIMEN | good), faulty)

    def tables(self, key: str, raw: object) -> list[object]:
        if isinstance(raw, list) and (raw or key != "rooms"):
            return raw
        place = f"{key}: missing;" if raw is None else f"{key} = {shown(raw)}:"
        self.faults.append(f"{place} allowed: one [[{key}]] table or more")
        return []

    def named_tables(self, key: str, raw: object) -> dict[str, object]:
        if not isinstance(raw, dict) or not raw:
            place = f"{key} = {shown(raw)}:" if raw else f"{key}: missing;"
            self.faults.append(f"{place} allowed: one [{key}.NAME] table or more")
            return {}
        name_allowed = allowed(schema.DefaultTable.model_fields["upstream"])
        for name in raw:
            if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name) is None:
                self.faults.append(f"{key}.{shown(name)}: allowed as a name: {name_allowed}")
        return raw

    def unknown_keys(self, key: str, raw: Mapping[str, object], known: tuple[str, ...]) -> None:
        self.faults += [_unknown(key, name, known) for name in raw if name not in known]

    def _sentence(self, model: type[BaseModel], key: str, error: ErrorDetails) -> str:
        place = key + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])
        owner, limit = _owner_and_limit(model, error["loc"])
        if error["type"] == "extra_forbidden":
            return _unknown(place.rpartition(".")[0], str(error["loc"][-1]), tuple(owner.model_fields))
        if error["type"] == "missing":
            return f"{place}: missing; allowed: {limit}"
        reason = error["msg"].removeprefix("Value error, ") if error["type"] == "value_error" else ""
        told = limit if not reason or reason in limit or limit in reason else f"{limit} ({reason})"
        if (variable := self._origins.get(place.partition("[")[0])) is not None:
            place = f"{place} (from {variable})"
        value = "(not shown: it may hold a password)" if key + f".{error['loc'][0]}" in SECRET_KEYS else None
        return f"{place} = {value or shown(error['input'])}: allowed: {told}"


def _owner_and_limit(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The table that a faulty place is in, and what is allowed at the nearest key that says so."""
    owner, limit = model, ""
    for step in loc:
        found = owner.model_fields.get(step) if isinstance(step, str) else None
        if found is None:
            continue
        limit = allowed(found)
        inner = next((item for item in get_args(found.annotation) if isinstance(item, type)), None)
        if inner is not None and issubclass(inner, schema.Table):
            owner = inner
    return owner, limit


def _unknown(place: str, name: str, known: tuple[str, ...]) -> str:
    """An unknown key. Its value is not shown: it may be a secret written in the wrong place."""
    spelled = name if re.fullmatch(r"[\w-]+", name) else shown(name)
    full = f"{place}.{spelled}" if place else spelled
    if near := get_close_matches(name, known, n=1):
        return f"{full}: unknown key; did you mean {near[0]}?"
    homes = [title for title, model in TABLE_KEYS.items() if name in model.model_fields]
    if homes:
        return f"{full}: unknown key here; it belongs in {' or '.join(homes)}"
    return f"{full}: unknown key; allowed: {', '.join(known)}"


def shown(value: object) -> str:
    """A value as the file would write it, short, without the passwords of URLs and what steers a terminal."""
    if isinstance(value, str):
        text = json.dumps(re.sub(r"//[^\s]*@", "//***@", value), ensure_ascii=False)
        text = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = "[" + ", ".join(shown(item) for item in value[:5]) + (", ...]" if len(value) > 5 else "]")
    elif isinstance(value, datetime | date | time):
        text = value.isoformat()
    else:
        text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
