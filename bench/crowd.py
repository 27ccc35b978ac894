"""Visitors over bare sockets, in processes of their own: a client library would cost more than the gateway it loads.

    python -m bench.crowd --role claims|mixed --port PORT --visitors N --seconds S --out FILE

Apps of the header transport. `claims`: join, claim at once and again until admitted, then the next visitor. `mixed`: join, poll,
claim, a few protected requests; some leave, some fall silent. What happened is written to FILE as JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import uvloop

from bench.stage import ENTRY, ROOM

TICKET: Final = f"/_waitroom/{ROOM}/ticket"
STATUS: Final = f"/_waitroom/{ROOM}/status"
ADMISSION: Final = f"/_waitroom/{ROOM}/admission"
LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.I)
RETRY: Final = re.compile(rb"\r\nRetry-After: (\d+)\r\n", re.I)
LEAVERS: Final = 0.2
SILENT: Final = 0.1
PAGES: Final = 3
HELD_S: Final = 5.0


@dataclass(slots=True)
class Tally:
    """`entries`: when each admission came (monotonic seconds, the same clock in all processes), and under which number."""

    entries: list[tuple[float, int]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Line:
    """One kept-alive connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tally: Tally

    async def ask(self, method: str, path: str, token: str = "", body: str = "") -> tuple[int, bytes, bytes]:
        """Status, head and body. `token` is a whole header line."""
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nWaitroom-Transport: header\r\nContent-Type: application/json\r\n"
            f"{token}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        content = await self.reader.readexactly(int(length[1])) if length else b""
        status = int(head[9:12])
        self.tally.answers[f"{method} {path.rpartition('/')[2]} {status}"] += 1
        return status, head, content

    async def join(self) -> tuple[str, int]:
        """The header line of a new ticket, and its number."""
        status, _, body = await self.ask("POST", TICKET, body=json.dumps({"key": secrets.token_hex(16)}))
        if status != 201:
            raise ValueError(f"a join was answered {status}: {body[:300]!r}")
        told = json.loads(body)
        return f"Waitroom-Ticket: {told['ticket']}\r\n", told["number"]

    async def claim(self, ticket: str, number: int) -> str:
        """Claim until admitted; the header line of the admission."""
        while True:
            asked_s = time.monotonic()
            status, head, body = await self.ask("POST", ADMISSION, ticket)
            if status == 200:
                self.tally.entries.append((time.monotonic(), number))
                return f"Waitroom-Admission: {json.loads(body)['admission']}\r\n"
            if status != 202:
                raise ValueError(f"a claim was answered {status}: {body[:300]!r}")
            if time.monotonic() - asked_s < HELD_S:  # who was held at the door comes again at once
                retry = RETRY.search(head)
                await asyncio.sleep(int(retry[1]) if retry else 1)


async def claims(line: Line, _dice: Random) -> None:
    await line.claim(*await line.join())


async def mixed(line: Line, dice: Random) -> None:
    ticket, number = await line.join()
    for _ in range(dice.randint(0, 3)):
        await asyncio.sleep(dice.random() * 2)
        await line.ask("GET", STATUS, ticket)
    fate = dice.random()
    if fate < LEAVERS:
        await line.ask("DELETE", TICKET, ticket)
    elif fate > LEAVERS + SILENT:
        admission = await line.claim(ticket, number)
        for page in range(PAGES):
            status, _, _ = await line.ask("GET", f"{ENTRY}{page}", admission)
            if status != 200:
                raise ValueError(f"an admitted request was answered {status}")


async def visit(role: str, port: int, until_s: float, tally: Tally, dice: Random) -> None:
    """One connection, visitor after visitor."""
    await asyncio.sleep(dice.random() * 2)
    line = Line(*await asyncio.open_connection("127.0.0.1", port), tally)
    try:
        while time.monotonic() < until_s:
            await {"claims": claims, "mixed": mixed}[role](line, dice)
    except (ValueError, OSError, EOFError) as fault:
        tally.faults.append(str(fault))
    finally:
        line.writer.close()


async def run(asked: argparse.Namespace) -> None:
    tally, until_s = Tally(), time.monotonic() + asked.seconds
    visits = [visit(asked.role, asked.port, until_s, tally, Random(number)) for number in range(asked.visitors)]
    try:
        async with asyncio.timeout(asked.seconds):
            await asyncio.gather(*visits)
    except TimeoutError:
        pass
    told = {"entries": tally.entries, "answers": tally.answers, "faults": tally.faults}
    asked.out.write_text(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=("claims", "mixed"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--visitors", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
