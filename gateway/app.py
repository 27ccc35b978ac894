"""Composition root: wires the parts of one gateway process, starts and stops them in order; the only wall clock.

Order of start: keys, ports, Redis, loops, listeners. An unreachable Redis does not stop the start: what is not
protected and who is admitted pass, newcomers are held, and the loops go on as soon as it answers. Order of stop: not
ready any more, answers that ask for a new connection elsewhere, `stop_grace`, then no new connections, then what is in
flight, then the loops: nothing that was begun is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import ipaddress
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from gateway import logs
from gateway.drain import Drain
from gateway.errors import StartError, Unreachable
from gateway.instruments import Instruments
from gateway.metrics import Metrics, Shed
from gateway.model import Config, Memory, SettingsRecord
from gateway.notation import address_text
from gateway.part import Part, shared
from gateway.queue.clock import RedisClock
from gateway.queue.connect import Connection, open_redis, refusal
from gateway.queue.record import RecordFile
from gateway.queue.room import RoomQueue
from gateway.queue.statefile import StateFile
from gateway.queue.store import RoomStore
from gateway.rules.keys import load_key_file
from gateway.rules.routes import Routes
from gateway.rules.tokens import Keyring
from gateway.rules.verified import VerifiedCache
from gateway.scrape import Folder, render
from gateway.systemd import Service
from gateway.tasks import Owner
from gateway.web.control import Control
from gateway.web.desk import Desk
from gateway.web.gate import Gate, Surroundings
from gateway.web.listener import CLOSE_S, Limits, Listener
from gateway.web.operator import OperatorPort
from gateway.web.site import Site
from gateway.web.sockets import NOBODYS, bind_both
from gateway.web.upstream import Upstreams

if TYPE_CHECKING:
    from gateway.web.tracing import Tracer

log = logging.getLogger("waitroom")

ADMISSIONS_REMEMBERED: Final = 100_000  # 55 MB a process when full
STATE_S: Final = 5.0
FIGURES_S: Final = 1.0  # what a worker that is killed may have counted in vain
PROBE_S: Final = 1.0
START_PROBE_S: Final = 0.5
# Requests leave few cycles behind, and 100,000 remembered tokens make each full collection dear: 5 of 45 us a poll.
GC_THRESHOLD: Final = (25_000, 10, 50)
REPLACED_WHY: Final = "replaced"  # in a roll, where siblings serve on
FIRST_BOARD_S: Final = 0.005  # how often it is looked for at the start
FLUSH_S: Final = 1.0
END_S: Final = 5.0  # more than what a stop does after its last request takes, with a Redis that answers
FILES_BESIDE: Final = 400  # Redis, listeners, logs, connections to upstreams that rest


class Gateway:
    """One process: `start`, then `stop`."""

    def __init__(self, config: Config, part: Part | None = None, held: Mapping[str, socket.socket] = NOBODYS) -> None:
        self._part = part
        self._held = held  # ports that systemd listens on for us
        self.config = config = config if part is None else shared(config, part.of)
        self.is_stopping = False
        self.owner = Owner()
        self.metrics = Metrics(config.rooms, config.upstreams)
        self._folder = None if part is None else Folder(Path(part.folder))
        self.instruments = Instruments(self.metrics, share=1.0 if part is None else 1.0 / part.of)
        self.keyring = read_keys(config)
        self._connection: Connection | None = None
        self._upstreams = Upstreams(config.upstreams, now_s=time.time, observer=self.instruments)
        self._desks: dict[str, Desk] = {}
        self._files: dict[str, StateFile] = {}
        path = config.audit_file
        self._record = None if path is None else RecordFile(Path(path), self.instruments.lost_event)
        self._listeners: list[Listener] = []
        self._tracer = open_tracer(config.server.traces)
        self._writer = ThreadPoolExecutor(1)  # of figures: in order, and never two on one draft
        self._said = ("", "")

    async def start(self) -> None:
        """Raises StartError: a port in use, a Redis that may not be used."""
        server = self.config.server
        sockets = self._part.sockets() if self._part is not None else bind_both(server, self._held)
        try:
            await self._start_rooms()
        except BaseException:
            for sock in sockets:
                sock.close()
            await self._end()
            raise
        limits = Limits(header_bytes_max=server.header_bytes_max, connections_max=server.connections_max)
        gate = self._gate()
        refused = partial(self.instruments.shed, Shed.CONNECTION)
        faces = Listener(gate.serve, limits, gate.express.answer, gate.sorting.flow_of, refused)
        self._listeners = [faces, Listener(self._operator_port().handle)]
        for listener, sock in zip(self._listeners, sockets, strict=True):
            await listener.open(sock)
        public, operator = map(_address, sockets)
        log.info("serving", extra={"public": public, "operator": operator})

    async def _start_rooms(self) -> None:
        self._connection = await open_redis(self.config.redis_url, self.config.server.state_dir)
        self._open_rooms(self._connection)
        checked = await self._check_redis()
        self.owner.start(self._run_rooms(checked), "rooms")
        self.owner.start(self._keep_state(), "state")
        if self._folder is not None:
            self.owner.start(self._keep_figures(self._folder), "figures")
        self.owner.start(self._follow_master(self._connection), "master")
        self._show()
        # The first visitors should find the rooms as they are, not as if they had never been heard of.
        until_s, desks = time.monotonic() + START_PROBE_S, self._desks.values()
        while checked and any(desk.queue.board is None for desk in desks):
            await asyncio.sleep(FIRST_BOARD_S)
            checked = time.monotonic() < until_s

    async def stop(self, why: str = "asked") -> None:
        log.info("stopping", extra={"why": why, "grace_s": self.config.server.stop_grace_s})
        self.is_stopping = True
        self._upstreams.begin_lame_duck()
        for listener in self._listeners:
            listener.begin_lame_duck()
            if why == REPLACED_WHY:  # its siblings accept; who connected here has the whole grace to ask
                listener.accept_no_more()
        await asyncio.sleep(self.config.server.stop_grace_s)
        await asyncio.gather(*(listener.close(CLOSE_S) for listener in self._listeners))
        await self._flush()
        await self.owner.close()
        await self._seal()
        await self._end()
        self._save_state(self._known())
        if self._folder is not None:
            with contextlib.suppress(OSError):
                await self._write_figures(self._folder)
        log.info("stopped")

    async def _flush(self) -> None:
        """What travels in batches and was not sent yet: releases, stock, marks, touches, and who was let past."""
        for room, desk in self._desks.items():
            try:
                async with asyncio.timeout(FLUSH_S):
                    await desk.queue.flush_releases()
                    await desk.queue.flush_marks()
                    await desk.queue.bypassed.flush()
            except (Unreachable, TimeoutError) as fault:
                log.warning("not_flushed", extra={"room": room, "fault": str(fault)})

    async def _seal(self) -> None:
        """The embedded server is ours alone: a room's last write, found again at the next start, proves that nothing was lost."""
        if self._connection is not None and self._connection.server is not None:
            for room, desk in self._desks.items():
                try:
                    await desk.queue.seal()
                except Unreachable as fault:
                    log.warning("not_sealed", extra={"room": room, "fault": str(fault)})

    async def _end(self) -> None:
        await self.owner.close()
        await self._upstreams.close()
        if self._tracer is not None:
            await self._tracer.close(FLUSH_S)
        if self._record is not None:
            self._record.close()
        if self._connection is not None:
            await self._connection.close()

    @property
    def ports(self) -> tuple[int, int]:
        """Public and operator port, as bound."""
        return self._listeners[0].port, self._listeners[1].port

    def is_ready(self) -> bool:
        return not self.is_stopping

    # --- parts --------------------------------------------------------------------------------------------------------

    def _open_rooms(self, connection: Connection) -> None:
        clock = RedisClock(time.monotonic, time.time() - time.monotonic())
        admissions = VerifiedCache(self.keyring.read_admission, ADMISSIONS_REMEMBERED)
        for room in self.config.rooms:
            on_event = None if self._record is None else self._record.write
            on_call, on_refused = self.instruments.asked_redis, self.instruments.lost_event
            queue = RoomQueue(RoomStore(connection, room, on_call, on_event, on_refused), clock, self.owner)
            file = self._files[room.id] = StateFile(Path(self.config.server.state_dir), room.id)
            if (kept := file.load()) is not None:
                queue.recall(*kept)
            self._desks[room.id] = Desk(
                queue, self.keyring, admissions, self.instruments, https=self.config.server.https
            )

    def _gate(self) -> Gate:
        config = self.config
        trusted = tuple(ipaddress.ip_network(text) for text in config.server.trusted_proxies)
        server = config.server
        here = Surroundings(
            Routes.build(config),
            config.upstreams,
            trusted,
            server.https,
            server.makes_request_ids,
            server.access_log,
            self._tracer,
        )
        site = Site(self.keyring, self.is_ready)
        return Gate(here, self._desks, self._upstreams, site.serve, self.instruments, time.time)

    def _operator_port(self) -> OperatorPort:
        host = self.config.server.operator[0]
        control = Control(self._desks)
        return OperatorPort(control, self.config.operators, host, self._scraped, self.is_ready)

    async def _scraped(self, accept: str) -> tuple[bytes, str]:
        """What this process counted, or all workers of the gateway together."""
        if self._folder is None:
            return render(self.metrics.collect(), accept)
        await self._write_figures(self._folder)
        return render(await asyncio.to_thread(self._folder.read), accept)

    def _show(self) -> None:
        self.metrics.show_config(self.config.digest)
        self.metrics.show_keys(self.keyring.signing.kid, [key.kid for key in self.keyring.verifying])
        for name, metrics in self.metrics.upstreams.items():
            metrics.watch_in_flight(lambda name=name: self._upstreams.in_flight(name))  # type: ignore[misc]
        for room, desk in self._desks.items():
            self.metrics.rooms[room].watch_board_age(desk.queue.board_age_s)

    # --- Redis and the loops ------------------------------------------------------------------------------------------

    async def _check_redis(self) -> bool:
        """True when this Redis may be used; False when it cannot be asked yet."""
        assert self._connection is not None
        try:
            async with asyncio.timeout(START_PROBE_S):
                refused = await refusal(self._connection)
        except (Unreachable, TimeoutError) as fault:
            self._say_once("redis_unreachable", str(fault))
            return False
        if refused is not None:
            raise StartError(f"this Redis may not be used: {refused}")
        return True

    def _say_once(self, event: str, fault: str) -> None:
        """At each try the same is no news."""
        if (event, fault) != self._said:
            self._said = (event, fault)
            log.warning(event, extra={"fault": fault, "meanwhile": "newcomers are held, tried again every second"})

    async def _run_rooms(self, checked: bool) -> None:
        while not checked:
            await asyncio.sleep(PROBE_S)
            try:
                checked = await self._check_redis()
            except StartError as fault:  # it came up wrong: newcomers stay held, and the log says why
                log.error("redis_refused", extra={"fault": str(fault)})  # noqa: TRY400
        for desk in self._desks.values():
            upstream = desk.room.upstream
            drain = Drain(desk.queue, lambda name=upstream: self._upstreams.is_healthy(name), self.instruments)  # type: ignore[misc]
            drain.start(self.owner)

    async def _follow_master(self, connection: Connection) -> None:
        while connection.sentinels:
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(Unreachable):  # no sentinel answers: the master at hand is still the best guess
                await connection.follow()

    async def _keep_state(self) -> None:
        while True:
            await asyncio.sleep(STATE_S)
            await asyncio.to_thread(self._save_state, self._known())

    async def _keep_figures(self, folder: Folder) -> None:
        while True:
            try:
                await self._write_figures(folder)
            except OSError as fault:
                log.error("figures_not_written", extra={"fault": str(fault)})  # noqa: TRY400
            await asyncio.sleep(FIGURES_S)

    async def _write_figures(self, folder: Folder) -> None:
        figures = list(self.metrics.collect())
        await asyncio.get_running_loop().run_in_executor(self._writer, folder.write, str(os.getpid()), figures)

    def _known(self) -> dict[str, tuple[Memory, SettingsRecord, dict[int, int]]]:
        """What is to be kept of each room, as it is now: files are written by another thread."""
        queues = {room: desk.queue for room, desk in self._desks.items()}
        return {room: (queue.memory, queue.record, queue.spent.pieces()) for room, queue in queues.items()}

    def _save_state(self, known: dict[str, tuple[Memory, SettingsRecord, dict[int, int]]]) -> None:
        for room, file in self._files.items():
            try:
                file.save(*known[room])
            except OSError as fault:
                log.error("state_not_saved", extra={"room": room, "fault": str(fault)})  # noqa: TRY400


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return address_text((host, port))


def _raise_file_limit(config: Config) -> None:
    """Every connection is an open file: raise what may be raised, and say what that will not be enough for."""
    wanted = config.server.connections_max + sum(one.max_in_flight for one in config.upstreams.values()) + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "open_files_limited", extra={"allowed": allowed, "wanted": wanted, "cure": "LimitNOFILE= or ulimit -n"}
        )


def open_tracer(share: float) -> Tracer | None:
    if not share:
        return None
    from gateway.web.tracing import Tracer  # noqa: PLC0415 - an extra, whose presence the configuration has looked for

    return Tracer(share)


def read_keys(config: Config) -> Keyring:
    """Raises KeyFileError."""
    signing = load_key_file(Path(config.tokens.signing_key_file))
    verifying = [load_key_file(Path(name)) for name in config.tokens.verify_key_files]
    return Keyring(signing, verifying, config.tokens.issuer)


def serve(config: Config, part: Part | None = None) -> int:
    """Run a gateway, or one worker of it, until SIGTERM or SIGINT. Raises StartError and KeyFileError before it serves."""
    logs.set_up(config.server.log_format)
    service = Service.taken(os.environ, os.getpid())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, part, service))


async def _serve(config: Config, part: Part | None, service: Service) -> int:
    gateway = Gateway(config, part, service.sockets)
    _raise_file_limit(gateway.config)
    told: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.put_nowait, number.name)
    loop.add_signal_handler(signal.SIGHUP, log.warning, "no_reload_without_workers")
    await gateway.start()
    gc.freeze()  # modules and pages live as long as the process: no collection need look at them
    gc.set_threshold(*GC_THRESHOLD)
    if part is not None:
        with contextlib.suppress(RuntimeError, OSError, ValueError):  # standard error may be closed
            faulthandler.enable()  # for a parent that ends a worker whose loop stands still
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # that end leaves no file with the keys in it
        if part.is_refused:
            gateway.metrics.show_failed_reload()
        gateway.owner.start(
            part.follow(
                gateway.metrics.show_failed_reload,
                partial(told.put_nowait, REPLACED_WHY),
                partial(told.put_nowait, "the parent ended"),
            ),
            "channel",
        )
    gateway.owner.start(service.prove_alive(), "watchdog")
    service.say_ready("serving")
    why = await told.get()
    service.say_stopping(config.server.stop_grace_s + CLOSE_S + FLUSH_S * len(config.rooms) + END_S)
    await gateway.stop(why)
    return 0
