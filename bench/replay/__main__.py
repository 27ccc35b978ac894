"""Replays the three outages, each without the gateway and with it, and writes docs/replays.

    python -m bench.replay [--only NAME] [--seconds N] [--into FOLDER] [--redraw]

All of it takes less than ten minutes. Ends with 1 if the gateway broke a promise, with 2 if the machine was too busy to tell.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from bench.replay import pages, plots
from bench.replay.pages import Replay
from bench.replay.run import play
from bench.replay.scenario import SCENARIOS, Scenario
from bench.replay.story import Run, tell
from bench.replay.verdict import judge
from bench.report import machine
from gateway.demo.options import Parser, number
from gateway.demo.stage import raise_file_limit
from gateway.errors import StartError

INTO: Final = Path("docs/replays")
SECONDS_MIN: Final = 5.0


def main(arguments: Sequence[str]) -> int:
    """0 is: every promise was kept in every run with the gateway."""
    asked = _parse(arguments)
    into: Path = asked.into
    into.mkdir(parents=True, exist_ok=True)
    names = asked.only or list(SCENARIOS)
    # A shell that starts us in the background has us ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        if not asked.redraw:
            raise_file_limit(2 * max(SCENARIOS[name].visitors for name in names))
            for name in names:
                _keep(_replay(SCENARIOS[name], asked.seconds), into)
        replays = [_kept(SCENARIOS[name], into) for name in SCENARIOS if (into / f"{name}.json").exists()]
    except KeyboardInterrupt:
        print("\nStopped: nothing is written of the incident under way.", flush=True)
        return 130
    except StartError as fault:
        print(fault, file=sys.stderr)
        return 1
    for one in replays:
        plots.draw(one.scenario, (one.without, one.behind), into)
        pages.write_page(one, into)
    plots.draw_all(
        [one.scenario for one in replays], [(one.without, one.behind) for one in replays], into / "outages.svg"
    )
    print(f"\n{pages.write_index(replays, into)}")
    return _judge([one for one in replays if one.scenario.name in names])


def _replay(scenario: Scenario, seconds: float | None) -> Replay:
    watched = replace(scenario, seconds=min(scenario.seconds, seconds or scenario.seconds))
    runs: list[Run] = []
    for has_gateway in (False, True):
        side = "with the gateway" if has_gateway else "without"
        print(f"{scenario.name} {side}: {scenario.visitors:,} people, {watched.seconds:g} s ...", flush=True)
        evidence = asyncio.run(play(watched, has_gateway=has_gateway, seconds=watched.seconds))
        runs.append(tell(watched, evidence, watched.seconds))
        figures = runs[-1].figures
        print(
            f"  served {figures.served:,}, failed requests {figures.failed:,}; "
            f"lag {figures.lag_s:.2f} s, others used {figures.others_share:.0%} of the machine",
            flush=True,
        )
    return Replay(watched, runs[0], runs[1], machine())


def _judge(replays: Sequence[Replay]) -> int:
    code = 0
    for one in replays:
        name = one.scenario.name
        print(f"{name}: {' '.join(pages.words(one))}", flush=True)
        verdict = judge(one.behind, one.scenario.rate_per_s)
        if verdict.faults:
            print(f"BROKEN: {name}: {'; '.join(verdict.faults)}", flush=True)
            code = 1
        if verdict.doubts:
            print(
                f"NOT JUDGED: {name}: {'; '.join(verdict.doubts)}; the machine was too busy, run it again", flush=True
            )
            code = code or 2
    return code


def _keep(replay: Replay, into: Path) -> None:
    kept: dict[str, Any] = {
        "seconds": replay.scenario.seconds,
        "machine": replay.machine,
        "without": asdict(replay.without),
        "with": asdict(replay.behind),
    }
    (into / f"{replay.scenario.name}.json").write_text(json.dumps(kept) + "\n", encoding="utf-8")


def _kept(scenario: Scenario, into: Path) -> Replay:
    kept = json.loads((into / f"{scenario.name}.json").read_text(encoding="utf-8"))
    watched = replace(scenario, seconds=kept["seconds"])
    runs = (Run.of_json(kept["without"]), Run.of_json(kept["with"]))
    return Replay(watched, *runs, kept["machine"])


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser("python -m bench.replay", (__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=list(SCENARIOS), help="this incident; may be repeated (all three)"
    )
    parser.add_argument("--seconds", type=number(SECONDS_MIN, 600), help="watch each crowd no longer than that")
    parser.add_argument("--into", type=Path, default=INTO, metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--redraw", action="store_true", help="pages and pictures anew, from the data that is there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
