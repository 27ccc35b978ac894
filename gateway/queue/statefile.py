"""Keeps what `heal` needs of a room in a file, so that gateways and Redis may both be restarted without losing the line."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, astuple, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.model import NUMBER_MAX, Memory, SettingsRecord
from gateway.queue.spent import PIECE

log = logging.getLogger("waitroom.state")


class StateFile:
    """One room's file in `state_dir`. A file that cannot be read counts as none, and says so in the log."""

    def __init__(self, folder: Path, room: str) -> None:
        self._path = folder / f"{room}.json"
        self._saving = threading.Lock()  # a loop's thread and the stop may both want to
        self._written: dict[str, Any] | None = None

    def load(self) -> tuple[Memory, SettingsRecord | None, dict[int, int]] | None:
        """The memory, the settings, and the numbers that were spent (as `Spent.pieces` has them); None where there is nothing."""
        try:
            document = json.loads(self._path.read_text())
            record = SettingsRecord(**document["settings"]) if document["settings"] else None
            memory = _checked(Memory(**document["memory"]))
            spent = _pieces(document.get("spent", {}))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            log.warning("state_file_unusable", extra={"file": str(self._path), "fault": str(fault)})
            return None
        else:
            return self._unsealed(memory, document), record, spent

    def _unsealed(self, memory: Memory, document: dict[str, Any]) -> Memory:
        """The seal is good once: were it found again after a crash, numbers given meanwhile would be given twice."""
        opened = replace(memory, sealed_us=0)
        try:
            self._save(document | {"memory": asdict(opened)})
        except OSError as fault:
            log.warning("state_file_unusable", extra={"file": str(self._path), "fault": str(fault)})
            return opened
        return memory

    def save(self, memory: Memory, record: SettingsRecord, spent: Mapping[int, int] = MappingProxyType({})) -> None:
        """Replace the file as a whole, so that a crash leaves the old one. Nothing is written when nothing changed.

        Raises OSError where the disk refuses.
        """
        with self._saving:
            document = {"memory": asdict(memory), "settings": asdict(record) if record.version else None}
            self._save(document | {"spent": {str(piece): f"{bits:x}" for piece, bits in spent.items()}})

    def _save(self, document: dict[str, Any]) -> None:
        if document == self._written:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}.tmp")
        # Who could write it could raise counters and settings: it is its owner's alone, whatever the umask is.
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._written = document


def _pieces(document: dict[str, str]) -> dict[int, int]:
    """Raises ValueError where a number is none, or higher than any that can be given: Redis would refuse it, too."""
    pieces = {int(piece): int(bits, 16) for piece, bits in document.items()}
    if not all(0 <= piece < NUMBER_MAX // PIECE and 0 < bits < 1 << PIECE for piece, bits in pieces.items()):
        raise ValueError("a number that is kept as spent is none")
    return pieces


def _checked(memory: Memory) -> Memory:
    """Raises ValueError where a figure is none: Redis would refuse it at each try to heal."""
    if not all(type(value) is int and value >= 0 for value in astuple(memory)):
        raise ValueError("a figure of the memory is no count")
    return memory
