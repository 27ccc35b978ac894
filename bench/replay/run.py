"""Owns one run of an incident: everything started, the crowd sent, the bank stopped on time, and all of it ended."""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import locustfiles
from bench.replay.samples import Sample, keep_sampling
from bench.replay.scenario import QUIET_S, Scenario, Stop
from bench.stage import Elsewhere
from gateway.demo.crowd import read_stats
from gateway.demo.entrylog import Entry, read_entries
from gateway.demo.hours import SEOUL
from gateway.demo.stage import Stage, open_stage
from gateway.errors import StartError
from gateway.tasks import Owner
from locustfiles.record import Recorded, read_record

ROOT: Final = Path(locustfiles.__file__).parent.parent
STAGE_S: Final = 8.0  # until everything stands; where there is an hour, it is set before
LOCUST_S: Final = 3.0  # until Locust has begun
END_S: Final = 60.0  # a run that is this late is broken
SEED: Final = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen of one run. `visits` are the last words of the crowd, by name."""

    recorded: Recorded
    visits: dict[str, str]
    samples: list[Sample]
    entries: list[Entry]
    stats: dict[str, Any]
    opened_s: float | None  # of the monotonic clock
    stopped_s: tuple[float, float] | None
    others_share: float  # of the machine's processors, used by others meanwhile


async def play(scenario: Scenario, *, has_gateway: bool, seconds: float) -> Evidence:
    """The incident once, for so many seconds of its crowd."""
    others = Elsewhere()
    with tempfile.TemporaryDirectory(prefix="waitroom-replay-") as name:
        folder = Path(name)
        opened_s, hour = None, ""
        if scenario.opens_s is not None:
            opened_s, hour = _hour(STAGE_S + LOCUST_S + QUIET_S + scenario.opens_s)
        options = [*scenario.bank_options, *(["--opens-at", hour] if hour else [])]
        async with open_stage(
            folder,
            has_gateway=has_gateway,
            rooms=scenario.room_toml(hour),
            bank_options=options,
            ports_wanted=(),
        ) as stage:
            quiet_s = QUIET_S
            if opened_s is not None and scenario.opens_s is not None:
                quiet_s = max(1.0, opened_s - scenario.opens_s - LOCUST_S - time.monotonic())
            evidence = await _watched(scenario, stage, folder, quiet_s, seconds)
    # All that was started has ended by now, and is counted as ours.
    return replace(evidence, opened_s=opened_s, others_share=round(others.cores() / (os.cpu_count() or 1), 2))


def _hour(in_s: float) -> tuple[float, str]:
    """The next whole second that is at least so far off, as the gateway's hours know no parts of it: monotonic, and ISO 8601."""
    now = datetime.now(SEOUL)
    opens_at = (now + timedelta(seconds=in_s + 1)).replace(microsecond=0)
    return time.monotonic() + (opens_at - now).total_seconds(), opens_at.isoformat()


async def _watched(scenario: Scenario, stage: Stage, folder: Path, quiet_s: float, seconds: float) -> Evidence:
    samples: list[Sample] = []
    board_url = f"{stage.public_urls[0]}/_waitroom/{scenario.room}/board" if stage.operator_urls else None
    owner = Owner()
    owner.start(keep_sampling(samples, stage.bank_url, board_url), "samples")
    stop = scenario.stop if scenario.stop is not None and scenario.stop.at_s < seconds else None
    try:
        async with _crowd(scenario, stage.public_urls, folder, quiet_s, seconds) as process:
            async with asyncio.timeout(quiet_s + seconds + END_S):
                stopped_s = await _stop_bank(stage, stop, folder) if stop is not None else None
                await process.wait()
    finally:
        await owner.close()
    record = folder / "record"
    if process.returncode not in {0, 1} or not record.exists():  # 1: it saw failures, which is what a replay is for
        raise StartError(
            f"Locust ended with {process.returncode}; it said:\n{(folder / 'locust.log').read_text()[-2_000:]}"
        )
    with (folder / "crowd_visits.csv").open(newline="", encoding="utf-8") as file:
        visits = {row["Name"]: row["Value"] for row in csv.DictReader(file)}
    with record.open(encoding="utf-8") as lines:
        recorded = read_record(lines)
    entries = read_entries(stage.bank_folder / "entries.jsonl")
    return Evidence(recorded, visits, samples, entries, await read_stats(stage.bank_url), None, stopped_s, 0.0)


@asynccontextmanager
async def _crowd(
    scenario: Scenario, urls: Sequence[str], folder: Path, quiet_s: float, seconds: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Locust with the incident's file, as people run it, in a session of its own; ended with all its processes."""
    with (folder / "locust.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *crowd_command(scenario, urls, folder, quiet_s, seconds),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def crowd_command(scenario: Scenario, urls: Sequence[str], folder: Path, quiet_s: float, seconds: float) -> list[str]:
    """The arguments of `python`."""
    first, *others = urls
    command = ["-m", "locust", "-f", f"locustfiles/{scenario.name}.py", "--headless", "--only-summary"]
    command += ["--host", first, *(word for url in others for word in ("--also", url))]
    command += [
        "-t",
        f"{round(quiet_s + seconds)}s",
        "--quiet",
        f"{quiet_s:.1f}",
        "--crowd",
        f"{1 / scenario.people:.9f}",
    ]
    command += ["--pace", f"{scenario.pace:g}", "--seed", f"{SEED}", "--record", str(folder / "record")]
    command += ["--csv", str(folder / "crowd")]
    customers = f'{{"user_class_name": "Customer", "fixed_count": {scenario.customers}}}'
    return [*command, "--config-users", customers]


async def _stop_bank(stage: Stage, stop: Stop, folder: Path) -> tuple[float, float]:
    """Kill it and start it again; from when until when it was away."""
    while (began_s := _began_s(folder / "record")) is None:  # noqa: ASYNC110 - a file of another process
        await asyncio.sleep(0.2)
    await asyncio.sleep(max(0.0, began_s + stop.at_s - time.monotonic()))
    from_s = time.monotonic()
    await stage.bank.crash()
    await asyncio.sleep(stop.for_s)
    await stage.bank.start()
    await stage.bank.until_well()
    return from_s, time.monotonic()


def _began_s(record: Path) -> float | None:
    """When the crowd begins to come, as soon as its record says so."""
    text = record.read_text() if record.exists() else ""
    return read_record(text[: text.rfind("\n") + 1].splitlines()).began_s or None
