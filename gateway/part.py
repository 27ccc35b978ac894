"""A worker's part of a gateway: what its parent tells it, its end of the channel between them, and its share of the limits."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import socket
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import IO, Final, Self

from gateway.model import Config

SERVING: Final = b"serving\n"
REFUSED: Final = b"reload refused\n"
REPLACED: Final = b"replaced\n"
ALIVE: Final = b"alive\n"
ALIVE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """Which of how many workers it is, the sockets and the channel it inherits, and the folder where all figures meet."""

    slot: int
    of: int
    public_fd: int
    operator_fd: int
    channel_fd: int
    config_fd: int
    folder: str
    is_refused: bool  # the gateway's last reload

    def text(self) -> str:
        """As an argument of the worker's command."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError or TypeError: nobody but the parent writes it."""
        return cls(**json.loads(text))

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """The public and the operator port, which listen already."""
        pair = socket.socket(fileno=self.public_fd), socket.socket(fileno=self.operator_fd)
        for sock in pair:
            sock.setblocking(False)
        return pair

    async def follow(
        self, on_refused: Callable[[], None], on_replaced: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        """Say that this worker serves, then that its loop turns; hear of reloads that were refused, and of the parent's end."""
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=self.channel_fd))
        try:
            writer.write(SERVING)
            while True:
                try:
                    async with asyncio.timeout(ALIVE_S):
                        line = await reader.readline()
                except TimeoutError:
                    if not writer.transport.get_write_buffer_size():  # a parent that stands still hears it once
                        writer.write(ALIVE)
                    continue
                if not line:
                    break
                if line == REFUSED:
                    on_refused()
                elif line == REPLACED:
                    on_replaced()
        except OSError:
            pass  # a parent that was killed before it had read: its end all the same
        finally:
            writer.close()
            on_end()

    def config(self) -> Config:
        """What the parent found good, not what the file says by now."""
        text = os.pread(self.config_fd, os.fstat(self.config_fd).st_size, 0)
        config: Config = pickle.loads(text)  # noqa: S301  the parent's own words, in a file without a name
        return config


def kept(config: Config) -> IO[bytes]:
    """A nameless file with the configuration, for workers to inherit."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  it stays open as long as workers may be started
    file.write(pickle.dumps(config))
    file.flush()
    return file


def shared(config: Config, of: int) -> Config:
    """The configuration of one of `of` workers: what a limit allows a gateway is divided among them, rounded up.

    Limits that stand in Redis (rates, caps, places) are the room's, whoever serves it, and stay whole.
    """
    server = replace(config.server, connections_max=_share(config.server.connections_max, of))
    upstreams = {
        name: replace(one, max_in_flight=_share(one.max_in_flight, of)) for name, one in config.upstreams.items()
    }
    rooms = tuple(replace(one, max_in_flight=_share(one.max_in_flight, of)) for one in config.rooms)
    return replace(config, server=server, upstreams=upstreams, rooms=rooms)


def _share(limit: int, of: int) -> int:
    return -(-limit // of)
