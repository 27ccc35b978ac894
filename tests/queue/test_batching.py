"""Batches: one script for many requests, and nobody left without an answer whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.errors import Crowded, Unknown, Unreachable
from gateway.model import Contact, Standing
from gateway.queue import batching
from gateway.queue.batching import BATCH_MAX, IN_FLIGHT_MAX, PENDING_MAX, Batcher
from gateway.tasks import Owner
from tests.queue.conftest import Scene, ident


class Doubler:
    """A send that answers when told to; it remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.open = asyncio.Event()
        self.fault: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.sent.append(list(items))
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return [2 * item for item in items]


def batcher(send: Doubler, owner: Owner) -> Batcher[int, int]:
    return Batcher(send, owner, "double")


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_one_turn_asks_travels_in_one_call() -> None:
    """Promise 15: joins of one event-loop turn cost one script."""
    owner, send = Owner(), Doubler()
    send.open.set()
    asked = batcher(send, owner)
    assert await asyncio.gather(*(asked.submit(i) for i in range(200))) == [2 * i for i in range(200)]
    assert [len(batch) for batch in send.sent] == [200]
    await owner.close()


async def test_batches_and_calls_in_flight_are_bounded() -> None:
    """Promise 15: no script gets more than its limit, and no more calls fly than Redis can use."""
    owner, send = Owner(), Doubler()
    asked = batcher(send, owner)
    waiting = [asyncio.ensure_future(asked.submit(i)) for i in range(5 * BATCH_MAX)]
    await turns()
    assert [len(batch) for batch in send.sent] == [BATCH_MAX] * IN_FLIGHT_MAX
    send.open.set()
    assert await asyncio.gather(*waiting) == [2 * i for i in range(5 * BATCH_MAX)]
    assert max(len(batch) for batch in send.sent) == BATCH_MAX
    await owner.close()


async def test_too_much_waiting_is_refused_at_once() -> None:
    """Promise 12: a limit on everything: who cannot be asked for in time hears so now."""
    owner, send = Owner(), Doubler()
    asked = batcher(send, owner)
    waiting = [asyncio.ensure_future(asked.submit(i)) for i in range(PENDING_MAX)]
    await asyncio.sleep(0)  # all have asked; the first batch goes in the next turn
    with pytest.raises(Unreachable, match="already wait"):
        await asked.submit(-1)
    send.open.set()
    assert await asyncio.gather(*waiting) == [2 * i for i in range(PENDING_MAX)]
    await owner.close()


async def test_a_client_that_goes_away_cancels_its_own_wait_only() -> None:
    """Promise 4: a cancelled request does not cancel the script that others share (57 of 62 cancelled EVALSHA ran)."""
    owner, send = Owner(), Doubler()
    asked = batcher(send, owner)
    gone, stays = (asyncio.ensure_future(asked.submit(i)) for i in (1, 2))
    await turns()
    gone.cancel()
    await turns()
    send.open.set()
    assert await stays == 4
    assert gone.cancelled()
    assert send.sent == [[1, 2]]
    await owner.close()


async def test_who_leaves_before_the_call_is_not_asked_for() -> None:
    """Promise 15: a request that has gone costs Redis nothing."""
    owner, send = Owner(), Doubler()
    asked = batcher(send, owner)
    gone = asyncio.ensure_future(asked.submit(1))
    await asyncio.sleep(0)
    gone.cancel()
    stays = asyncio.ensure_future(asked.submit(2))
    send.open.set()
    assert await stays == 4
    assert [item for batch in send.sent for item in batch if item == 1] in ([], [1])
    await owner.close()


async def test_who_waited_too_long_for_a_slow_redis_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 4, overload: a deadline on every wait, also where each call takes long and none fails."""
    monkeypatch.setattr(batching, "WAIT_MAX_S", 0.05)
    owner, send = Owner(), Doubler()
    asked = batcher(send, owner)
    first = [asyncio.ensure_future(asked.submit(i)) for i in range(BATCH_MAX * IN_FLIGHT_MAX)]
    await turns()
    behind = asyncio.ensure_future(asked.submit(7))
    await asyncio.sleep(0.1)
    newest = asyncio.ensure_future(asked.submit(8))
    await turns()
    send.open.set()
    assert len(await asyncio.gather(*first)) == BATCH_MAX * IN_FLIGHT_MAX
    with pytest.raises(Crowded):
        await behind
    assert await newest == 16
    await owner.close()


@pytest.mark.parametrize("fault", [Unreachable("gone"), Unknown("flushed")])
async def test_a_failure_reaches_everyone_in_the_batch_as_what_it_is(fault: Unreachable) -> None:
    """Promise 8: each waiting request learns that Redis cannot be asked, and the next batch goes on."""
    owner, send = Owner(), Doubler()
    send.fault = fault
    send.open.set()
    asked = batcher(send, owner)
    settled = await asyncio.gather(*(asked.submit(i) for i in range(3)), return_exceptions=True)
    assert [type(one) for one in settled] == [type(fault)] * 3
    assert len({id(one) for one in settled}) == 3, "each gets its own exception"
    send.fault = None
    assert await asked.submit(4) == 8
    await owner.close()


async def test_a_broken_answer_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 8: too few results break an invariant: it is logged, and every request is answered all the same."""
    owner = Owner()

    async def short(items: Sequence[int]) -> Sequence[int]:
        return list(items)[1:]

    asked: Batcher[int, int] = Batcher(short, owner, "short")
    async with asyncio.timeout(1):
        settled = await asyncio.gather(*(asked.submit(i) for i in range(3)), return_exceptions=True)
    assert all(isinstance(one, Unreachable) for one in settled)
    assert "task_failed" in caplog.text
    await owner.close()


async def test_closing_answers_everyone_who_waits() -> None:
    """Promise 11: at the end of the process nobody hangs: neither in flight, nor pending, nor just started."""
    owner, send = Owner(), Doubler()
    asked = batcher(send, owner)
    waiting = [asyncio.ensure_future(asked.submit(i)) for i in range(4 * BATCH_MAX)]
    await turns()
    async with asyncio.timeout(2):
        await owner.close()
        settled = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, Unreachable) for one in settled)


async def test_a_thousand_joins_at_once_reach_the_room_in_order(scene: Scene) -> None:
    """Promise 3: batches of one gateway go out in the order in which the joins came."""
    owner = Owner()
    asked: Batcher[Contact, Standing] = Batcher(scene.store.check_in, owner, "check-in")
    standings = await asyncio.gather(*(asked.submit(Contact(ident(i))) for i in range(1, 1001)))
    assert sorted(one.number for one in standings) == list(range(1, 1001))
    await owner.close()
