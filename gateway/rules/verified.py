"""Remembers admissions that were verified, in bounded memory: verifying one (ES256) takes longer than all else at the gate."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from gateway.model import Admission
from gateway.rules.tokens import READ_BYTES_MAX, Reason, Refusal


@dataclass(slots=True, eq=False)
class Verified:
    """An admission that was verified, and what this gateway remembers about its bearer until it is forgotten."""

    token: Admission
    confirmed: bool = False  # an instant entry's admission came back once
    touched_at: float | None = None  # monotonic seconds of the last touch queued for its lease


class VerifiedCache:
    """Remembers at most `entries_max` verified admissions until they expire, the least recently read forgotten first.

    Verifying one takes 140 us (ES256). Tickets are verified each time: that takes 6, and a crowd's tickets come back so seldom
    that remembering them cost more than it saved.

    An ordered dict, because evicting the oldest key of a plain one walks over all that were evicted before. The key is a
    digest: the texts would be half of a gateway's memory. To be taken for another's, a text would have to hit one of
    2^17 remembered digests of 2^120.
    """

    def __init__(self, verify: Callable[[str, str, int], Admission | Refusal], entries_max: int) -> None:
        self._verify = verify
        self._entries_max = entries_max
        self._entries: OrderedDict[bytes, Verified] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, text: str, room: str, now_s: int) -> Verified | Refusal:
        """The verified admission, from memory if read before. Refusals are not kept: they would push out good ones."""
        if len(text) > READ_BYTES_MAX:
            return Refusal(Reason.TOO_LONG)
        digest = _digest(text)
        entry = self._entries.get(digest)
        if entry is not None:
            if entry.token.room != room:
                return Refusal(Reason.WRONG_ROOM)
            if entry.token.expires_at_s > now_s:
                self._entries.move_to_end(digest)
                return entry
            del self._entries[digest]
        token = self._verify(text, room, now_s)
        return token if isinstance(token, Refusal) else self._keep(digest, token)

    def keep(self, text: str, token: Admission) -> Verified:
        """Remember one that was verified, or has just been minted here."""
        return self._keep(_digest(text), token)

    def _keep(self, digest: bytes, token: Admission) -> Verified:
        entry = Verified(token)
        self._entries[digest] = entry
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
        return entry

    def clear(self) -> None:
        """Forget all: the keys changed."""
        self._entries.clear()


def _digest(text: str) -> bytes:
    """15 bytes: one more would cost 16. Header bytes that are no UTF-8 arrive as lone surrogates."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:15]
