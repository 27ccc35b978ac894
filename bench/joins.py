"""Joins over HTTP into a line that stands: joins a second of one process, and what each costs Redis."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.load import Effort, Figure, Load, compare, counting_script, in_turns, request_text, spread, throughput, wrk
from bench.stage import MEASURED, ROOM, RedisServer, Stage, cpu_s

KEY_DIGITS: Final = 24
FEW, MANY = 32, 256  # a script takes what one turn of the event loop gathered: more connections, larger batches
ZADDS: Final = 300_000
SEATED: Final = 1_000  # so that the room is not idle
GOAL_PER_S: Final = 10_000
GOAL_US: Final = 7
BODY: Final = json.dumps({"key": "@"})
HEADERS: Final = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "Content-Length": str(len(BODY) - 1 + KEY_DIGITS),
    "Waitroom-Transport": "header",
}


def measure(effort: Effort) -> list[Figure]:
    with Stage() as stage:
        server = stage.redis()
        gateway, reads = stage.gateway(server), stage.reference("reads")
        stage.seat(server, SEATED)
        request = request_text("POST", f"/_waitroom/{ROOM}/ticket", HEADERS, BODY)
        script = counting_script(stage.folder / "joins.lua", request, KEY_DIGITS)
        joined = under_way = 0

        def join(connections: int, *, is_recorded: bool = True) -> Load:
            nonlocal joined, under_way
            record(server, is_on=is_recorded)
            load = wrk(gateway, script, effort.seconds, joined, connections, server)
            joined += load.requests + connections  # what was under way at the end has taken its key, too
            under_way += connections
            return load

        loads = in_turns(
            {
                "reads": lambda: wrk(reads, script, effort.seconds),
                f"joins, {FEW} connections": lambda: join(FEW),
                f"joins, {MANY} connections": lambda: join(MANY),
                f"joins, {MANY} connections, no record": lambda: join(MANY, is_recorded=False),
            },
            effort.rounds,
        )
        seated: Any = server.client.zcard(f"waitroom:{{{ROOM}}}:queue")
        assert joined - under_way <= seated - SEATED <= joined, f"{joined} keys, {seated} places"
        zadd_us = one_zadd_us(server, stage.folder)
    theirs, few, many, silent = loads.values()
    doubt = "the reference reads the same body, and decides nothing"
    return [
        *(
            throughput(f"joins/s, one process, {connections} connections", runs, GOAL_PER_S)
            for connections, runs in ((FEW, few), (MANY, many))
        ),
        *(cost(connections, runs) for connections, runs in ((FEW, few), (MANY, many))),
        in_zadds(many, zadd_us),
        of_the_record(many, silent),
        compare("join, to an empty handler", few, theirs, None, doubt),
    ]


def record(server: RedisServer, *, is_on: bool) -> None:
    """Let scripts tell the record of what they do, or not, as they would after a change of `[audit] stream` (root.lua)."""
    key = f"waitroom:{{{ROOM}}}:pace"
    number: Any = server.client.hget(key, "event")
    if (int(number) > 0) != is_on:
        server.client.hset(key, "event", -int(number))


def of_the_record(loads: Sequence[Load], silent: Sequence[Load]) -> Figure:
    """What telling the record adds, in turns on one server, and how far the rounds are apart."""
    added = [load.redis_us - other.redis_us for load, other in zip(loads, silent, strict=True)]
    batch = 1 / statistics.median(load.calls for load in loads)
    return Figure(
        f"Redis us a join, {MANY} connections, for the record",
        f"{statistics.median(added):+.1f}",
        f"without {statistics.median(load.redis_us for load in silent):.1f}",
        f"rounds {min(added):+.1f} to {max(added):+.1f}; {batch:.0f} joins a script",
        "",
        None,
        "less than what other users of the machine add to a round: take many rounds; by instructions see docs/performance.md",
    )


def one_zadd_us(server: RedisServer, folder: Path) -> float:
    """What redis-benchmark makes one ZADD cost the same server's processor, sixteen a packet, as a script's are one."""
    command = ["redis-benchmark", "-s", str(folder / "redis.sock"), "-t", "zadd", "-n", str(ZADDS), "-r", str(ZADDS)]
    before_s = cpu_s(server.pid)
    subprocess.run(["taskset", "-c", str(MEASURED[0]), *command, "-P", "16", "-q"], check=True, capture_output=True)
    return (cpu_s(server.pid) - before_s) / ZADDS * 1e6


def in_zadds(loads: Sequence[Load], zadd_us: float) -> Figure:
    us = statistics.median(load.redis_us for load in loads)
    return Figure(
        f"Redis us a join, {MANY} connections, in ZADDs",
        f"{us:.1f}",
        f"redis-benchmark {zadd_us:.1f}",
        f"{us / zadd_us:.1f} ZADDs",
        "",
        None,
        "a join is a ZADD and its checks, a number, a presence bit, its part of ticks and boards",
    )


def cost(connections: int, loads: Sequence[Load]) -> Figure:
    process_us, script_us = [load.redis_us for load in loads], [load.scripts_us for load in loads]
    is_goal = connections == MANY  # what a flood is: batches are full
    return Figure(
        f"Redis us a join, {connections} connections",
        spread(process_us, 1),
        "",
        f"in scripts {spread(script_us, 1)}, by the clock",
        f"<= {GOAL_US} us" if is_goal else "",
        statistics.median(process_us) <= GOAL_US if is_goal else None,
        "the whole process's time: sockets, ticks and boards are put on the joins; the clock also counts while others run",
        values=tuple(process_us),
        bound=GOAL_US if is_goal else None,
    )
