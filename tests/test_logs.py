"""Log lines: constant events, their facts as fields, one line each."""

from __future__ import annotations

import json
import logging

from gateway.logs import Fields, Json


def line(event: str, **fields: object) -> str:
    record = logging.makeLogRecord({"name": "waitroom", "levelname": "INFO", "msg": event, **fields})
    return Fields().format(record)


def test_fields_follow_the_event() -> None:
    assert line("settings_changed", who="sre", room="cashout").endswith(
        " INFO waitroom settings_changed who=sre room=cashout"
    )


def test_a_hostile_value_can_neither_start_a_line_nor_forge_a_field() -> None:
    """Log injection: a name or message of somebody else's making stays inside its quotes."""
    text = line("room_reset", who="x\n2026-11-22 ERROR waitroom fake who=root")
    assert "\n" not in text
    assert text.endswith('who="x\\n2026-11-22 ERROR waitroom fake who=root"')


def test_a_long_value_is_cut() -> None:
    assert len(line("redis_unreachable", fault="x" * 10_000)) < 1_000


def test_json_is_one_document_a_line_with_numbers_as_numbers() -> None:
    """Issue 5: structured logs. A hostile value stays a value."""
    fields = {"status": 200, "took_ms": 1.5, "is_kept": True, "path": 'x\n{"event": "fake"}', "lines": ("a", "b")}
    record = logging.makeLogRecord(
        {"name": "waitroom", "levelname": "INFO", "msg": "request", "created": 1_000_000_000.25} | fields
    )
    text = Json().format(record)
    assert "\n" not in text
    assert json.loads(text) == {
        "at": "2001-09-09T01:46:40.250Z",
        "level": "INFO",
        "logger": "waitroom",
        "event": "request",
        **(fields | {"lines": "('a', 'b')"}),
    }


def test_json_tells_of_an_exception() -> None:
    fault = ValueError("of ours")
    record = logging.makeLogRecord({"msg": "task_failed", "exc_info": (ValueError, fault, None)})
    assert json.loads(Json().format(record))["exception"].endswith("ValueError: of ours")
