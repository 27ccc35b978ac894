"""Owns what an operator's merge patch (RFC 7396) makes of a room's overrides: all of it, or every fault at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError, create_model

from gateway.model import Rate
from gateway.relations import burst_fault
from gateway.rules.pacing import SETTING_NAMES
from gateway.schema import RoomTable, Table

_FIELDS: Final = {name: RoomTable.model_fields[name] for name in SETTING_NAMES}
_NAMES: Final = ", ".join(SETTING_NAMES)
# The file's own types judge what would be in force, so that the API never takes what the file would refuse.
_shape: Any = {name: (field.annotation, field) for name, field in _FIELDS.items()}
_Settings: Final = create_model("_Settings", __base__=Table, **_shape)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that cannot be taken: where in the patch (an empty name is the patch itself), and what is allowed."""

    name: str
    allowed: str


def patched(base: Mapping[str, Any], overrides: Mapping[str, Any], patch: object) -> dict[str, Any] | list[Fault]:
    """The overrides after the patch; null takes one back. What is judged is what would then be in force.

    All values are documents: JSON, with the rate as text. A message is merged text by text with the one in force.
    """
    if not isinstance(patch, dict):
        return [Fault("", f"a JSON object with any of {_NAMES}")]
    faults = [Fault(name, f"a setting: {_NAMES}") for name in patch if name not in _FIELDS]
    after = dict(overrides)
    for name in patch.keys() & _FIELDS.keys():
        if patch[name] is None:
            after.pop(name, None)
        elif name == "message":
            after[name] = _merged({**base, **overrides}.get(name), patch[name])
        else:
            after[name] = patch[name]
    in_force = {**base, **after}
    faults += _value_faults(in_force)
    if not faults and patch.keys() & {"burst", "drain_rate"}:
        faults += _relation_faults(in_force, "burst" if "burst" in patch else "drain_rate")
    return faults or after


def _merged(before: object, patch: object) -> object:
    if not isinstance(patch, dict) or not isinstance(before, dict):
        before = {}
    if not isinstance(patch, dict):
        return patch
    return {language: text for language, text in {**before, **patch}.items() if text is not None}


def _value_faults(in_force: Mapping[str, Any]) -> list[Fault]:
    try:
        _Settings.model_validate(in_force)
    except ValidationError as refused:
        names = {str(error["loc"][0]): None for error in refused.errors(include_input=False)}  # each once, in order
        return [Fault(name, f"{_FIELDS[name].description}, or null for the file's own") for name in names]
    return []


def _relation_faults(in_force: Mapping[str, Any], named: str) -> list[Fault]:
    why = burst_fault(in_force["burst"], Rate.parse(in_force["drain_rate"]))
    if why is None:
        return []
    return [Fault(named, f"a burst of {why.removeprefix('allowed: ')} (it is {in_force['burst']})")]
