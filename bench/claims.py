"""Claims over HTTP at a door that keeps up with them: how many one process grants a second, each signed by ES256."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.load import Effort, Figure, Load, in_turns, request_text, rotating_script, spread, throughput, wrk
from bench.stage import ROOM, Stage

CONNECTIONS: Final = 512  # the door is asked every 50 ms for all who stand there
RATE_S: Final = 20_000  # far above what one process can sign
SEATED_PER_S: Final = 9_000  # of a run; more than it can grant
GOAL_PER_S: Final = 5_000
HEADERS: Final = {
    "Accept": "application/json",
    "Content-Length": "0",
    "Waitroom-Transport": "header",
    "Waitroom-Ticket": "@",
}


def measure(effort: Effort) -> list[Figure]:
    """Each ticket claims once, so every answer is an entry; the door's own count says whether it was."""
    with Stage() as stage:
        server = stage.redis()
        gateway = stage.gateway(server, drain_rate=f"{RATE_S}/s", burst=RATE_S)
        tickets = stage.folder / "tickets"
        tickets.write_text("\n".join(stage.tickets(server, SEATED_PER_S * effort.seconds * (effort.rounds + 1))))
        request = request_text("POST", f"/_waitroom/{ROOM}/admission", HEADERS)
        script = rotating_script(stage.folder / "claims.lua", request, tickets)
        asked = 0

        def claim() -> Load:
            nonlocal asked
            before = _entries(server.client)
            load = wrk(gateway, script, effort.seconds, asked, CONNECTIONS, server)
            asked += load.requests + CONNECTIONS
            entered = _entries(server.client) - before
            assert entered >= load.requests, f"{load.requests} answers, {entered} entries: some were told to wait"
            return load

        loads = in_turns({"claims": claim}, effort.rounds)["claims"]
    name = f"claims/s, one process, {CONNECTIONS} connections"
    return [throughput(name, loads, GOAL_PER_S), _redis(loads)]


def _entries(client: Any) -> int:
    return int(client.hget(f"waitroom:{{{ROOM}}}:pace", "entries") or 0)


def _redis(loads: Sequence[Load]) -> Figure:
    return Figure(
        "Redis us a claim",
        spread([load.redis_us for load in loads], 1),
        "",
        f"in scripts {spread([load.scripts_us for load in loads], 1)}, by the clock",
        "",
        None,
        "ticks that call, boards and the census are put on the claims",
    )
