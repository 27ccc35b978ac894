"""What systemd hands to a service and hears from it: listening sockets, and how the service is doing.

`sd_listen_fds(3)` and `sd_notify(3)` written out: a few variables and a datagram a message are less than a library. Everything is
taken once, and the variables with it, so that no child takes for its own what was meant for its parent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Final, Self

from gateway.errors import StartError

log = logging.getLogger("waitroom")

FIRST_FD: Final = 3
FDS_MAX: Final = 16
NAMES: Final = ("public", "operator")
ALLOWED: Final = "allowed: FileDescriptorName=public and FileDescriptorName=operator, one ListenStream= each"


@dataclass(frozen=True, slots=True)
class Service:
    """What systemd gave to this process; as it is by default, nobody did, and nothing is told to anyone."""

    sockets: Mapping[str, socket.socket] = field(default_factory=dict)  # by name; they listen already
    notify_address: str = ""
    watchdog_s: float = 0.0  # how long it may be silent; 0: nobody watches

    @classmethod
    def taken(cls, environ: MutableMapping[str, str], pid: int) -> Self:
        """Raises StartError for sockets that were handed over and are none of ours."""
        names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
        listen_pid, fds, fd_names, notify_address, watchdog_pid, watchdog_us = (environ.pop(name, "") for name in names)
        is_watched = notify_address and watchdog_us.isdecimal() and watchdog_pid in {"", str(pid)}
        return cls(
            sockets=_sockets(fds, fd_names) if listen_pid == str(pid) else {},
            notify_address=notify_address,
            watchdog_s=int(watchdog_us) / 1e6 if is_watched else 0.0,
        )

    # --- what it hears ------------------------------------------------------------------------------------------------

    def say_ready(self, status: str) -> None:
        """At the start, and at the end of every reload, whatever came of it."""
        self._tell("READY=1", f"STATUS={status}")

    def say_reloading(self) -> None:
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def say_stopping(self, allowed_s: float) -> None:
        """`allowed_s`: the longest that an orderly end takes, however short TimeoutStopSec= is."""
        self._tell(
            "STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(allowed_s * 1e6)}", "STATUS=serving on, and then stopping"
        )

    async def prove_alive(self) -> None:
        """Say twice in the watchdog's time that this event loop turns; ends at once where nobody watches."""
        while self.watchdog_s:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 2)

    def _tell(self, *lines: str) -> None:
        if not self.notify_address:
            return
        address = self.notify_address
        if address.startswith("@"):  # how an abstract name is written
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as fault:  # visitors come first: who watches will see the silence
            log.warning("systemd_not_told", extra={"fault": str(fault), "lines": lines})


def _sockets(fds: str, fd_names: str) -> dict[str, socket.socket]:
    if not fds.isdecimal() or int(fds) > FDS_MAX:
        raise StartError(f"systemd hands over LISTEN_FDS={fds[:20]}: {ALLOWED}")
    names = fd_names.split(":") if fd_names else []
    names += [""] * (int(fds) - len(names))
    found: dict[str, socket.socket] = {}
    for fd, name in zip(range(FIRST_FD, FIRST_FD + int(fds)), names, strict=False):
        if name not in NAMES or name in found:
            raise StartError(f"systemd hands over a socket named {name or 'nothing'!r}, or two of one name: {ALLOWED}")
        try:
            sock = socket.socket(fileno=fd)
            is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as fault:
            raise StartError(f"systemd hands over no socket as {name}: {fault.strerror}") from None
        if not is_listening or sock.type != socket.SOCK_STREAM or sock.family not in {socket.AF_INET, socket.AF_INET6}:
            raise StartError(f"the socket {name} that systemd hands over does not listen on TCP: Accept=no is wanted")
        sock.set_inheritable(False)
        sock.setblocking(False)
        found[name] = sock
    return found
