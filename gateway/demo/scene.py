"""Owns the demo: `waitroom demo` sends one crowd at a small bank, with the gateway or without, and measures."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from gateway.demo.crowd import add_crowd_arguments, crowd_settings, read_stats, run_crowd, watch
from gateway.demo.entrylog import read_entries
from gateway.demo.plan import CrowdSettings
from gateway.demo.report import CrowdReport, as_json, format_report, from_json, summarise
from gateway.demo.stage import DOOR, Stage, open_stage
from gateway.demo.tally import CrowdRun
from gateway.demo.wire import PAGE
from gateway.tasks import Owner

# Twice what the bank can take, for twelve seconds: it brings it down, and is a minute's work behind the gateway.
CROWD: Final = CrowdSettings(
    visitors=2_400, arrive_within_s=12.0, leavers=0.2, no_shows=0.1, sleepers=0.05, sleep_s=(20.0, 40.0)
)
# From here on the machine, and not the gateway, decides when an entry reaches the bank; the verdict says so.
LAG_NOTED_S: Final = 0.2
SECONDS_MAX: Final = 180.0
KEPT_REPORTS: Final = Path("state/demo")  # so that the other run's figures can stand beside this one's


@dataclass(frozen=True, slots=True)
class Demo:
    """What is to be shown."""

    crowd: CrowdSettings = CROWD
    is_without: bool = False
    seconds: float = SECONDS_MAX  # the crowd is sent home then at the latest
    stays: bool = False  # serve on after the crowd until Ctrl-C, so that a person can look


async def run_demo(demo: Demo) -> int:
    """Show it and report; 0 when all promises that a gateway run can show were kept. Always 0 without the gateway."""
    with tempfile.TemporaryDirectory(prefix="waitroom-demo-") as folder:
        async with open_stage(Path(folder), has_gateway=not demo.is_without) as stage:
            _introduce(demo, stage)
            report = await _watched_crowd(demo, stage)
            other = _keep_and_find_other(demo, report)
            print("\n" + format_report([report, other] if other else [report]), flush=True)
            if other is None:
                print(f"\nThe other half of the comparison: waitroom demo{'' if demo.is_without else ' --without'}")
            faults = [] if demo.is_without else broken_promises(report)
            for fault in faults:
                print(f"BROKEN: {fault}", flush=True)
            if report.crowd_lag_max_s > LAG_NOTED_S:
                late = f"The crowd's own process came up to {report.crowd_lag_max_s:.1f} s late"
                print(f"{late}: this machine is short of CPU, and what is late bunches up on its way.", flush=True)
            if demo.stays:
                print(f"\nStill serving {stage.public_urls[0]}{PAGE} until Ctrl-C.", flush=True)
                await asyncio.Event().wait()
    return 1 if faults else 0


async def _watched_crowd(demo: Demo, stage: Stage) -> CrowdReport:
    run, owner = CrowdRun(demo.crowd), Owner()
    owner.start(watch(run, lambda line: print(line, flush=True)), "watch")
    try:
        await run_crowd(run, stage.public_urls, demo.seconds)
    finally:
        await owner.close()
    entries = read_entries(stage.bank_folder / "entries.jsonl")
    stats = await read_stats(stage.bank_url)
    return summarise(run, entries, stats, None if demo.is_without else DOOR)


def broken_promises(report: CrowdReport) -> list[str]:
    """What a run behind the gateway must never show, as sentences; the demo is a test of what it tells."""
    found = {
        "more entries than rate x W + burst in some window": not report.keeps_promise_one,
        f"{report.failed} requests of the crowd failed: {report.failures}": report.failed > 0,
        f"{report.balance_failed} balance requests of other customers failed": report.balance_failed > 0,
        f"{report.paid_twice} payouts were paid twice": report.paid_twice > 0,
        "the bank's ledger does not add up": not report.ledger_adds_up,
        f"{report.unsigned} requests reached the bank's protected pages unsigned": report.unsigned > 0,
        f"{report.gave_up} visitors gave up": report.gave_up > 0,
        f"{report.unfinished} visitors were still waiting at the end": report.unfinished > 0,
        f"{report.places_changed} times a visitor's number changed": report.places_changed > 0,
        f"{report.positions_grown} times a position grew without a cause": report.positions_grown > 0,
    }
    return [sentence for sentence, is_broken in found.items() if is_broken]


def _introduce(demo: Demo, stage: Stage) -> None:
    crowd, url = demo.crowd, stage.public_urls[0]
    lines = ["", f"  The protected page   {url}{PAGE}", f"  Its neighbour        {url}/balance (never queued)"]
    if stage.operator_urls:
        gateways = " and ".join(stage.public_urls)
        lines += [
            f"  The operator port    {stage.operator_urls[0]}/ (this machine only, so no login is asked for)",
            f"  The bank itself      {stage.bank_url}/stats counts what reaches it",
            "",
            f"  Two gateways ({gateways}) share one Valkey and let {DOOR.rate_per_s:g} visitors a second in.",
        ]
    else:
        lines += ["", "  No gateway: the crowd goes straight to the bank."]
    lines += [
        f"  {crowd.visitors:,} visitors (seed {crowd.seed}) come within {crowd.arrive_within_s:g} s;",
        "  the bank does 160 transactions a second, two a visit.",
        f"  {crowd.leavers:.0%} leave silently, {crowd.no_shows:.0%} never come in, {crowd.sleepers:.0%} fall asleep.",
        "",
    ]
    print("\n".join(lines), flush=True)


def _keep_and_find_other(demo: Demo, report: CrowdReport) -> CrowdReport | None:
    """Keep this report, and return that of the other run if the same crowd made it."""
    mine, other = ("without", "with") if demo.is_without else ("with", "without")
    try:
        KEPT_REPORTS.mkdir(parents=True, exist_ok=True)
        (KEPT_REPORTS / f"{mine}.json").write_text(json.dumps(as_json(report), indent=2), encoding="utf-8")
        kept = from_json(json.loads((KEPT_REPORTS / f"{other}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):  # a folder that is read-only or holds something else
        return None
    return kept if kept is not None and kept.crowd == report.crowd else None


def _parse(arguments: Sequence[str]) -> Demo:
    parser = argparse.ArgumentParser(prog="waitroom demo", description="A crowd, a bank, and a gateway between them.")
    parser.add_argument("--without", action="store_true", help="the same crowd, straight at the bank")
    add_crowd_arguments(parser, CROWD)
    parser.add_argument("--seconds", type=float, default=SECONDS_MAX, help="send the crowd home after that long")
    parser.add_argument("--forever", action="store_true", help="serve on after the crowd, as it does on a terminal")
    options = parser.parse_args(arguments)
    try:
        crowd = crowd_settings(options, CROWD.sleep_s)
    except ValueError as fault:
        parser.error(str(fault))
    return Demo(crowd, options.without, options.seconds, stays=options.forever or sys.stdout.isatty())


def main(arguments: Sequence[str]) -> int:
    """`waitroom demo ...`; SIGTERM ends it as Ctrl-C does, and everything it started is stopped first."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        return uvloop.run(run_demo(_parse(arguments)))
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
        return 0
