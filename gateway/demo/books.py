"""Owns the bank's SQLite file: one connection a thread, closed together."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Final

BUSY_TIMEOUT_S: Final = 5.0  # SQLite has one writer; eight workers wait for it some milliseconds at most


class Books:
    """The file, open. Every thread has a connection of its own; the file outlives a bank that is killed."""

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self.connection().executescript(schema)

    def connection(self) -> sqlite3.Connection:
        """This thread's."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # check_same_thread is off for `close` alone, which runs after the workers have ended.
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Close every thread's connection; no worker may be running any more."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
