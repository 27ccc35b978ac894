"""Owns the bank's own record of who came in and when: it checks the gateway's signature, one line an entry."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SIGNATURE_AGE_MAX_S: Final = 300  # a signature that was caught on the way is worth nothing for long


@dataclass(frozen=True, slots=True)
class Entry:
    """The first protected request of one visitor. `subject` is '' when nobody vouched for it."""

    subject: str
    account: str
    monotonic_s: float
    wall_s: float


def is_signed(key: bytes, headers: Mapping[str, str], now_s: float) -> bool:
    """Whether `Waitroom-Signature` proves that the gateway let this subject into this room (design, section 8)."""
    parts = dict(part.partition("=")[::2] for part in headers.get("Waitroom-Signature", "").split(","))
    stamp, claimed = parts.get("t", ""), parts.get("v1", "")
    if not key or not (stamp.isascii() and stamp.isdigit()) or abs(now_s - int(stamp)) > SIGNATURE_AGE_MAX_S:
        return False
    text = f"{stamp}.{headers.get('Waitroom-Room', '')}.{headers.get('Waitroom-Subject', '')}"
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), claimed.encode("utf-8", "surrogateescape"))


class EntryLog:
    """The open log file; one JSON line for the first protected request of each visitor, written through at once."""

    def __init__(self, path: Path, key: bytes, monotonic_s: Callable[[], float], wall_s: Callable[[], float]) -> None:
        known = read_entries(path) if path.exists() else []  # a bank that starts again goes on with its log
        self._file = path.open("a", encoding="utf-8")
        self._key = key
        self._monotonic_s = monotonic_s
        self._wall_s = wall_s
        self._seen = {_who(entry.subject, entry.account) for entry in known}
        self.unsigned = 0  # protected requests that nobody vouched for; behind the gateway this must stay 0

    @property
    def entries(self) -> int:
        return len(self._seen)

    def note(self, headers: Mapping[str, str], account: str) -> None:
        """Count a protected request. Without a signature the visitor is known by its account only."""
        subject = headers.get("Waitroom-Subject", "") if is_signed(self._key, headers, self._wall_s()) else ""
        self.unsigned += not subject
        who = _who(subject, account)
        if who in self._seen:
            return
        self._seen.add(who)
        entry = Entry(subject, account, self._monotonic_s(), self._wall_s())
        self._file.write(json.dumps(asdict(entry)) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _who(subject: str, account: str) -> str:
    return f"subject {subject}" if subject else f"account {account}"


def read_entries(path: Path) -> list[Entry]:
    """The log as written, in the order of entering."""
    with path.open(encoding="utf-8") as lines:
        return [Entry(**json.loads(line)) for line in lines]
