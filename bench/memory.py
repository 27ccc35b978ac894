"""Memory of one gateway over minutes of mixed load: joins, polls, claims, leaves, silence, protected requests.

What is bounded by number (verified tickets and admissions, 100,000 each) is filled first, so that a slope that is left is either
one of the other bounded memories on its way to its bound, or a leak.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from bench.entries import start_crowd, wait_for
from bench.load import Effort, Figure, request_text, rotating_script, wrk
from bench.polls import APP
from bench.polls import PATH as STATUS
from bench.proxied import admissions
from bench.stage import LOADING, RedisServer, Server, Stage, rss_kib

VISITORS: Final = 400
RATE: Final = "100/s"
SESSION: Final = "30s"  # leases lapse and slots come free all the time, as over a long day
REMEMBERED: Final = 110_000  # a tenth more than each cache of verified tokens holds
SAMPLE_S: Final = 2.0
SETTLING: Final = 0.2  # the part of the run that does not count
FLAT: Final = 0.02  # of the median, in ten minutes


def measure(effort: Effort) -> list[Figure]:
    seconds = effort.minutes * 60
    with Stage() as stage:
        bank, server = stage.reference("bank", cores=LOADING), stage.redis()
        gateway = stage.gateway(server, bank.port, drain_rate=RATE, active_max=100_000, session=SESSION)
        at_start = rss_kib(gateway.pid)
        fill(stage, server, gateway)
        filled = rss_kib(gateway.pid)
        print(f"  {at_start:,} KiB at start, {filled:,} KiB with its caches full", flush=True)
        told = stage.folder / "crowd"
        start_crowd(stage, "mixed", gateway, VISITORS, seconds, told)
        samples = watch(gateway, seconds)
        crowd = wait_for(told)
    answers = Counter(crowd["answers"])
    assert not crowd["faults"], crowd["faults"][:3]
    assert crowd["entries"], f"nobody entered: {answers}"
    print("  " + ", ".join(f"{count:,} {what}" for what, count in sorted(answers.items())), flush=True)
    return [flatness(samples, at_start, filled, sum(answers.values()))]


def fill(stage: Stage, server: RedisServer, gateway: Server) -> None:
    """Show the gateway more tickets and admissions than it remembers; those tickets' owners then fall silent."""
    for name, header, texts in (
        ("tickets", "Waitroom-Ticket", stage.seat(server, REMEMBERED)),
        ("admissions", "Waitroom-Admission", admissions(stage, REMEMBERED)),
    ):
        file = stage.folder / name
        file.write_text("\n".join(texts))
        fields = {field: value for field, value in APP.items() if value != "@"} | {header: "@"}
        script, asked = rotating_script(file.with_suffix(".lua"), request_text("GET", STATUS, fields), file), 0
        while asked < REMEMBERED:
            asked += wrk(gateway, script, 5, asked).requests


def watch(gateway: Server, seconds: float) -> list[tuple[float, int]]:
    """Seconds and KiB."""
    samples, started_s = [], time.monotonic()
    while (at_s := time.monotonic() - started_s) < seconds:
        samples.append((at_s, rss_kib(gateway.pid)))
        if len(samples) % 30 == 0:
            print(f"  {at_s / 60:5.1f} min  {samples[-1][1]:,} KiB", flush=True)
        time.sleep(SAMPLE_S)
    return samples


def flatness(samples: Sequence[tuple[float, int]], at_start: int, filled: int, answered: int) -> Figure:
    settled = samples[int(len(samples) * SETTLING) :]
    slope = statistics.linear_regression(*zip(*settled, strict=True)).slope * 60  # KiB a minute
    median = statistics.median(kib for _, kib in settled)
    low, high = min(kib for _, kib in settled), max(kib for _, kib in settled)
    return Figure(
        f"memory over {samples[-1][0] / 60:.0f} min",
        f"{median / 1024:.0f} MiB ({low / 1024:.1f}..{high / 1024:.1f})",
        f"start {at_start / 1024:.0f}, caches full {filled / 1024:.0f} MiB",
        f"{slope:+.1f} KiB/min, {slope * 10 / median:+.2%} in 10 min",
        f"within {FLAT:.0%}",
        abs(slope * 10 / median) <= FLAT,
        f"one load, {answered:,} answers; numbers seen spent (200,000 at most) and revoked ids still fill up meanwhile",
    )
