"""Polls by the size of the crowd: rooms of 1,000 to a million places stand in one gateway, and are polled in turns."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench.load import Figure, Load, in_turns, request_text, rotating_script, spread, wrk
from bench.polls import APP, PATH
from bench.stage import ROOM, Stage

ASKED_OF: Final = 20_000  # tickets of each room that polls are drawn from
ROOM_TABLE: Final = """
[[rooms]]
id = "{name}"
match = [{{ path = "/{name}/*" }}]
upstream = "bank"
drain_rate = "10/h"
paused = true
active_max = 1000000
absence_max = "1h"
session = "1h"
"""


def measure(waiting: int, rounds: int) -> list[Figure]:
    sizes = {f"crowd-{size}": size for size in (1_000, 10_000, 100_000, waiting)}
    with Stage() as stage:
        server = stage.redis()
        gateway = stage.gateway(server, tables="".join(ROOM_TABLE.format(name=name) for name in sizes))
        scripts = dict[str, Path]()
        for name, size in sizes.items():
            line, tokens = stage.seat(server, size, name), stage.folder / name
            behind = range(size // 10, size, max(1, size // ASKED_OF))  # those who are called meanwhile
            tokens.write_text("\n".join(line.tickets(stage.keyring, behind)))
            text = request_text("GET", PATH.replace(ROOM, name), APP)
            scripts[name] = rotating_script(stage.folder / f"{name}.lua", text, tokens)
        stage.keep_awake()
        loads = in_turns({name: partial(wrk, gateway, scripts[name], 3, redis=server) for name in sizes}, rounds)
    return [_by_size(loads, name, size) for name, size in sizes.items()]


def _by_size(loads: Mapping[str, Sequence[Load]], name: str, size: int) -> Figure:
    ratios = [mine.cpu_us / base.cpu_us for mine, base in zip(loads[name], loads["crowd-1000"], strict=True)]
    is_goal = size > 100_000
    return Figure(
        f"poll with {size:,} waiting",
        f"{statistics.median(load.cpu_us for load in loads[name]):.1f} us, "
        f"{statistics.median(load.per_s for load in loads[name]):,.0f}/s",
        "1,000 waiting",
        f"cpu {spread(ratios)}",
        "<= 1.1" if is_goal else "",
        statistics.median(ratios) <= 1.1 if is_goal else None,
        f"of {ASKED_OF:,} tickets at most, each asked with again and again; all four rooms stand in one gateway",
        values=tuple(ratios),
        bound=1.1 if is_goal else None,
    )
