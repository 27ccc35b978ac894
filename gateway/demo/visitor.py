"""Owns one visitor's life: loads the page, waits in line if there is one, and pays; the same person without a line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.demo.plan import Kind, Plan
from gateway.demo.tally import Journey, Outcome, Tally
from gateway.demo.wire import JOIN_LINK, Answer, Wire

ROUNDS_MAX: Final = 5  # an admission may lapse before it is used; who loses it five times is not unlucky
POLL_DEFAULT_S: Final = 2.0


class _GivingUpError(Exception):
    """Too many failures in a row."""


class Visitor:
    """Lives through one plan against whatever stands at the other end."""

    def __init__(self, plan: Plan, wire: Wire, room: str, tally: Tally) -> None:
        self._plan = plan
        self._wire = wire
        self._base = f"/_waitroom/{room}"
        self._tally = tally
        self._clock = asyncio.get_running_loop().time
        self._has_slept = False
        self._number: int | None = None
        self._position: int | None = None
        self.journey = Journey(plan)

    async def visit(self) -> None:
        """Arrive, and stay until served, gone or cancelled; the journey says which."""
        journey, tally = self.journey, self._tally
        journey.arrived_s = self._clock()
        tally.arrived += 1
        try:
            async with asyncio.timeout(self._plan.leaves_after_s):
                journey.outcome = await self._cash_out()
        except TimeoutError:
            journey.outcome = Outcome.LEFT
        except _GivingUpError:
            journey.outcome = Outcome.GAVE_UP
        except asyncio.CancelledError:
            journey.outcome = Outcome.NO_SHOW if self._plan.kind is Kind.NO_SHOW else Outcome.UNFINISHED
            raise
        finally:
            journey.ended_s = self._clock()
            tally.outcomes[journey.outcome] += 1
            tally.requests += self._wire.requests

    async def _cash_out(self) -> Outcome:
        for _ in range(ROUNDS_MAX):
            page = await self._persist(self._wire.load_page)
            if page.is_held:
                if not await self._wait_in_line(page):
                    return Outcome.TURNED_AWAY
                page = await self._persist(self._wire.load_page)
            if page.status != 200 or page.is_held:
                continue
            if self._plan.kind is Kind.NO_SHOW:
                return Outcome.NO_SHOW
            self._tally.inside += 1
            try:
                await self._pause(self._plan.think_s)
                receipt = await self._persist(self._wire.pay)
            finally:
                self._tally.inside -= 1
            if receipt.status == 200 and not receipt.is_held:
                return Outcome.SERVED
        return Outcome.GAVE_UP

    async def _wait_in_line(self, held: Answer) -> bool:
        """Join and do what the waiting page does until the door lets it in; False if the room says it is over."""
        link = JOIN_LINK.search(held.headers.get("Link", ""))
        join_path = link[1] if link else f"{self._base}/ticket"
        self._tally.waiting += 1
        self._number = self._position = None  # a second wait, after an admission has ended, is another place
        try:
            answer = await self._persist(lambda: self._wire.join(join_path))
            while True:
                if answer.status == 404:  # our ticket is not known any more; the key finds the place again
                    answer = await self._persist(lambda: self._wire.join(join_path))
                status = answer.fields()
                state = self._note(status)
                if state == "admitted":
                    return True
                if answer.status >= 400 or state not in {"waiting", "called", "parked"}:
                    return False
                if state == "called" and self._plan.kind is not Kind.NO_SHOW:
                    answer = await self._claim()
                elif await self._await_poll(status):
                    return True
                else:
                    answer = await self._ask_again(join_path)
        finally:
            self._tally.waiting -= 1

    async def _await_poll(self, status: dict[str, Any]) -> bool:
        """Wait until the next poll is due; who reloads instead may find itself inside: True."""
        poll_after_ms = status.get("poll_after_ms")
        poll_s = poll_after_ms / 1e3 if isinstance(poll_after_ms, int | float) else POLL_DEFAULT_S
        if self._plan.reload_s is None:
            await self._pause(poll_s)
            return False
        await self._pause(min(poll_s, self._plan.reload_s))
        page = await self._persist(self._wire.load_page)
        return page.status == 200 and not page.is_held

    async def _ask_again(self, join_path: str) -> Answer:
        if self._plan.reload_s is not None:  # the reloaded page has forgotten everything but its key
            return await self._persist(lambda: self._wire.join(join_path))
        return await self._persist(lambda: self._wire.read_status(f"{self._base}/status"))

    async def _claim(self) -> Answer:
        if self.journey.claimed_s is None:
            self.journey.claimed_s = self._clock()
        answer = await self._persist(lambda: self._wire.claim(f"{self._base}/admission"))
        if answer.status == 200:
            self.journey.granted_s = self._clock()
        elif answer.status == 202:
            retry_after = answer.headers.get("Retry-After", "")
            await self._pause(float(retry_after) if retry_after.isdecimal() else 1.0)
        return answer

    def _note(self, status: dict[str, Any]) -> str:
        number, position = status.get("number"), status.get("position")
        if isinstance(number, int):
            self._tally.places_changed += self._number not in {None, number}
            self._number = number
            if self.journey.number is None:
                self.journey.number = number
        if isinstance(position, int):
            is_grown = self._position is not None and position > self._position
            self._tally.positions_grown += is_grown and not status.get("cause")
            self._position = position
        return str(status.get("state", ""))

    async def _persist(self, step: Callable[[], Awaitable[Answer]]) -> Answer:
        """Try until it does not fail, as often as this visitor has the nerves for."""
        for _ in range(self._plan.tries):
            answer = await step()
            if not answer.failure:
                return answer
            await self._pause(self._plan.retry_s)
        raise _GivingUpError

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        sleeps_after_s = self._plan.sleeps_after_s
        if sleeps_after_s is None or self._has_slept or self._clock() < self.journey.arrived_s + sleeps_after_s:
            return
        self._has_slept = True
        await asyncio.sleep(self._plan.sleep_s)
