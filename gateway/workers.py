"""The parent of a gateway's workers: it holds the listening sockets, and starts, watches, rolls and ends them.

Theory of operation
    State: for each slot the worker that serves it. The parent serves nothing itself and knows nothing of rooms, so little in it
    can fail; the sockets are its own, so connections that wait to be accepted outlive any worker.
    A worker is this program again, with its part as an argument. Between them is a channel: the worker says when it serves, the
    parent says when a reload was refused, and when it ends, the worker sees the end of the channel and stops as if asked to.
    A roll (SIGHUP, once the new configuration was found good) replaces one worker after the other: the next one must serve before
    the old one is asked to stop, and that one has its grace. A worker that does not come up ends the roll; the old ones stay.
    A worker that dies is replaced at once, or after a pause that grows while they die young. One whose loop no longer turns does
    not die of it, and the kernel goes on handing it connections: each says every second that it is alive, and is ended when it
    was silent for `SILENT_S`, after it has written where it stood.
    When it fails: a worker's end loses its own requests in flight. If the first workers cannot start, the gateway does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from gateway import logs
from gateway.errors import StartError, WaitroomError
from gateway.metrics import Loss, ParentMetrics
from gateway.model import Config
from gateway.part import ALIVE_S, REFUSED, REPLACED, SERVING, Part, kept
from gateway.scrape import Folder
from gateway.systemd import Service
from gateway.tasks import Owner
from gateway.web.listener import CLOSE_S
from gateway.web.sockets import bind_both

log = logging.getLogger("waitroom.workers")

FOLDER: Final = "workers"
PARENT: Final = "parent"  # whose figures stand beside those of the workers
NOT_STARTED: Final = "the first workers did not start"
READY_S: Final = 30.0  # a worker that has not begun to serve by then is given up
MARGIN_S: Final = 5.0
SILENT_S: Final = (
    15.0  # a loop that stands so long has every deadline of its clients behind it; a busy machine's does not
)
DUMP_S: Final = 1.0  # to write where it stood
YOUNG_S: Final = 10.0  # who dies younger than this waits for its successor
PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(slots=True, eq=False)
class Worker:
    """One process in its slot."""

    slot: int
    process: asyncio.subprocess.Process
    channel: asyncio.StreamWriter
    began_s: float
    stop_s: float  # what its own configuration allows it, not that of its successor
    came_up: asyncio.Future[bool]  # True: it serves; False: it ended before
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_retired: bool = False  # its end is wanted
    loss: Loss = Loss.DIED  # what its end is, if it was not wanted

    @property
    def pid(self) -> int:
        return self.process.pid


class Parent:
    """`run` until SIGTERM or SIGINT; answers the exit code. `load` reads the configuration anew, or raises WaitroomError."""

    def __init__(self, config: Config, command: Sequence[str], load: Callable[[], Config], service: Service) -> None:
        self._config = config
        self._service = service
        self._kept = kept(config)
        self._command = command
        self._load = load
        self._watches = Owner()  # one for each process
        self._chores = Owner()  # replacing and rolling, which a stop ends at once
        self._alive: set[Worker] = set()
        self._slots: dict[int, Worker] = {}
        self._changing = asyncio.Lock()  # of one slot: a roll and a replacement must not both fill it
        self._rolling = asyncio.Lock()
        self._burying = asyncio.Lock()  # the parent's figures have one draft
        self._reload_waits = False  # one that waits will read what is newest: more of them would roll for nothing
        self._is_refused = False  # the last reload, as the next workers have to say, too
        self._folder = Folder(Path(config.server.state_dir) / FOLDER / str(os.getpid()))
        self._metrics = ParentMetrics()
        self._sockets: tuple[socket.socket, ...] = ()
        self._died_young: dict[int, int] = {}  # in a row, by slot

    async def run(self, sockets: tuple[socket.socket, socket.socket]) -> int:
        """`sockets`: public and operator port, listening. Raises StartError: `state_dir` is another gateway's, or nobody's."""
        self._sockets = sockets
        try:
            self._folder.take()
        except OSError as fault:
            raise StartError(_folder_fault(self._folder.path, fault)) from fault
        told: asyncio.Queue[str] = asyncio.Queue()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, told.put_nowait, number.name)
        try:
            self._chores.start(self._start(told), "start")  # a stop is heard meanwhile
            while (why := await told.get()) == signal.SIGHUP.name:
                if not self._reload_waits:
                    self._reload_waits = True
                    self._chores.start(self._reload(), "reload")
            if why == NOT_STARTED:
                return 1
            log.info("stopping", extra={"why": why, "workers": len(self._alive)})
            self._service.say_stopping(max((worker.stop_s for worker in self._alive), default=0.0) + MARGIN_S)
        finally:
            await self._chores.close()
            for sock in self._sockets:  # the last worker's end is the ports' end, too
                sock.close()
            await asyncio.gather(*map(self._retire, self._alive))
            await self._watches.close()
            self._folder.leave()
        return 0

    async def _start(self, told: asyncio.Queue[str]) -> None:
        """The first workers: all of them, or no gateway."""
        workers: list[Worker | None] = [None]
        try:
            async with self._rolling:
                workers = await asyncio.gather(*map(self._launch, range(self._config.server.workers)))
        finally:
            if None in workers:
                told.put_nowait(NOT_STARTED)
        if None not in workers:
            log.info("workers_serving", extra={"workers": len(workers)})
            self._chores.start(self._service.prove_alive(), "watchdog")
            self._service.say_ready(f"{len(workers)} workers serve")

    # --- one worker ---------------------------------------------------------------------------------------------------

    async def _launch(self, slot: int) -> Worker | None:
        """A new worker that has taken over the slot; None where none can be made, it ended before it served, or took too long."""
        try:
            return await self._begin(slot)
        except OSError as fault:  # no file, no memory, no program just now: as if it had ended at once
            log.error("worker_not_started", extra={"slot": slot, "fault": str(fault)})  # noqa: TRY400
            return None

    async def _begin(self, slot: int) -> Worker | None:
        ours, theirs = socket.socketpair()
        fds = [*(one.fileno() for one in (*self._sockets, theirs)), self._kept.fileno()]
        public_fd, operator_fd, channel_fd, config_fd = fds
        folder, of = str(self._folder.path), self._config.server.workers
        part = Part(slot, of, public_fd, operator_fd, channel_fd, config_fd, folder, self._is_refused)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                part.text(),
                pass_fds=fds,
                process_group=0,  # Ctrl-C is for the parent to hear
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        came_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        worker = Worker(
            slot, process, writer, time.monotonic(), self._config.server.stop_grace_s + CLOSE_S + MARGIN_S, came_up
        )
        self._alive.add(worker)
        self._watches.start(self._watch(worker, reader), f"worker {process.pid}")
        await asyncio.wait((came_up,), timeout=READY_S)
        if came_up.done() and came_up.result():
            return worker
        log.error("worker_not_started", extra={"slot": slot, "pid": worker.pid, "status": process.returncode})
        await self._retire(worker, grace_s=0.0)
        return None

    async def _watch(self, worker: Worker, reader: asyncio.StreamReader) -> None:
        """From its first word to its end, when what it counted joins that of the others who ended."""
        if await reader.readline() == SERVING:
            self._slots[worker.slot] = worker
            worker.came_up.set_result(True)
            await listen(worker, reader)
        status = await _end_of(worker)
        if not worker.came_up.done():
            worker.came_up.set_result(False)
        worker.channel.close()
        self._alive.discard(worker)
        worker.ended.set()
        if self._slots.get(worker.slot) is worker:
            del self._slots[worker.slot]
            if not worker.is_retired:
                log.error("worker_died", extra={"slot": worker.slot, "pid": worker.pid, "status": status})
                self._metrics.lost[worker.loss].inc()
                self._chores.start(self._replace(worker), f"slot {worker.slot}")
        try:  # last: nobody who serves depends on a disk
            async with self._burying:
                await asyncio.to_thread(self._folder.bury, str(worker.pid))
                await asyncio.to_thread(self._folder.write, PARENT, list(self._metrics.collect()))
        except (OSError, ValueError) as fault:
            log.error("figures_lost", extra={"pid": worker.pid, "fault": str(fault)})  # noqa: TRY400

    async def _replace(self, dead: Worker) -> None:
        """Another one for a worker that died; successors of those who die young wait longer and longer."""
        slot, began_s = dead.slot, dead.began_s
        while slot not in self._slots and slot < self._config.server.workers:
            young = self._died_young.get(slot, 0) + 1 if time.monotonic() - began_s < YOUNG_S else 0
            self._died_young[slot] = young
            await asyncio.sleep(PAUSES_S[min(young, len(PAUSES_S) - 1)])
            began_s = time.monotonic()
            async with self._changing:
                if slot not in self._slots:
                    await self._launch(slot)

    async def _retire(self, worker: Worker, grace_s: float | None = None, *, is_replaced: bool = False) -> None:
        """Ask it to stop, wait for as long as that may take, then make it."""
        worker.is_retired = True
        if grace_s is None:
            grace_s = worker.stop_s
        if is_replaced:
            worker.channel.write(REPLACED)
        else:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await worker.ended.wait()
        except TimeoutError:
            log.warning("worker_killed", extra={"slot": worker.slot, "pid": worker.pid, "after_s": grace_s})
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            await worker.ended.wait()

    # --- reload -------------------------------------------------------------------------------------------------------

    async def _reload(self) -> None:
        """Roll the workers onto the configuration as it is now; a faulty one is refused, and all stays as it was."""
        async with self._rolling:
            self._reload_waits = False
            self._service.say_reloading()
            try:
                config = await asyncio.to_thread(self._load)
                faults = _fixed_faults(self._config, config)
                if not faults:
                    await self._roll(config, kept(config))
            except (WaitroomError, OSError) as fault:  # also no room for the file that workers read it from
                faults = [str(fault)]
            if faults:
                log.error("reload_refused", extra={"faults": "; ".join(faults)})
                self._refuse()
            told = (
                "the last reload was refused, see the log" if self._is_refused else f"config {self._config.digest[:12]}"
            )
            self._service.say_ready(f"{self._config.server.workers} workers serve; {told}")

    async def _roll(self, config: Config, file: IO[bytes]) -> None:
        before, kept_before, was_refused = self._config, self._kept, self._is_refused
        self._config, self._kept, self._is_refused = config, file, False
        for slot in range(config.server.workers):
            async with self._changing:
                old = self._slots.get(slot)
                new = await self._launch(slot)
            if new is None:
                self._kept.close()
                self._config, self._kept, self._is_refused = before, kept_before, was_refused
                log.error("roll_ended", extra={"slot": slot, "meanwhile": "the workers that it did not reach serve on"})
                self._refuse()
                return
            if old is not None:
                await self._retire(old, is_replaced=True)
        kept_before.close()
        for slot in range(config.server.workers, before.server.workers):
            if slot in self._slots:
                await self._retire(self._slots[slot])
        log.info("reloaded", extra={"workers": config.server.workers, "config": config.digest})

    def _refuse(self) -> None:
        self._is_refused = True
        for worker in self._slots.values():
            worker.channel.write(REFUSED)


async def _end_of(worker: Worker) -> int:
    """Its exit status. One that closed its channel, and does not end in the time that a stop may take, is made to."""
    if worker.came_up.done():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(worker.stop_s):
                return await worker.process.wait()
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
    return await worker.process.wait()


async def listen(worker: Worker, reader: asyncio.StreamReader) -> None:
    """Until its end of the channel is closed; whoever falls silent before is made to end.

    Silence is counted in short waits: while this process, or the machine, stood still it heard nobody.
    """
    silent_s, wait_s = 0.0, min(ALIVE_S, SILENT_S / 4)
    while silent_s < SILENT_S:
        try:
            async with asyncio.timeout(wait_s):
                if not await reader.readline():
                    return
            silent_s = 0.0
        except TimeoutError:
            silent_s += wait_s
        except OSError:
            return  # killed before it had read all: its end all the same
    worker.loss = Loss.HUNG
    with contextlib.suppress(ProcessLookupError):
        worker.process.send_signal(signal.SIGABRT)  # `faulthandler` says where it stood
        log.error("worker_hung", extra={"slot": worker.slot, "pid": worker.pid, "silent_s": SILENT_S})
        await asyncio.sleep(DUMP_S)
        worker.process.kill()  # also one that is stopped


def _fixed_faults(before: Config, after: Config) -> list[str]:
    """What a roll cannot change: the parent's own sockets and folder, and the Redis on which old and new workers must agree."""
    pairs = {
        "server.public": (before.server.public, after.server.public),
        "server.operator": (before.server.operator, after.server.operator),
        "server.state_dir": (before.server.state_dir, after.server.state_dir),
        "redis.url": (before.redis_url, after.redis_url),
    }
    faults = [
        f"{name} cannot change while the gateway runs: restart it" for name, (old, new) in pairs.items() if old != new
    ]
    if after.server.workers < 2:
        faults.append("server.workers cannot become 1 while the gateway runs: restart it")
    return faults


def _folder_fault(path: Path, fault: OSError) -> str:
    if isinstance(fault, BlockingIOError):
        return f"another gateway works in {path.parent.parent}: give each its own server.state_dir"
    return f"cannot write in {path.parent}: {fault.strerror}: make server.state_dir a folder that this user may write"


def run(config: Config, command: Sequence[str], load: Callable[[], Config]) -> int:
    """Serve with `server.workers` processes, each of them `command` with its part. Raises StartError for a port in use."""
    logs.set_up(config.server.log_format)
    service = Service.taken(os.environ, os.getpid())
    sockets = bind_both(config.server, service.sockets)
    try:
        return asyncio.run(Parent(config, command, load, service).run(sockets))
    finally:
        for sock in sockets:
            sock.close()
