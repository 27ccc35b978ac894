"""One room flooded, the calm room and the unprotected route beside it: p99 of theirs, quiet and flooded (promise 12).

The flood is a closed loop of ten times the connections that keep one process busy, so it offers whatever the gateway can answer
and has ten times as much waiting at every moment: newcomers' pages, joins with keys that never come again, requests that are
turned away. What is measured asks at fixed times, and is counted from when it was due: a probe that waits hides nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.crowd import Line, Tally
from bench.load import CONNECTIONS, Effort, Figure, spread
from bench.stage import LOADING, ROOM, Server, Stage

FLOOD_CONNECTIONS: Final = 10 * CONNECTIONS
PROBES: Final = 8
EVERY_S: Final = 0.02
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
  return join .. "Content-Length: 34\\r\\n\\r\\n{\\"key\\": \\"" .. key .. "\\"}"
end
"""
DOUBT: Final = (
    "the probes share a core with the flood (which is nice 19), the bank and Redis: what they wait for there is counted, too; "
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
            rounds = [_round(stage, gateway) for _ in range(effort.rounds)]
        finally:
            os.sched_setaffinity(0, before)
    return [_figure(name, [one[name] for one in rounds]) for name in rounds[0]]


Pair = tuple[float, float]  # p99 in seconds, quiet and flooded


def _round(stage: Stage, gateway: Server) -> dict[str, Pair]:
    quiet = asyncio.run(probe(gateway.port, SAMPLES_S))
    command = ["nice", "-n", "19", "taskset", "-c", ",".join(map(str, LOADING))]
    command += flood_command(stage.folder, gateway.url, ROOM, "/points/cashout/", SAMPLES_S + 2 * WARM_UP_S)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
        time.sleep(WARM_UP_S)
        flooded = asyncio.run(probe(gateway.port, SAMPLES_S))
        told, _ = flood.communicate(timeout=60)
    answered = next((line.split()[1] for line in told.splitlines() if "Requests/sec" in line), "0")
    pairs = {name: (p99(quiet[name]), p99(flooded[name])) for name in quiet}
    said = ", ".join(f"{name} {a * 1e3:.1f} -> {b * 1e3:.1f} ms" for name, (a, b) in pairs.items())
    print(f"  {answered} of the flood's requests a second were answered; p99 {said}", flush=True)
    return pairs


async def probe(port: int, seconds: float) -> dict[str, list[float]]:
    """How long each kind of request took, from when it was due. Raises ValueError when one fails."""
    tally = Tally()
    lines = [Line(*await asyncio.open_connection("127.0.0.1", port), tally) for _ in range(PROBES)]
    ticket, admission = await _enter(lines[0])
    kinds: dict[str, Callable[[Line], object]] = {
        "unprotected": lambda line: line.ask("GET", "/balance"),
        "admitted": lambda line: line.ask("GET", f"/{CALM}/", admission),
        "poll": lambda line: line.ask("GET", f"/_waitroom/{CALM}/status", ticket),
    }
    took_s: dict[str, list[float]] = {name: [] for name in kinds}
    until_s = time.monotonic() + seconds

    async def ask(line: Line, number: int) -> None:
        due_s = time.monotonic() + EVERY_S * number / PROBES
        for name in _turns(list(kinds), number):
            await asyncio.sleep(due_s - time.monotonic())
            status, _, body = await kinds[name](line)  # type: ignore[misc]  # each asks a line
            took_s[name].append(time.monotonic() - due_s)
            if status >= 400:
                raise ValueError(f"{name} was answered {status}: {body[:200]!r}")
            due_s += EVERY_S
            if time.monotonic() > until_s:
                return

    await asyncio.gather(*(ask(line, number) for number, line in enumerate(lines)))
    for line in lines:
        line.writer.close()
    return took_s


def _turns(names: Sequence[str], start: int):  # type: ignore[no-untyped-def]
    while True:
        start += 1
        yield names[start % len(names)]


async def _enter(line: Line) -> tuple[str, str]:
    """The header lines of somebody who waits in the calm room, and of somebody inside."""
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


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def _figure(name: str, pairs: Sequence[Pair]) -> Figure:
    quiet, flooded = ([pair[i] * 1e3 for pair in pairs] for i in (0, 1))
    ratios = [after / before for before, after in pairs]
    return Figure(
        f"{name} beside a flood, p99",
        f"{spread(flooded, 1)} ms",
        f"quiet {spread(quiet, 1)} ms",
        spread(ratios),
        "<= 2",
        sorted(ratios)[len(ratios) // 2] <= 2,
        DOUBT,
    )
