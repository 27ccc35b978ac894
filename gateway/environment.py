"""Owns how the environment stands in for keys of waitroom.toml: `WAITROOM_<TABLE>_<KEY>`, and `..._FILE` for secrets.

`WAITROOM_SERVER_PUBLIC` is `public` of [server]; `WAITROOM_UPSTREAMS_BANK_URLS` is `urls` of [upstreams.bank] (upper
case, "-" as "_"; the upstream must be in the file). Lists are written with commas. `WAITROOM_REDIS_URL_FILE` names a
file that holds the value of `WAITROOM_REDIS_URL`. Rooms and operators are in the file only: they are reviewed, not
injected. A variable of ours that means nothing is a fault, like an unknown key.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from gateway.schema import AuditTable, DefaultTable, RedisTable, ServerTable, Table, TokensTable, UpstreamTable
from gateway.secretfile import read_secret

PREFIX: Final = "WAITROOM_"
TABLES: Final[dict[str, type[Table]]] = {
    "server": ServerTable,
    "redis": RedisTable,
    "tokens": TokensTable,
    "audit": AuditTable,
    "default": DefaultTable,
}
# Secrets that stand in the file as they are. The others are files already (`signing_key_file`).
SECRET_KEYS: Final = frozenset({"redis.url"})

FILE_ONLY: Final = ("rooms", "operators")
MEANT_CUTOFF: Final = 0.9  # WAITROOM_SEVER_PUBLIC is meant for us, WAITROOM_VERSION is not

# Orchestrators tell every container about services named "waitroom-redis" in variables of this form: not for us.
_INJECTED = re.compile(r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$")


def variables(upstreams: typing.Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Every variable of ours and the place in the document that it sets; `..._FILE` of secrets left out."""
    places: dict[str, tuple[str, ...]] = {}
    for table, model in TABLES.items():
        places.update({f"{PREFIX}{table}_{key}".upper(): (table, key) for key in model.model_fields})
    for name in upstreams:
        spelled = f"{PREFIX}UPSTREAMS_{name.replace('-', '_')}"
        places.update({f"{spelled}_{key}".upper(): ("upstreams", name, key) for key in UpstreamTable.model_fields})
    return places


def overlay(document: dict[str, Any], environ: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    """Write the environment's values into `document`; returns which variable set which key, for fault messages."""
    upstreams = document.get("upstreams")
    places = variables(upstreams if isinstance(upstreams, dict) else ())
    origins: dict[str, str] = {}
    for variable in sorted(environ):
        if not _is_ours(variable, places) or (variable not in places and _INJECTED.search(variable)):
            continue
        try:
            place, text = _place_and_text(variable, environ, places)
            value = _typed(place, text, variable)
        except ValueError as fault:
            faults.append(f"{variable}: {fault}")
            continue
        table: Any = document
        for step in place[:-1]:
            table = table.setdefault(step, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):  # else the file itself is at fault there, and says so
            table[place[-1]] = value
            origins[".".join(place)] = variable
    return origins


def _is_ours(variable: str, places: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether it names a table of ours, or seems to be meant so; what else begins like our name is somebody else's."""
    tables = (*TABLES, "upstreams", *FILE_ONLY)
    return variable.startswith(tuple(f"{PREFIX}{table}_".upper() for table in tables)) or (
        variable.startswith(PREFIX) and bool(get_close_matches(variable, places, n=1, cutoff=MEANT_CUTOFF))
    )


def _place_and_text(
    variable: str, environ: Mapping[str, str], places: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], str]:
    if (place := places.get(variable)) is not None:
        return place, environ[variable]
    if variable.startswith(tuple(f"{PREFIX}{table}_".upper() for table in FILE_ONLY)):
        raise ValueError("unknown variable: rooms and operators are in the file only")
    direct = variable.removesuffix("_FILE")
    place = places.get(direct)
    if direct != variable and place is not None and ".".join(place) in SECRET_KEYS:
        if direct in environ:
            raise ValueError(f"{direct} is set too; allowed: one of the two")
        if not environ[variable]:
            raise ValueError('""; allowed: the name of a file')
        try:
            return place, read_secret(Path(environ[variable])).decode()
        except ValueError as fault:
            raise ValueError(f"{environ[variable]} {fault}") from None
    near = get_close_matches(variable, places, n=1)
    raise ValueError(
        "unknown variable" + (f"; did you mean {near[0]}?" if near else "; allowed: those in docs/configuration.md")
    )


def _typed(place: tuple[str, ...], text: str, variable: str) -> object:
    """The text as TOML would have brought it: a list, a number, or the text itself."""
    model = TABLES[place[0]] if len(place) == 2 else UpstreamTable
    field = model.model_fields[place[-1]]
    annotation = field.annotation
    if typing.get_origin(annotation) is list:
        return [item.strip() for item in text.split(",") if item.strip()]
    is_written_as_text = any(type(note).__name__ == "BeforeValidator" for note in field.metadata)
    if annotation is int and not is_written_as_text:
        if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) is None:
            raise ValueError(f'"{text}"; allowed: {allowed(field)}')
        return int(text)
    if annotation is float and not is_written_as_text:
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text, re.ASCII) is None:
            raise ValueError(f'"{text}"; allowed: {allowed(field)}')
        return float(text)
    return text


def allowed(field: FieldInfo) -> str:
    """What may stand there: the description of the field, or of the type within its "or nothing"."""
    if field.description is not None:
        return field.description
    for option in typing.get_args(field.annotation):
        for note in getattr(option, "__metadata__", ()):
            if isinstance(note, FieldInfo) and note.description is not None:
                return note.description
    raise AssertionError(f"a field of schema.py says nothing of what is allowed: {field!r}")
