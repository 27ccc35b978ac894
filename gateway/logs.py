"""How log lines look: time, level, event, and the event's fields as `name=value`, on one line each.

Events are constant names; what varies is in their fields. Nothing in a field can start a new line or pass for another field.
"""

from __future__ import annotations

import json
import logging
import re
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


def _quoted(value: object) -> str:
    text = str(value)[:VALUE_CHARS_MAX]
    return text if _BARE.match(text) else json.dumps(text, ensure_ascii=True)


def set_up(level: int = logging.INFO) -> None:
    """Log to standard error from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(Fields())
    logging.basicConfig(level=level, handlers=[handler], force=True)
