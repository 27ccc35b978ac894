"""A crowd that asks all at once: its gateway is stopped while they send, so that everything is ready when it goes on."""

from __future__ import annotations

import contextlib
import re
import resource
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from tests.serving import DEADLINE_S, Process

LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
HEALTH: Final = b"GET /_waitroom/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
FILES_WANTED: Final = 20_000


class Caller:
    """One kept-alive connection of bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def status(self) -> int:
        """Of the next answer, which is read whole; 0 where the connection ended without one."""
        got = b""
        while True:
            head, end, body = got.partition(b"\r\n\r\n")
            length = LENGTH.search(head + b"\r\n")
            if end and len(body) >= (int(length[1]) if length else 0):
                return int(got[9:12])
            more = self.socket.recv(65_536)
            if not more:
                return 0
            got += more


@contextlib.contextmanager
def callers(port: int, count: int) -> Iterator[list[Caller]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_WANTED:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_WANTED, hard), hard))
    found: list[Caller] = []
    try:
        while len(found) < count:
            found.append(Caller(port))
        for one in found:  # the kernel takes a connection long before the gateway does
            one.send(HEALTH)
        assert {one.status() for one in found} == {200}
        yield found
    finally:
        for one in found:
            one.socket.close()


def answered(crowd: Sequence[Caller]) -> int:
    """How many have an answer to read."""
    poll = select.poll()
    for one in crowd:
        poll.register(one.socket, select.POLLIN)
    return len(poll.poll(0))


def ask_at_once(gateway: Process, asked: Sequence[tuple[Caller, bytes]]) -> None:
    """All of this is there before the gateway looks at any of it, in this order."""
    gateway.signal(signal.SIGSTOP)
    try:
        for one, data in asked:
            one.send(data)
    finally:
        gateway.signal(signal.SIGCONT)
