"""Log lines: constant events, their facts as fields, one line each."""

from __future__ import annotations

import logging

from gateway.logs import Fields


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
