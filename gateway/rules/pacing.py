"""The settings of a room as the door counts them: base and overrides to settings in force, and settings to whole units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from gateway.model import Rate, Room, RoomSettings

SETTING_NAMES: Final = tuple(field.name for field in fields(RoomSettings))
LIVE_LIMITS: Final = frozenset(
    {"rate", "burst", "active_max", "paused", "stock"}
)  # of the limits, what operators change
UNLIMITED: Final = -1  # how the scripts write "no stock known"


def as_document(settings: RoomSettings) -> dict[str, Any]:
    """The settings as JSON values, the way the operator API shows them and Redis keeps them."""
    values: dict[str, Any] = {name: getattr(settings, name) for name in SETTING_NAMES}
    return values | {"drain_rate": str(settings.drain_rate)}


def in_force(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> RoomSettings:
    """What holds now: an override wins over the base. Both are documents that were validated when they were written."""
    values = {name: value for name, value in (dict(base) | dict(overrides)).items() if name in SETTING_NAMES}
    return RoomSettings(**(values | {"drain_rate": Rate.parse(values["drain_rate"])}))


def limits(room: Room, settings: RoomSettings) -> dict[str, int]:
    """The fields the scripts read from `settings`, in units, microseconds and counts."""
    return {
        "rate": settings.drain_rate.units_per_us,
        "burst": settings.burst,
        "active_max": settings.active_max,
        "paused": int(settings.paused),
        "stock": UNLIMITED if settings.stock is None else settings.stock,
        "session": room.session_s * 1_000_000,
        "session_max": room.session_max_s * 1_000_000,
        "claim_window": room.claim_window_s * 1_000_000,
        "absence_max": room.absence_max_s * 1_000_000,
        "waiting_max": room.waiting_max,
        "audit": room.audit_bytes,
        "opens_at": (room.opens_at_s or 0) * 1_000_000,
        "closes_at": (room.closes_at_s or 0) * 1_000_000,
    }
