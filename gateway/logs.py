"""How log lines look: time, level, event, and the event's fields, on one line each, as text (`name=value`) or as JSON.

Events are constant names; what varies is in their fields. Nothing in a field can start a new line or pass for another field.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Final

STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_BARE: Final = re.compile(r"[A-Za-z0-9_.:/@+-]{1,200}\Z")
VALUE_CHARS_MAX: Final = 500


class Fields(logging.Formatter):
    """Appends what was passed as `extra`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the library's name
        fields = [f"{name}={_quoted(value)}" for name, value in vars(record).items() if name not in STANDARD]
        return " ".join([super().formatMessage(record), *fields])


class Json(logging.Formatter):
    """One JSON document a line; numbers stay numbers. `at` is RFC 3339, UTC."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {"at": at, "level": record.levelname, "logger": record.name}
        line["event"] = record.getMessage()
        for name, value in vars(record).items():
            if name not in STANDARD:
                is_plain = value is None or isinstance(value, bool | int | float)
                line[name] = value if is_plain else str(value)[:VALUE_CHARS_MAX]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)


def _quoted(value: object) -> str:
    text = str(value)[:VALUE_CHARS_MAX]
    return text if _BARE.match(text) else json.dumps(text, ensure_ascii=True)


FORMATS: Final[dict[str, type[logging.Formatter]]] = {"text": Fields, "json": Json}


def set_up(form: str = "text", level: int = logging.INFO) -> None:
    """Log to standard error from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level, handlers=[handler], force=True)
