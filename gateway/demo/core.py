"""Owns the demo bank's bottleneck: a few workers, a transaction that takes its time, and a bounded queue before them.

Theory of operation. Eight workers at 50 ms a transaction are 160 transactions a second, and nothing makes them faster.
Work is done in the order it came. A client that hangs up does not take its work back: the worker finds nobody to
answer only after it has done it, as in any server with a thread for each request. So once the queue is longer than
clients' patience, the workers do nothing but answer people who have gone, who come back and queue again: throughput
stays at 160 a second and goodput falls to nothing. That is what the outages of 2019 and 2021 looked like.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class CoreFullError(Exception):
    """The queue before the workers is full; the request is refused at once."""


class Core:
    """The workers and the queue before them, for one event loop."""

    def __init__(self, workers: int, transaction_s: float, queue_max: int) -> None:
        self._transaction_s = transaction_s
        self._taken_max = workers + queue_max
        self._taken = 0
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bank-core")

    @property
    def taken(self) -> int:
        """Transactions queued or at work."""
        return self._taken

    async def run(self, work: Callable[[], T], look: Callable[[], T | None] | None = None) -> T:
        """Do `work` as one transaction, after the wait. What `look` finds before the wait, if anything, is the answer.

        Raises CoreFullError at once when the queue is full.
        """
        if self._taken >= self._taken_max:
            raise CoreFullError
        self._taken += 1
        job = asyncio.get_running_loop().run_in_executor(self._pool, lambda: self._transact(work, look))
        job.add_done_callback(self._release)
        # Shielded: cancelling the request must not cancel the queued work, which would be a kindness no bank has.
        return await asyncio.shield(job)

    def close(self) -> None:
        """Drop what is queued and wait for what is at work."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _release(self, _job: asyncio.Future[T]) -> None:
        self._taken -= 1

    def _transact(self, work: Callable[[], T], look: Callable[[], T | None] | None) -> T:
        if look is not None and (found := look()) is not None:
            return found
        # The wait stands for the card companies' answers. It is outside the database's write lock: SQLite has one
        # writer, and 50 ms inside it would make eight workers one.
        time.sleep(self._transaction_s)
        return work()
