"""Loads servers in turns with wrk and compares them: requests a second, and the processor time of one request.

Contenders run one after the other in every round, so what else the machine does falls on all of them; a ratio is taken
within its round, and the median of the rounds counts. Processor time is what to trust where others use the machine.
"""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.stage import LOADING, RedisServer, Server, cpu_s, peak_kib

CONNECTIONS: Final = 32
CORE_MIN: Final = 0.4  # of a core; a server that is loaded and undisturbed uses 0.6 to 1
TRIES_PER_ROUND: Final = 3
PATIENCE_S: Final = 30  # wrk's own 2 s end a measurement because others had the processor meanwhile


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: int
    minutes: float


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk gave: answers, answers a second, and microseconds of the server's processor for each.

    `core` is the part of one core that the server used: far below 1 it, or the load, had to wait for others. What Redis did
    meanwhile, ticks and boards included, is put on the answers, too: its processor time, its own account of scripts, their calls.
    """

    requests: int
    per_s: float
    cpu_us: float
    core: float
    peak_mib: float = 0.0
    redis_us: float = 0.0
    scripts_us: float = 0.0
    calls: float = 0.0

    def __str__(self) -> str:
        return f"{self.per_s:,.0f}/s {self.cpu_us:.0f} us, {self.core:.0%} of a core"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `is_met` None: there is no goal, the figure explains another."""

    name: str
    ours: str
    reference: str
    ratio: str
    goal: str
    is_met: bool | None
    doubt: str  # how this figure can be wrong
    cost: str = ""  # what Redis did for a request, and the most memory the gateway had
    values: tuple[float, ...] = ()  # of the rounds, in the goal's unit
    bound: float | None = None  # the goal as a number


def request_text(method: str, path: str, headers: Mapping[str, str], body: str = "") -> str:
    """The bytes of a request, for scripts that paste a token or a key where `@` is."""
    fields = {"Host": "127.0.0.1", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines) + "\r\n\r\n" + body


def rotating_script(file: Path, request: str, tokens: Path) -> Path:
    """A wrk script that sends `request` with one token of `tokens` after the other, from the one its argument names."""
    opening, closing = (part.replace("\r\n", "\\r\\n").replace('"', '\\"') for part in request.split("@"))
    file.write_text(
        f'local texts, at = {{}}, 0\nlocal opening, closing = "{opening}", "{closing}"\n'
        f'function init(args) at = tonumber(args[1]) or 0; for line in io.lines("{tokens}") do texts[#texts + 1] = line end end\n'
        "function request() local text = texts[at % #texts + 1]; at = at + 1; return opening .. text .. closing end\n"
    )
    return file


def counting_script(file: Path, request: str, digits: int) -> Path:
    """A wrk script that writes a number that never comes again where `@` is, counted from its argument on."""
    opening, closing = (part.replace("\r\n", "\\r\\n").replace('"', '\\"') for part in request.split("@"))
    file.write_text(
        f'local at = 0\nlocal opening, closing = "{opening}", "{closing}"\n'
        "function init(args) at = tonumber(args[1]) or 0 end\n"
        f'function request() at = at + 1; return opening .. string.format("%0{digits}d", at) .. closing end\n'
    )
    return file


def wrk(
    server: Server,
    script: Path,
    seconds: int,
    start: int = 0,
    connections: int = CONNECTIONS,
    redis: RedisServer | None = None,
) -> Load:
    """Load a server; anything but 2xx and 3xx ends the measurement, because refusals are cheap. `redis`: the one it asks."""
    command = ["taskset", "-c", ",".join(map(str, LOADING)), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    before, before_s = _account(redis), cpu_s(server.pid)
    command += ["--timeout", f"{PATIENCE_S}s", "-s", str(script), server.url, "--", str(start)]
    out = subprocess.run(command, check=False, capture_output=True, text=True)
    used_s = cpu_s(server.pid) - before_s
    if out.returncode or "Non-2xx" in out.stdout or "Socket errors" in out.stdout:
        raise SystemExit(f"wrk: {out.stdout}{out.stderr}")
    found = re.search(r"(\d+) requests in .*Requests/sec:\s+([\d.]+)", out.stdout, re.S)
    assert found is not None, out.stdout
    requests = int(found[1])
    if not requests:
        raise SystemExit("not one request was answered: others have the processor; try when the machine is quiet")
    redis_us, scripts_us, calls = ((now - then) / requests for now, then in zip(_account(redis), before, strict=True))
    return Load(
        requests=requests,
        per_s=float(found[2]),
        cpu_us=used_s / requests * 1e6,
        core=used_s / seconds,
        peak_mib=peak_kib(server.pid) / 1024,
        redis_us=redis_us,
        scripts_us=scripts_us,
        calls=calls,
    )


def throughput(name: str, loads: Sequence[Load], goal_per_s: int) -> Figure:
    """What one process answers a second, or would with a whole core: where the second is more, it did not get one."""
    per_s, per_core_s = [load.per_s for load in loads], [1e6 / load.cpu_us for load in loads]
    best = max(per_s, per_core_s, key=statistics.median)
    return Figure(
        name,
        spread(per_s, 0),
        "",
        f"{spread(per_core_s, 0)}/s of a whole core",
        f">= {goal_per_s:,}/s",
        statistics.median(best) >= goal_per_s,
        "absolute, so of this machine; by processor time where others used the core meanwhile",
        costs(loads),
        tuple(best),
        goal_per_s,
    )


def _account(redis: RedisServer | None) -> tuple[float, float, float]:
    """Microseconds of the process, microseconds in scripts, and calls of scripts so far: gateways ask by nothing else."""
    if redis is None:
        return 0.0, 0.0, 0.0
    stats: Any = redis.client.info("commandstats")
    scripts = [stats[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats]
    usec, calls = (sum(int(one[key]) for one in scripts) for key in ("usec", "calls"))
    return cpu_s(redis.pid) * 1e6, float(usec), float(calls)


def in_turns(contenders: Mapping[str, Callable[[], Load]], rounds: int) -> dict[str, list[Load]]:
    """Run all contenders in every round, after one that warms them up and is not counted.

    A round in which a server hardly ran is run again: what a process does every second whatever it is asked, and caches that
    others have emptied, would be counted into its requests. If quiet rounds never come, all are taken.
    """
    found: list[dict[str, Load]] = []
    for number in range(rounds * TRIES_PER_ROUND + 1):
        loads = {name: run() for name, run in contenders.items()}
        if not number:
            continue
        found.append(loads)
        quiet = [one for one in found if min(load.core for load in one.values()) >= CORE_MIN]
        for name, load in loads.items():
            print(f"  round {number}  {name:34} {load}", flush=True)
        if len(quiet) == rounds:
            break
    print(f"  {len(quiet)} of {len(found)} rounds were quiet", flush=True)
    return {name: [one[name] for one in quiet or found] for name in contenders}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def compare(name: str, ours: Sequence[Load], theirs: Sequence[Load], goal: float | None, doubt: str) -> Figure:
    """A figure of two contenders; the ratio of processor times decides, as that of requests a second is the noisier."""
    speed = [mine.per_s / other.per_s for mine, other in zip(ours, theirs, strict=True)]
    cost = [other.cpu_us / mine.cpu_us for mine, other in zip(ours, theirs, strict=True)]
    return Figure(
        name,
        _median(ours),
        _median(theirs),
        f"cpu {spread(cost)}, speed {spread(speed)}",
        "" if goal is None else f">= {goal}",
        None if goal is None else statistics.median(cost) >= goal,
        doubt,
        costs(ours),
        tuple(cost),
        goal,
    )


def costs(loads: Sequence[Load]) -> str:
    """What a request of ours costs beside the gateway's processor."""
    redis_us, calls, peak_mib = (
        statistics.median(values)
        for values in zip(*((one.redis_us, one.calls, one.peak_mib) for one in loads), strict=True)
    )
    return f"{peak_mib:.0f} MiB; Redis {redis_us:.1f} us, {calls:.3f} calls"


def _median(loads: Sequence[Load]) -> str:
    per_s, cpu_us = (statistics.median(values) for values in ([x.per_s for x in loads], [x.cpu_us for x in loads]))
    return f"{per_s:,.0f}/s {cpu_us:.0f} us"
