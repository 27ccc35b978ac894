"""Joins over HTTP into a line that stands: joins a second of one process, and what each costs Redis."""

from __future__ import annotations

import json
import statistics
from typing import Any, Final

from bench.load import CONNECTIONS, Effort, Figure, Load, compare, counting_script, in_turns, request_text, spread, wrk
from bench.stage import ROOM, RedisServer, Stage, cpu_s

KEY_DIGITS: Final = 24
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
        stage.seat(server, 1000)  # so that the room is not idle, and nobody enters at once
        request = request_text("POST", f"/_waitroom/{ROOM}/ticket", HEADERS, BODY)
        script = counting_script(stage.folder / "joins.lua", request, KEY_DIGITS)
        costs = RedisCosts(server)
        joined = 0

        def join() -> Load:
            nonlocal joined
            load = costs.around(lambda: wrk(gateway, script, effort.seconds, joined))
            joined += load.requests + CONNECTIONS  # what was under way at the end has taken its number, too
            return load

        loads = in_turns({"reads": lambda: wrk(reads, script, effort.seconds), "joins": join}, effort.rounds)
        seated: Any = server.client.zcard(f"waitroom:{{{ROOM}}}:queue")
        assert joined - 2 * CONNECTIONS * (effort.rounds + 1) <= seated <= joined + 1000, (joined, seated)
    ours, theirs = loads["joins"], loads["reads"]
    per_s = [load.per_s for load in ours]
    per_core = [1e6 / load.cpu_us for load in ours]
    median_s = statistics.median(per_core)
    scripts, process = costs.script_us[1:], costs.process_us[1:]  # the first is the round that warms up
    return [
        Figure(
            "joins/s, one process",
            spread(per_s, 0),
            "",
            f"{median_s:,.0f}/s of a whole core",
            f">= {GOAL_PER_S:,}/s",
            max(statistics.median(per_s), median_s) >= GOAL_PER_S,
            "absolute, so of this machine; by processor time where others used the core meanwhile",
        ),
        Figure(
            "Redis us a join, in scripts",
            spread(scripts, 1),
            "",
            f"whole process {spread(process, 1)} us",
            f"<= {GOAL_US} us",
            statistics.median(scripts) <= GOAL_US,
            "all scripts (ticks, boards) are put on the joins; the whole process also reads and writes sockets",
        ),
        compare("join, to an empty handler", ours, theirs, None, "the reference reads the same body, and decides nothing"),
    ]


class RedisCosts:
    """Microseconds of Redis for each request of a load: by its own account of scripts, and by its process's time."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.script_us: list[float] = []
        self.process_us: list[float] = []

    def around(self, run: Any) -> Load:
        scripts_us, process_s = self._scripts_us(), cpu_s(self._server.pid)
        load: Load = run()
        self.script_us.append((self._scripts_us() - scripts_us) / load.requests)
        self.process_us.append((cpu_s(self._server.pid) - process_s) / load.requests * 1e6)
        return load

    def _scripts_us(self) -> int:
        stats: Any = self._server.client.info("commandstats")
        return sum(int(stats[name]["usec"]) for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)
