"""Joins over HTTP into a line that stands: joins a second of one process, and what each costs Redis."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from bench.load import Effort, Figure, Load, compare, counting_script, in_turns, request_text, spread, wrk
from bench.stage import ROOM, RedisServer, Stage, cpu_s

KEY_DIGITS: Final = 24
FEW, MANY = 32, 256  # a script takes what one turn of the event loop gathered: more connections, larger batches
SEATED: Final = 1_000  # so that the room is not idle
GOAL_PER_S: Final = 6_000
GOAL_US: Final = 10
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
        costs = {connections: RedisCosts(server) for connections in (FEW, MANY)}
        joined = 0

        def join(connections: int) -> Load:
            nonlocal joined
            run = partial(wrk, gateway, script, effort.seconds, joined, connections)
            load = costs[connections].around(run)
            joined += load.requests + connections  # what was under way at the end has taken its key, too
            return load

        loads = in_turns(
            {
                "reads": lambda: wrk(reads, script, effort.seconds),
                f"joins, {FEW} connections": lambda: join(FEW),
                f"joins, {MANY} connections": lambda: join(MANY),
            },
            effort.rounds,
        )
        seated: Any = server.client.zcard(f"waitroom:{{{ROOM}}}:queue")
        under_way = sum(connections * len(costs[connections].us) for connections in costs)
        assert joined - under_way <= seated - SEATED <= joined, f"{joined} keys, {seated} places"
    theirs, few, many = loads.values()
    doubt = "the reference reads the same body, and decides nothing"
    return [
        *(speed(connections, runs) for connections, runs in ((FEW, few), (MANY, many))),
        *(cost(connections, costs[connections], runs) for connections, runs in ((FEW, few), (MANY, many))),
        compare("join, to an empty handler", few, theirs, None, doubt),
    ]


def speed(connections: int, loads: Sequence[Load]) -> Figure:
    per_s, per_core_s = [load.per_s for load in loads], [1e6 / load.cpu_us for load in loads]
    return Figure(
        f"joins/s, one process, {connections} connections",
        spread(per_s, 0),
        "",
        f"{statistics.median(per_core_s):,.0f}/s of a whole core",
        f">= {GOAL_PER_S:,}/s",
        max(map(statistics.median, (per_s, per_core_s))) >= GOAL_PER_S,
        "absolute, so of this machine; by processor time where others used the core meanwhile",
    )


def cost(connections: int, costs: RedisCosts, loads: Sequence[Load]) -> Figure:
    process_us, script_us = zip(*(costs.us[load] for load in loads), strict=True)
    return Figure(
        f"Redis us a join, {connections} connections",
        spread(process_us, 1),
        "",
        f"in scripts {spread(script_us, 1)}, by the clock",
        f"<= {GOAL_US} us",
        statistics.median(process_us) <= GOAL_US,
        "the whole process's time: sockets, ticks and boards are put on the joins; the clock also counts while others run",
    )


class RedisCosts:
    """Microseconds of Redis for a request of each load: of its process, and by its own account of scripts."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.us: dict[Load, tuple[float, float]] = {}

    def around(self, run: Callable[[], Load]) -> Load:
        process_s, scripts_us = cpu_s(self._server.pid), self._scripts_us()
        load = run()
        process_us, scripts_us = (cpu_s(self._server.pid) - process_s) * 1e6, self._scripts_us() - scripts_us
        self.us[load] = process_us / load.requests, scripts_us / load.requests
        return load

    def _scripts_us(self) -> int:
        stats: Any = self._server.client.info("commandstats")
        return sum(int(stats[name]["usec"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)
