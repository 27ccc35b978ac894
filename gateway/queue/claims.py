"""Holds the claims that the door keeps waiting, and asks the door again for all of them in few calls.

A claim that only the door refuses is held up to 10 s. Every pass sends the newcomers, the lowest numbers (they are next),
and those whose hold in Redis would lapse; so the door sorts all gateways' claims, at a bounded cost each pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import Unreachable
from gateway.model import ClaimTry, Code, Standing, Ticket
from gateway.queue.store import RoomStore

HOLD_S: Final = (
    6.0,
    10.0,
)  # spread, so that a cohort does not come back at once; then 202: proxies and phones end silent requests at 30 to 60 s
PASS_S: Final = 0.05  # 10 s of claims at 1,000/s is one entry of 50 per pass
PASS_MIN_S: Final = 0.005
RENEW_S: Final = 0.7  # the door drops what nobody renewed within 2 s: two chances before
BATCH_MAX: Final = 200  # 22 us each at the worst: under 5 ms a script
LOWEST_MAX: Final = 150  # tried at every pass; more than any gateway's share of a pass's entries
HELD_MAX: Final = 20_000
CROWDED: Final = "busy"  # as many are held as may be: come again


@dataclass(slots=True)
class _Held:
    ticket: Ticket
    until_s: float
    sent_at_s: float = float("-inf")
    waiters: list[asyncio.Future[Standing]] = field(default_factory=list)
    last: Standing | None = None


class Claims:
    """The claims this gateway holds for one room. `monotonic` in seconds."""

    def __init__(self, store: RoomStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._held: dict[bytes, _Held] = {}
        self._gone: list[ClaimTry] = []
        self._arrived = asyncio.Event()
        self.is_shut = False  # the upstream takes nobody: the claims wait here, and the door is not asked

    def __len__(self) -> int:
        return len(self._held)

    async def claim(self, ticket: Ticket) -> Standing:
        """Wait for the door, 10 s at most; HELD then means: keep the turn and try again. Raises Unreachable."""
        held = self._held.get(ticket.id)
        if held is None:
            if len(self._held) >= HELD_MAX:
                # The door is not asked: the board knows whether it is called.
                return Standing(Code.WAITING, ticket.number, reason=CROWDED)
            held = self._held[ticket.id] = _Held(ticket, self._monotonic() + hold_s(ticket.id))
        future: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        held.waiters.append(future)
        self._arrived.set()
        try:
            return await future
        finally:
            held.waiters.remove(future)
            if not held.waiters and self._held.get(ticket.id) is held:
                self._withdraw(held)

    def _withdraw(self, held: _Held) -> None:
        del self._held[held.ticket.id]
        if held.sent_at_s > float("-inf") and not (held.last and held.last.code is not Code.HELD):
            self._gone.append(withdrawal(held.ticket))
            self._arrived.set()

    async def step(self) -> float:
        """One pass, as soon as anything is held; seconds until the next. A failure is told to those who wait here."""
        await self._arrived.wait()
        started = self._monotonic()
        try:
            await self._pass(started)
        except Unreachable as fault:  # the next claim tries again
            self._fail(fault)
        except Exception:
            self._fail(Unreachable("the door could not be asked"))
            raise
        if not self._held and not self._gone:
            self._arrived.clear()
        return max(PASS_MIN_S, PASS_S - (self._monotonic() - started))

    async def _pass(self, now_s: float) -> None:
        self._expire(now_s)
        self._gone = [one for one in self._gone if one.id not in self._held]  # it came back meanwhile
        gone, self._gone = self._gone[:BATCH_MAX], self._gone[BATCH_MAX:]
        chosen = [] if self.is_shut else self._choose(now_s)
        for start in range(0, len(chosen), BATCH_MAX):
            await self._send(chosen[start : start + BATCH_MAX], now_s)
        if gone:
            await self._store.claim(gone)

    def _choose(self, now_s: float) -> list[_Held]:
        """New ones and the lowest first, then those due for renewal; in the order of their numbers."""
        by_number = sorted(self._held.values(), key=lambda held: held.ticket.number)
        return [held for i, held in enumerate(by_number) if i < LOWEST_MAX or now_s - held.sent_at_s >= RENEW_S]

    async def _send(self, chosen: list[_Held], now_s: float) -> None:
        tries = [ClaimTry(held.ticket.id, held.ticket.number, held.ticket.epoch) for held in chosen]
        for held in chosen:
            held.sent_at_s = now_s
        for held, standing in zip(chosen, await self._store.claim(tries), strict=True):
            held.last = standing
            if standing.code is not Code.HELD:
                self._resolve(held, standing)

    def _expire(self, now_s: float) -> None:
        for held in [held for held in self._held.values() if now_s >= held.until_s]:
            self._resolve(held, self._unanswered(held))
            self._gone.append(withdrawal(held.ticket))  # the door must not keep a permit for who is told to come again

    def _unanswered(self, held: _Held) -> Standing:
        """What is known of a claim whose hold ends. One that the door was never asked for may not even be called."""
        if held.last is None:
            return Standing(Code.WAITING, held.ticket.number)
        return Standing(Code.HELD, held.ticket.number, reason="upstream" if self.is_shut else held.last.reason)

    def _resolve(self, held: _Held, standing: Standing) -> None:
        self._held.pop(held.ticket.id, None)
        for future in held.waiters:
            if not future.done():
                future.set_result(standing)

    def _fail(self, fault: Unreachable) -> None:
        for held in list(self._held.values()):
            self._held.pop(held.ticket.id, None)
            for future in held.waiters:
                if not future.done():
                    future.set_exception(type(fault)(*fault.args))


def hold_s(identity: bytes) -> float:
    """How long this claim is held, by the hazard of its id."""
    low_s, high_s = HOLD_S
    return low_s + (high_s - low_s) * identity[0] / 255


def withdrawal(ticket: Ticket) -> ClaimTry:
    return ClaimTry(ticket.id, ticket.number, ticket.epoch, is_withdrawn=True)
