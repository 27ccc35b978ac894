"""Thousands of connections that do not go on, held by a process of their own: a process may open only so many files.

    python -m tests.faults.stalled PORT SOURCE KIND=COUNT...

Opens them from the loopback address SOURCE (a port of its own for each) and says `open`. Then, for each line it reads, it has
every `kept` one ask for the waiting page, and says how many got it. Kinds: `kept` asked once and may ask again, `silent` never
said anything, `head` began a head, `body` began a body, `deaf` asked for more than the buffers hold and reads nothing.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

PAGE: Final = b"GET /points/cashout/ HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Mode: navigate\r\n\r\n"
SAID: Final = {
    "kept": PAGE,
    "silent": b"",
    "head": b"GET /points/cashout/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a=" + b"b" * 400,
    "body": b"POST /_waitroom/cashout/ticket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 42\r\n\r\n" + b'{"key": "',
    "deaf": PAGE * 30,
}
DEADLINE_S: Final = 60.0


def opened(port: int, source: str, kind: str) -> socket.socket:
    one = socket.socket()
    one.settimeout(DEADLINE_S)
    if kind == "deaf":
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.bind((source, 0))
    one.connect(("127.0.0.1", port))
    if SAID[kind]:
        one.sendall(SAID[kind])
    if kind == "kept":
        got_page(one)
    return one


def got_page(one: socket.socket) -> bool:
    got = b""
    while not got.rstrip().endswith(b"</html>"):
        more = one.recv(65_536)
        if not more:
            return False
        got += more
    return got.startswith(b"HTTP/1.1 429 ")


def asked(kept: list[socket.socket]) -> int:
    for one in kept:
        one.sendall(PAGE)
    return sum(got_page(one) for one in kept)


def main() -> None:
    port, source = int(sys.argv[1]), sys.argv[2]
    held: dict[str, list[socket.socket]] = {}
    for argument in sys.argv[3:]:
        kind, _, count = argument.partition("=")
        held[kind] = [opened(port, source, kind) for _ in range(int(count))]
    print("open", flush=True)  # noqa: T201  it is asked and answers by lines
    for _ in sys.stdin:
        print(asked(held["kept"]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
