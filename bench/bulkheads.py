"""One room flooded, the calm room and the unprotected route beside it: p99 of theirs, quiet and flooded (promise 12).

The flood is a closed loop of ten times the connections that keep one process busy, so it offers whatever the gateway can answer
and has ten times as much waiting at every moment: newcomers' pages, joins with keys that never come again, requests that are
turned away. What is measured asks at fixed times, and is counted from when it was due: a probe that waits hides nothing. Besides
it is told what the gateway worked meanwhile, by its own clock of processor time: what a request waited for within the gateway,
whoever else had the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from bench.crowd import Line, Tally
from bench.load import CONNECTIONS, Effort, Figure, spread
from bench.stage import LOADING, ROOM, Server, Stage

FLOOD_CONNECTIONS: Final = 10 * CONNECTIONS
PROBES: Final = (
    40  # 400 requests a second; each may take five turns of a flooded loop before it delays its own next one
)
EVERY_S: Final = 0.1
WARM_UP_S: Final = 1.0
SAMPLES_S: Final = 5.0
CALM: Final = "calm"
CALM_ROOM: Final = f"""
[[rooms]]
id = "{CALM}"
match = [{{ path = "/{CALM}/*" }}]
entry = "/{CALM}/"
upstream = "bank"
max_in_flight = 500
drain_rate = "1000/s"
active_max = 10000
"""
FLOOD_SCRIPT: Final = """
local at = 0
local page = "GET PATHpage HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nSec-Fetch-Mode: navigate\\r\\n\\r\\n"
local turned = "GET PATHdata HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n"
local join = "POST /_waitroom/ROOM/ticket HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Type: application/json\\r\\n"
function init(args) math.randomseed(tonumber(args[1])) end
function request()
  at = at + 1
  if at % 3 == 0 then return page elseif at % 3 == 1 then return turned end
  local key = string.format("%010d%010d%04d", at, math.random(0, 999999999), math.random(0, 9999))
  return join .. "Content-Length: 35\\r\\n\\r\\n{\\"key\\": \\"" .. key .. "\\"}"
end
"""
DOUBT: Final = (
    "the probes share a core with the flood (of the idle class), the bank and Redis: what they wait for there is counted in ms; "
    "a closed loop offers what is answered, it does not grow beyond that"
)


def flood_command(folder: Path, url: str, room: str, path: str, seconds: float) -> list[str]:
    """wrk, asking for everything that a crowd of newcomers asks for."""
    script = folder / "flood.lua"
    script.write_text(FLOOD_SCRIPT.replace("PATH", path).replace("ROOM", room))
    command = ["wrk", "-t1", f"-c{FLOOD_CONNECTIONS}", f"-d{seconds:.0f}s", "-s", str(script), url]
    return [*command, "--", str(secrets.randbelow(2**31))]


def measure(effort: Effort) -> list[Figure]:
    with Stage() as stage:
        server = stage.redis()
        bank = stage.reference("bank", cores=LOADING)
        gateway = stage.gateway(server, bank.port, tables=CALM_ROOM)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, LOADING)
        try:
            tokens = asyncio.run(entered(gateway))
            rounds = [_round(stage, gateway, tokens) for _ in range(effort.rounds)]
        finally:
            os.sched_setaffinity(0, before)
    return [_figure(name, [one[name] for one in rounds]) for name in rounds[0]]


Pair = tuple[float, float]  # seconds, quiet and flooded: p99, or the median of the gateway's work
Tokens = tuple[str, str]  # header lines of somebody who waits in the calm room, and of somebody inside
WORK: Final = ", gateway's work meanwhile"


def _round(stage: Stage, gateway: Server, tokens: Sequence[Tokens]) -> dict[str, Pair]:
    quiet = asyncio.run(probe(gateway, SAMPLES_S, tokens))
    # Of the idle class: it never keeps a probe, the bank or Redis from the core they share.
    command = ["chrt", "--idle", "0", "taskset", "-c", ",".join(map(str, LOADING))]
    command += flood_command(stage.folder, gateway.url, ROOM, "/points/cashout/", SAMPLES_S + 2 * WARM_UP_S)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
        time.sleep(WARM_UP_S)
        flooded = asyncio.run(probe(gateway, SAMPLES_S, tokens))
        told, _ = flood.communicate(timeout=60)
    answered = next((line.split()[1] for line in told.splitlines() if "Requests/sec" in line), "0")
    pairs = {name: (typical(name, quiet[name]), typical(name, flooded[name])) for name in quiet}
    said = ", ".join(f"{name} {a * 1e3:.1f} -> {b * 1e3:.1f} ms" for name, (a, b) in pairs.items())
    print(f"  {answered} of the flood's requests a second were answered; {said}", flush=True)
    return pairs


async def probe(gateway: Server, seconds: float, tokens: Sequence[Tokens]) -> dict[str, list[float]]:
    """How long each kind of request took, from when it was due, and what the gateway worked from when it was sent.

    Seconds both. Raises ValueError when one fails.
    """
    tally, clock = Tally(), work_clock(gateway.pid)
    lines = [Line(*await asyncio.open_connection("127.0.0.1", gateway.port), tally) for _ in range(PROBES)]
    kinds: dict[str, Callable[[int], Awaitable[tuple[int, object, bytes]]]] = {
        "unprotected": lambda number: lines[number].ask("GET", "/balance"),
        "admitted": lambda number: lines[number].ask("GET", f"/{CALM}/", tokens[number][1]),
        "poll": lambda number: lines[number].ask("GET", f"/_waitroom/{CALM}/status", tokens[number][0]),
    }
    took_s: dict[str, list[float]] = {name + what: [] for name in kinds for what in ("", WORK)}
    until_s = time.monotonic() + seconds

    async def ask(number: int) -> None:
        due_s = time.monotonic() + EVERY_S * number / PROBES
        for name in _turns(list(kinds), number):
            await asyncio.sleep(due_s - time.monotonic())
            worked_s = time.clock_gettime(clock)
            status, _, body = await kinds[name](number)
            took_s[name + WORK].append(time.clock_gettime(clock) - worked_s)
            took_s[name].append(time.monotonic() - due_s)
            if status >= 400:
                raise ValueError(f"{name} was answered {status}: {body[:200]!r}")
            due_s += EVERY_S
            if time.monotonic() > until_s:
                return

    await asyncio.gather(*map(ask, range(PROBES)))
    for line in lines:
        line.writer.close()
    return took_s


def work_clock(pid: int) -> int:
    """Linux' clock of what a process has worked, in nanoseconds: clock_getcpuclockid(3), which Python has for threads alone."""
    return (~pid << 3) | 2


def _turns(names: Sequence[str], start: int):  # type: ignore[no-untyped-def]
    while True:
        start += 1
        yield names[start % len(names)]


async def entered(gateway: Server) -> list[Tokens]:
    """For each line its own: an admission may have only so many requests in flight."""
    lines = [Line(*await asyncio.open_connection("127.0.0.1", gateway.port), Tally()) for _ in range(PROBES)]
    found = await asyncio.gather(*map(_enter, lines))
    for line in lines:
        line.writer.close()
    return found


async def _enter(line: Line) -> Tokens:
    tokens = []
    for wanted in ("admission", "ticket"):
        status, _, body = await line.ask(
            "POST", f"/_waitroom/{CALM}/ticket", body=json.dumps({"key": secrets.token_hex(16)})
        )
        if status != 201:
            raise ValueError(f"a join was answered {status}: {body[:200]!r}")
        ticket = f"Waitroom-Ticket: {json.loads(body)['ticket']}\r\n"
        status = 202
        while wanted == "admission" and status == 202:
            status, _, body = await line.ask("POST", f"/_waitroom/{CALM}/admission", ticket)
        tokens.append(ticket if wanted == "ticket" else f"Waitroom-Admission: {json.loads(body)['admission']}\r\n")
    return tokens[1], tokens[0]


def typical(name: str, values: Sequence[float]) -> float:
    """p99, which is promised. Of the gateway's work the median: it works on while a bank or a probe waits for the machine."""
    return statistics.median(values) if name.endswith(WORK) else sorted(values)[int(len(values) * 0.99)]


def _figure(name: str, pairs: Sequence[Pair]) -> Figure:
    quiet, flooded = ([pair[i] * 1e3 for pair in pairs] for i in (0, 1))
    ratios = [after / before for before, after in pairs]
    return Figure(
        f"{name}, beside a flood, {'median' if name.endswith(WORK) else 'p99'}",
        f"{spread(flooded, 1)} ms",
        f"quiet {spread(quiet, 1)} ms",
        spread(ratios),
        "" if name.endswith(WORK) else "<= 2",
        None if name.endswith(WORK) else statistics.median(ratios) <= 2,
        DOUBT,
    )
