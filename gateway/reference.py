"""Owns the table of all settings, as `waitroom check --settings` prints it and docs/configuration.md has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic.fields import FieldInfo

from gateway import notation, schema
from gateway.draft import TABLE_KEYS
from gateway.environment import allowed

PARTS: Final[dict[str, type[schema.Table]]] = {
    "[[rooms]] match": schema.MatchTable,
    "[[rooms]] bypass": schema.BypassTable,
}

# What holds where a key is left out and the schema has no value for it: it follows from others, or there is none.
LEFT_OUT: Final = {
    "ca_file": "those of the system",
    "signing_key_file": "requests are not signed",
    "file": "none",
    "host": "every host of ours",
    "path": "none",
    "source": "none",
    "name": "what the rule says",
    "entry": "the first route",
    "max_in_flight": "60 % of the upstream's",
    "burst": "one second of the rate, 2 at least",
    "stock": "no limit",
    "opens_at": "always open",
    "closes_at": "never",
    "board_poll": "not at all",
    "customer_header": "none",
    "customer_secret_file": "none",
}


def reference() -> str:
    """Every setting as Markdown, one table for each table of the file."""
    tables = (*TABLE_KEYS.items(), *PARTS.items())
    return "\n\n".join("\n".join(_rows(title, table)) for title, table in tables)


def _rows(title: str, table: type[schema.Table]) -> Iterator[str]:
    assert table.__doc__ is not None
    yield f"**`{title}`**: {table.__doc__.removeprefix(f'{title}: ')}"
    yield ""
    yield "| key | default | allowed |"
    yield "| --- | --- | --- |"
    for key, field in table.model_fields.items():
        yield f"| `{key}` | {_default(key, field)} | {allowed(field).replace('|', chr(92) + '|')} |"


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "has to be given"
    return LEFT_OUT[key] if field.default is None else f"`{_written(field.default, allowed(field))}`"


def _written(value: Any, limit: str) -> str:
    """A default as the file would write it; the words for what is allowed tell durations and sizes from counts."""
    if limit.startswith(notation.DURATION_ALLOWED):
        return json.dumps(notation.duration_text(value))
    if limit.startswith(notation.SIZE_ALLOWED):
        return json.dumps(notation.size_text(value))
    if isinstance(value, tuple):
        return json.dumps(notation.address_text(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return json.dumps(value)
