"""Memory of one gateway over minutes of mixed load: joins, polls, claims, leaves, silence, protected requests.

A slope counts only once everything that is bounded is full and worn in. So the gateway is first shown more tickets and admissions
than it remembers, at the same time, as they share the allocator's pools; the tickets are given up, more of them than it remembers
numbers as spent. Then a crowd comes, and what counts begins when it has made as many entries as admissions are remembered:
until then its tokens, which are smaller than those shown, still take their places, and leave holes in the pools.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Final

import uvloop

from bench.crowd import STATUS, TICKET, Line, Tally
from bench.entries import start_crowd, wait_for
from bench.load import Effort, Figure
from bench.proxied import admissions
from bench.stage import LOADING, RedisServer, Server, Stage, rss_kib

VISITORS: Final = 400
RATE: Final = "200/s"  # more than the crowd makes of it: no cache is left as the filling made it after ten minutes
SESSION: Final = "30s"  # leases lapse and slots come free all the time, as over a long day
SHOWN: Final = 220_000  # of each kind: twice the admissions remembered, more than the 200,000 spent numbers kept
LOST_MAX: Final = VISITORS // 20  # by a refusal, where others had the processor for long: the load goes on without them
SAMPLE_S: Final = 2.0
REMEMBERED: Final = 100_000  # admissions
WEARING_IN_MIN: Final = 10.0  # about what the crowd needs for them on a quiet machine
PARTS: Final = 5  # the slope is taken again without each of them: one step must not make it, nor hide it
FLAT_KIB_MIN: Final = 0.2 * 1024

Samples = list[tuple[float, int]]  # minutes, KiB


def measure(effort: Effort) -> list[Figure]:
    minutes = WEARING_IN_MIN + effort.minutes
    with Stage() as stage:
        bank, server = stage.reference("bank", cores=LOADING), stage.redis()
        gateway = stage.gateway(server, bank.port, drain_rate=RATE, active_max=100_000, session=SESSION)
        at_start = rss_kib(gateway.pid)
        fill(stage, server, gateway)
        filled = rss_kib(gateway.pid)
        print(f"  {at_start:,} KiB at start, {filled:,} KiB with its memories full", flush=True)
        told = stage.folder / "crowd"
        start_crowd(stage, "mixed", gateway, VISITORS, minutes * 60, told)
        began_s = time.monotonic()
        samples = watch(gateway, minutes)
        crowd = wait_for(told)
    answers = Counter(crowd["answers"])
    assert len(crowd["faults"]) <= LOST_MAX, crowd["faults"][:3]
    entered_s = sorted(at_s for at_s, _ in crowd["entries"])
    assert len(entered_s) > REMEMBERED, (
        f"{len(entered_s):,} entries wear nothing in: others have the processor, or run longer"
    )
    worn_in = (entered_s[REMEMBERED] - began_s) / 60
    print("  " + ", ".join(f"{count:,} {what}" for what, count in sorted(answers.items())), flush=True)
    return [flatness([one for one in samples if one[0] >= worn_in], at_start, filled, sum(answers.values()))]


def fill(stage: Stage, server: RedisServer, gateway: Server) -> None:
    """Show the gateway each ticket once, to give it up, and each admission once."""
    tickets, passes = iter(stage.tickets(server, SHOWN)), iter(admissions(stage, SHOWN))

    async def both() -> None:  # with so many connections each they take about as long
        giving_up = [show(gateway, "DELETE", TICKET, "Waitroom-Ticket", tickets) for _ in range(160)]
        asking = [show(gateway, "GET", STATUS, "Waitroom-Admission", passes) for _ in range(32)]
        await asyncio.gather(*giving_up, *asking)

    uvloop.run(both())


async def show(gateway: Server, method: str, path: str, header: str, texts: Iterator[str]) -> None:
    """One connection; it shares `texts` with others."""
    line = Line(*await asyncio.open_connection("127.0.0.1", gateway.port), Tally())
    for text in texts:
        status, _, _ = await line.ask(method, path, f"{header}: {text}\r\n")
        if status == 503:  # Redis had to wait for the processor: this one is not missed
            await asyncio.sleep(1)
        else:
            assert status < 300, f"{method} {path} was answered {status}"
    line.writer.close()


def watch(gateway: Server, minutes: float) -> Samples:
    samples, started_s = [], time.monotonic()
    while (at := (time.monotonic() - started_s) / 60) < minutes:
        samples.append((at, rss_kib(gateway.pid)))
        if len(samples) % 30 == 0:
            print(f"  {at:5.1f} min  {samples[-1][1]:,} KiB", flush=True)
        time.sleep(SAMPLE_S)
    return samples


def flatness(settled: Samples, at_start: int, filled: int, answered: int) -> Figure:
    cuts = [len(settled) * part // PARTS for part in range(PARTS + 1)]
    without = [slope(settled[: cuts[part]] + settled[cuts[part + 1] :]) for part in range(PARTS)]
    sizes = [kib / 1024 for _, kib in settled]
    return Figure(
        f"memory over {settled[-1][0] - settled[0][0]:.0f} min",
        f"{statistics.median(sizes):.0f} MiB ({min(sizes):.1f}..{max(sizes):.1f})",
        f"start {at_start / 1024:.0f}, memories full {filled / 1024:.0f} MiB",
        f"{slope(settled) / 1024:+.2f} MiB/min ({min(without) / 1024:+.2f}..{max(without) / 1024:+.2f} without a fifth)",
        f"<= {FLAT_KIB_MIN / 1024:g} MiB/min",
        max(map(abs, without)) <= FLAT_KIB_MIN,
        f"one load, {answered:,} answers; what grows by less than the goal is not told from nothing",
    )


def slope(samples: Samples) -> float:
    """KiB a minute: the median slope of all pairs (Theil and Sen), which no single step or peak can move."""
    pairs = combinations(samples, 2)
    return statistics.median((late_kib - early_kib) / (late - early) for (early, early_kib), (late, late_kib) in pairs)
