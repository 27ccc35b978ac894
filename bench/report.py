"""Writes what was measured: a table to read, the same as JSON, and a picture of each figure by its goal."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.load import Figure

COLUMNS: Final = ("figure", "ours", "reference", "ratio", "goal", "met", "gateway's peak; Redis a request")
MET: Final = {True: "yes", False: "NO", None: ""}
BAR, MISSED, LINE = "#1f5f8b", "#b3372f", "#222222"


def table(figures: Sequence[Figure]) -> str:
    """The one table, and how each figure can be wrong."""
    rows = [COLUMNS, *((f.name, f.ours, f.reference, f.ratio, f.goal, MET[f.is_met], f.cost) for f in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    doubts = [f"  {figure.name}: {figure.doubt}" for figure in figures]
    note = "cpu: the reference's processor time for a request by ours, which decides; speed: requests a second, ours by theirs"
    return "\n".join([machine(), *lines, "", "How each can be wrong", *doubts, "", note])


def machine() -> str:
    today = dt.datetime.now(dt.UTC).date()
    return f"{today}, {os.cpu_count()} cores, Python {platform.python_version()}"


def document(figures: Sequence[Figure]) -> dict[str, Any]:
    """What a program may want to compare with another run: all rounds of each figure."""
    told = [
        {
            "figure": one.name,
            "ours": one.ours,
            "reference": one.reference,
            "ratio": one.ratio,
            "goal": one.goal,
            "met": one.is_met,
            "cost": one.cost,
            "rounds": [round(value, 4) for value in one.values],
            "doubt": one.doubt,
        }
        for one in figures
    ]
    return {"machine": machine(), "figures": told}


def write(figures: Sequence[Figure], folder: Path) -> tuple[Path, Path]:
    """`bench.json` and `bench.svg` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text, picture = folder / "bench.json", folder / "bench.svg"
    text.write_text(json.dumps(document(figures), indent=2) + "\n")
    plot([one for one in figures if one.values and one.bound], picture)
    return text, picture


def plot(figures: Sequence[Figure], file: Path) -> None:
    """Median and range of each figure in parts of its goal: to the right of the line it is met, whichever way it counts."""
    import matplotlib as mpl  # noqa: PLC0415 - it takes a second, which `--help` need not wait for

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    fig, axes = plt.subplots(figsize=(9, 0.8 + 0.42 * max(1, len(figures))), layout="constrained")
    for row, one in enumerate(reversed(figures)):
        parts = sorted(_part(one, value) for value in one.values)
        median = statistics.median(parts)
        axes.barh(row, median, color=BAR if one.is_met else MISSED, height=0.6)
        axes.plot([parts[0], parts[-1]], [row, row], color=LINE, linewidth=1.5, marker="|")
        axes.text(0.02, row, f"{one.ratio or one.ours}  (goal {one.goal})", va="center", color="white", fontsize=7)
    axes.axvline(1, color=LINE, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(figures)), [one.name for one in reversed(figures)], fontsize=8)
    axes.set_xlabel("part of the goal (1 = met); bar: median, line: range over the rounds")
    axes.set_title(machine(), fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    fig.savefig(file, metadata={"Date": None})
    plt.close(fig)


def _part(one: Figure, value: float) -> float:
    assert one.bound is not None
    return one.bound / value if one.goal.startswith("<") else value / one.bound
