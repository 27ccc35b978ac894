"""One admitted request on its way: what its answer tells the lease, and what the lease adds to its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.model import Admission, Standing
from gateway.rules.headers import Header, encode
from gateway.rules.policy import Forward, Renewal
from gateway.rules.verified import Verified
from gateway.web.desk import Desk

# A cookie may not ride on these: 206 and 304 update or complete what a cache already holds.
NO_COOKIE: Final = frozenset({206, 304})
REMAINING_DIGITS_MAX: Final = 12
NOTHING: Final = (b"",)


@dataclass(slots=True)
class Passage:
    """The admission a request passes with, and the fresh one it brings back, if any."""

    desk: Desk
    admission: Admission
    verified: Verified | None
    fresh: tuple[str, Admission] | None
    uses_headers: bool  # the client keeps its tokens itself

    @classmethod
    def of(cls, desk: Desk, decision: Forward, uses_headers: bool, network: str) -> Passage:
        """With an admission that was brought; renews it as decided."""
        verified, fresh = decision.admission, None
        if decision.renewal is not Renewal.NONE:
            cls._touch(desk, verified, network)
        if decision.renewal is Renewal.REISSUE:
            old = verified.token
            fresh = desk.new_admission(old.id, old.entered_at_s)
        return cls(desk, verified.token, verified, fresh, uses_headers)

    @classmethod
    def entered(cls, desk: Desk, identity: bytes, standing: Standing, uses_headers: bool) -> Passage:
        """With an instant entry, made just now, or made before by a request whose answer was lost."""
        lease_s = standing.detail // 1_000_000
        fresh = desk.new_admission(identity, standing.entered_at_s, lease_s=lease_s, is_instant=True)
        return cls(desk, fresh[1], None, fresh, uses_headers)

    @staticmethod
    def _touch(desk: Desk, verified: Verified, network: str) -> None:
        if verified.token.is_instant and verified.touched_at is None:
            desk.networks.confirmed(network)
        verified.touched_at, verified.confirmed = desk.queue.clock.monotonic(), False

        def on_answer(lease_us: int) -> None:
            verified.confirmed = lease_us > 0

        desk.queue.touch(verified.token, on_answer)

    def on_head(self, status: int, to_client: list[Header], known: Mapping[bytes, list[bytes]]) -> None:
        """Read what the bank says of the lease and the stock, and add what the client is to keep."""
        desk = self.desk
        remaining = known.get(b"waitroom-remaining", NOTHING)[0]
        if remaining.isdigit() and len(remaining) <= REMAINING_DIGITS_MAX:
            desk.queue.note_remaining(int(remaining))
        if known.get(b"waitroom-release", NOTHING)[0] == b"1":
            desk.queue.release_soon(self.admission.id, self.admission.entered_at_s)
            self._release(status, to_client)
            return
        newest = self.fresh[1] if self.fresh is not None else self.admission
        to_client.append((b"Waitroom-Epoch", b"%d" % desk.queue.memory.admission_epoch))
        to_client.append((b"Waitroom-Lease", b"%d" % max(0, newest.expires_at_s - desk.now_s())))
        if self.fresh is None:
            return
        text, admission = self.fresh
        if self.uses_headers:
            self._keep_private(to_client, [("Waitroom-Admission", text)])
        elif status not in NO_COOKIE:
            kept = [("Set-Cookie", desk.set_admission(text, admission))]
            if self.verified is None:
                kept.append(("Set-Cookie", desk.drop_ticket()))
            self._keep_private(to_client, kept)

    def _release(self, status: int, to_client: list[Header]) -> None:
        to_client.append((b"Waitroom-Lease", b"0"))
        if not self.uses_headers and status not in NO_COOKIE:
            self._keep_private(to_client, [("Set-Cookie", self.desk.drop_admission())])

    @staticmethod
    def _keep_private(to_client: list[Header], kept: list[tuple[str, str]]) -> None:
        """An answer that bears a token is for one person: caches have stored and replayed them (`facts.md`)."""
        to_client[:] = [field for field in to_client if field[0].lower() != b"cache-control"]
        to_client += encode([*kept, ("Cache-Control", "private, no-store")])

    def on_alive(self) -> None:
        """A long transfer or WebSocket holds its lease while it lasts."""
        self.desk.queue.touch(self.admission, lambda _lease_us: None)
