"""Runs the measurements and prints one table, each figure with its goal and how it can be wrong.

    python -m bench [NAME ...] [--rounds 5] [--seconds 3] [--minutes 10]

Without names: all but memory, which takes --minutes. How to read them: docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import bulkheads, claims, edges, entries, joins, memory, polls, proxied, report
from bench.load import Effort, Figure
from bench.stage import Elsewhere

MEASUREMENTS: Final[dict[str, Callable[[Effort], list[Figure]]]] = {
    "polls": polls.measure,
    "joins": joins.measure,
    "claims": claims.measure,
    "proxied": proxied.measure,
    "entries": entries.measure,
    "bulkheads": bulkheads.measure,
    "edges": edges.measure,
    "memory": memory.measure,
}
# These print their own figures, and need no gateway.
ALONE: Final[dict[str, Callable[[Effort], list[str]]]] = {
    "queue": lambda _: [],
    "proxy": lambda effort: ["--rounds", str(effort.rounds), "--seconds", str(effort.seconds)],
}
ONLY_WHEN_NAMED: Final = {"memory", "proxy"}  # minutes; a part of what `proxied` measures whole


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    names = [*MEASUREMENTS, *ALONE]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each contender in each round")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the memory run")
    parser.add_argument(
        "--into", type=Path, default=Path("build"), metavar="FOLDER", help="of bench.json and bench.svg"
    )
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(names):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    effort, figures = Effort(asked.rounds, asked.seconds, asked.minutes), []
    for name in asked.names or [name for name in names if name not in ONLY_WHEN_NAMED]:
        print(f"{name} ...", flush=True)
        others = Elsewhere()
        if name in ALONE:
            subprocess.run([sys.executable, "-m", f"bench.{name}", *ALONE[name](effort)], check=True)
        else:
            figures += MEASUREMENTS[name](effort)
        print(f"  meanwhile others used {others.cores():.2f} of {os.cpu_count()} cores", flush=True)
    if figures:
        print(f"\n{report.table(figures)}")
        print("written:", *report.write(figures, asked.into))
    if any(figure.is_met is False for figure in figures):
        sys.exit(1)


if __name__ == "__main__":
    main()
