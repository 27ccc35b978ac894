"""Owns background tasks: who starts one through an `Owner` is sure that it is cancelled and awaited at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

log = logging.getLogger("waitroom")

RECANCEL_S: Final = 0.1


class Owner:
    """Holds strong references to its tasks until they end; `close` cancels and awaits what is left."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("task_failed", extra={"task": task.get_name()}, exc_info=fault)

    async def close(self) -> None:
        """Cancel every task and wait until each has ended."""
        while self._tasks:
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            # Again, as long as one lives: `asyncio.wait_for` of Python 3.11, which redis-py uses for every command it
            # sends, loses a cancellation that comes at the moment the send is done.
            await asyncio.wait(tasks, timeout=RECANCEL_S)
