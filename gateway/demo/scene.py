"""Owns the demo: `waitroom demo` sends one crowd at a small bank, with the gateway or without, and measures."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import uvloop

from gateway.demo.crowd import read_stats, run_crowd, watch
from gateway.demo.entrylog import read_entries
from gateway.demo.options import SECONDS_MAX, Parser, add_crowd_options, crowd_settings, number
from gateway.demo.plan import CrowdSettings
from gateway.demo.report import CrowdReport, as_json, format_report, from_json, summarise
from gateway.demo.stage import DOOR, Stage, open_stage, raise_file_limit
from gateway.demo.tally import CrowdRun
from gateway.demo.verdict import broken_promises, verdict
from gateway.demo.wire import PAGE
from gateway.tasks import Owner

# Twice what the bank can take, for twelve seconds: it brings it down, and is a minute's work behind the gateway.
CROWD: Final = CrowdSettings(
    visitors=2_400, arrive_within_s=12.0, leavers=0.2, no_shows=0.1, sleepers=0.05, sleep_s=(20.0, 40.0)
)
SECONDS: Final = 180.0
KEPT_REPORTS: Final = Path("state/demo")  # so that the other run's figures can stand beside this one's


@dataclass(frozen=True, slots=True)
class Demo:
    """What is to be shown."""

    crowd: CrowdSettings = CROWD
    is_without: bool = False
    seconds: float = SECONDS  # the crowd is sent home then at the latest
    stays: bool = False  # serve on after the crowd until Ctrl-C, so that a person can look
    arguments: tuple[str, ...] = ()  # what the other run is asked for with, to be comparable


async def run_demo(demo: Demo) -> int:
    """Show it and report; 0 when all promises that a gateway run can show were kept. Always 0 without the gateway."""
    with tempfile.TemporaryDirectory(prefix="waitroom-demo-") as folder:
        async with open_stage(Path(folder), has_gateway=not demo.is_without) as stage:
            print("\n".join(_introduction(demo, stage)), flush=True)
            report = await _watched_crowd(demo, stage)
            faults = [] if demo.is_without else broken_promises(report)
            print("\n" + "\n".join(_conclusion(demo, report)), flush=True)
            if demo.stays:
                await _stay(f"\nStill serving {stage.public_urls[0]}{PAGE} until Ctrl-C.")
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


async def _stay(sentence: str) -> None:
    """Until Ctrl-C or SIGTERM, which are no interruption any more: the verdict is known, and is the exit code."""
    told = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, told.set)
    print(sentence, flush=True)
    await told.wait()


def _introduction(demo: Demo, stage: Stage) -> Iterator[str]:
    crowd, url = demo.crowd, stage.public_urls[0]
    yield ""
    yield f"  The protected page   {url}{PAGE}"
    yield f"  Its neighbour        {url}/balance (never queued)"
    if stage.operator_urls:
        yield f"  The operator port    {stage.operator_urls[0]}/ (this machine only, so no login is asked for)"
        yield f"  The bank itself      {stage.bank_url}/stats counts what reaches it"
        yield ""
        gateways = " and ".join(stage.public_urls)
        yield f"  Two gateways ({gateways}) share one Valkey and let {DOOR.rate_per_s:g} visitors a second in."
    else:
        yield ""
        yield "  No gateway: the crowd goes straight to the bank."
    yield f"  {crowd.visitors:,} visitors (seed {crowd.seed}) come within {crowd.arrive_within_s:g} s;"
    yield "  the bank does 160 transactions a second, two a visit."
    yield (
        f"  {crowd.leavers:.0%} leave without a word, {crowd.no_shows:.0%} wait and never go in, "
        f"{crowd.sleepers:.0%} fall asleep for {crowd.sleep_s[0]:g} to {crowd.sleep_s[1]:g} s."
    )
    yield ""


def _conclusion(demo: Demo, report: CrowdReport) -> Iterator[str]:
    other = _keep_and_find_other(demo, report)
    yield format_report([report] if other is None else [report, other])
    yield ""
    if other is None:
        yield f"To see the same crowd {'behind' if demo.is_without else 'without'} the gateway: {_other_command(demo)}"
    else:
        yield f'The column "{other.name}" is the run that ended {_kept_at(demo):%Y-%m-%d %H:%M}.'
    yield from verdict(report, has_gateway=not demo.is_without)


# --- the other run ---------------------------------------------------------------------------------------------------


def _kept(*, is_without: bool) -> Path:
    return KEPT_REPORTS / f"{'without' if is_without else 'with'}.json"


def _kept_at(demo: Demo) -> datetime:
    return datetime.fromtimestamp(_kept(is_without=not demo.is_without).stat().st_mtime).astimezone()


def _keep_and_find_other(demo: Demo, report: CrowdReport) -> CrowdReport | None:
    """Keep this report, and return that of the other run if it was asked for with the same arguments."""
    try:
        KEPT_REPORTS.mkdir(parents=True, exist_ok=True)
        _kept(is_without=demo.is_without).write_text(json.dumps(as_json(report), indent=2), encoding="utf-8")
        kept = from_json(json.loads(_kept(is_without=not demo.is_without).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):  # a folder that is read-only or holds something else
        return None
    is_comparable = kept is not None and (kept.crowd, kept.seconds) == (report.crowd, report.seconds)
    return kept if is_comparable else None


def _other_command(demo: Demo) -> str:
    """The same crowd, the other way, in the words it was asked for with."""
    if os.environ.get("MAKELEVEL"):
        given = f" ARGS={shlex.quote(shlex.join(demo.arguments))}" if demo.arguments else ""
        return f"make {'demo' if demo.is_without else 'demo-without'}{given}"
    return shlex.join(["waitroom", "demo", *([] if demo.is_without else ["--without"]), *demo.arguments])


# --- the command -----------------------------------------------------------------------------------------------------


def _parse(arguments: Sequence[str]) -> Demo:
    parser = Parser("waitroom demo", "A crowd, a bank, and a gateway between them.")
    parser.add_argument("--without", action="store_true", help="the same crowd, straight at the bank")
    add_crowd_options(parser, CROWD)
    parser.add_argument(
        "--seconds",
        type=number(1, SECONDS_MAX),
        default=SECONDS,
        help="send the crowd home after that long (%(default)s)",
    )
    parser.add_argument("--forever", action="store_true", help="serve on after the crowd, as it does on a terminal")
    options = parser.parse_args(arguments)
    crowd = crowd_settings(parser, options, CROWD)
    stays = options.forever or sys.stdout.isatty()
    shared = tuple(given for given in arguments if given not in {"--without", "--forever"})
    return Demo(crowd, options.without, options.seconds, stays, shared)


def main(arguments: Sequence[str]) -> int:
    """`waitroom demo ...`; SIGTERM ends it as Ctrl-C does, and everything it started is stopped first."""
    demo = _parse(arguments)
    raise_file_limit(demo.crowd.visitors)
    # A shell that starts us in the background has us ignore Ctrl-C, and whoever ends us in another way would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        return uvloop.run(run_demo(demo))
    except KeyboardInterrupt:
        print("\nStopped before the crowd was through: no verdict.", flush=True)
        return 130
