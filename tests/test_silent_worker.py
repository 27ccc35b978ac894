"""A worker says that its loop turns, and is ended when it does not; `tests/faults/test_hung_worker.py` stops a real one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time

import pytest

from gateway import workers
from gateway.metrics import Loss
from gateway.part import ALIVE, SERVING, Part

DEADLINE_S = 20.0


async def test_a_worker_that_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 11: one whose loop stands still does not die of it; whoever is handed to it would wait for ever."""
    monkeypatch.setattr(workers, "SILENT_S", 1.0)
    monkeypatch.setattr(workers, "DUMP_S", 0.1)
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    worker = workers.Worker(0, process, writer, 0.0, 0.0, asyncio.get_running_loop().create_future())
    listening = asyncio.ensure_future(workers.listen(worker, reader))
    try:
        for _ in range(15):  # longer than it may be silent
            theirs.send(ALIVE)
            await asyncio.sleep(0.1)
        assert (process.returncode, worker.loss) == (None, Loss.DIED)
        await asyncio.wait_for(listening, DEADLINE_S)
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == -signal.SIGABRT
        assert worker.loss is Loss.HUNG
    finally:
        listening.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        writer.close()
        theirs.close()


async def test_a_parent_that_stood_still_ends_nobody_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 11: stopped, paused with its machine, or held up by its log, it wakes up with all workers overdue at once."""
    monkeypatch.setattr(workers, "SILENT_S", 0.8)
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    worker = workers.Worker(0, process, writer, 0.0, 0.0, asyncio.get_running_loop().create_future())
    listening = asyncio.ensure_future(workers.listen(worker, reader))
    try:
        for _ in range(3):
            await asyncio.sleep(0.1)
            theirs.send(ALIVE)
            time.sleep(1.5)  # noqa: ASYNC251 - that is the fault
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert (process.returncode, worker.loss, listening.done()) == (None, Loss.DIED, False)
    finally:
        listening.cancel()
        process.kill()
        await process.wait()
        writer.close()
        theirs.close()


async def test_a_worker_says_that_it_is_alive() -> None:
    """Promise 11: every second while its loop turns, and no longer than its parent listens."""
    ours, theirs = socket.socketpair()
    part = Part(0, 2, 0, 0, theirs.detach(), 0, "", is_refused=False)
    ended = asyncio.Event()
    following = asyncio.ensure_future(part.follow(lambda: None, lambda: None, ended.set))
    reader, writer = await asyncio.open_connection(sock=ours)
    async with asyncio.timeout(DEADLINE_S):
        assert [await reader.readline() for _ in range(3)] == [SERVING, ALIVE, ALIVE]
        writer.close()
        await ended.wait()
        await following
