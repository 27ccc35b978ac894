"""The exceptions of the project: broken infrastructure and refused configuration. Bad input is a value, never one of these."""

from __future__ import annotations


class WaitroomError(Exception):
    """Base of all of ours; its text is a sentence for a person."""


class ConfigError(WaitroomError):
    """The configuration cannot be used. `faults` lists all of them, each with key, value and what is allowed."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source = source
        self.faults = faults
        super().__init__(f"{source}: {len(faults)} fault(s)\n" + "\n".join(f"  - {fault}" for fault in faults))


class KeyFileError(WaitroomError):
    """A key file is missing, readable by others, too weak or not a key."""


class StartError(WaitroomError):
    """The process cannot start: port in use, Redis refused for its version or policy."""


class Unreachable(WaitroomError):
    """Redis cannot be asked just now: timeout, reset, LOADING, READONLY, TRYAGAIN and the like are all this one thing."""


class Crowded(Unreachable):
    """So many wait for an answer of Redis that one more would only wait: Redis itself may be well."""


class Unknown(Unreachable):
    """The room's root is missing in Redis or was stamped by another server: only `heal` may go on."""
