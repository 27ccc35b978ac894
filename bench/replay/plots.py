"""Owns the pictures of the replays: both runs of an incident side by side, told waits against real ones, and all three in one.

Every picture has a white ground of its own, so that it reads on a dark page as on a light one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.replay.scenario import QUIET_S, Scenario
from bench.replay.story import Run
from bench.report import BAR, LINE, MISSED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE: Final = "#8a8f98"
OPENS: Final = "#2e7d4f"
MARKED_MAX: Final = 700  # points of one scatter; more make a file heavy and show nothing more
SIDES: Final = ("without the gateway", "with the gateway")
GAP_S: Final = 2.5  # a sample that is missing
SMALLEST_MS: Final = 10
LARGEST_MS: Final = 20_000


def draw(scenario: Scenario, runs: tuple[Run, Run], folder: Path) -> list[Path]:
    """`<name>.svg` and `<name>-waits.svg`; `runs` are without and with."""
    rows = [_requests, _latency, _line, _left if scenario.stock is not None else _people]
    fig, axes = _sheet(len(rows), 2, height=2.1)
    for column, run in enumerate(runs):
        for row, panel in enumerate(rows):
            panel(axes[row][column], run, is_first=column == 0)
            _mark(axes[row][column], scenario, run, is_named=row == 0)
        axes[0][column].set_title(SIDES[column], fontsize=10, fontweight="bold")
        axes[-1][column].set_xlabel(_time(scenario))
    _legend(fig, axes[0][0])
    axes[2][0].set_ylim(bottom=0)  # both sides share it, so not before both are drawn
    axes[3][0].set_ylim(bottom=min(0, *(left for run in runs for _, left in run.left), 0) * 1.5)
    whole = _save(fig, folder / f"{scenario.name}.svg")
    return [whole, _draw_waits(scenario, runs[1], folder / f"{scenario.name}-waits.svg")]


def draw_all(scenarios: Sequence[Scenario], pairs: Sequence[tuple[Run, Run]], file: Path) -> Path:
    """What the bank answered and what failed, in all incidents, without and with."""
    fig, axes = _sheet(len(scenarios), 2, height=1.75)
    for row, (scenario, runs) in enumerate(zip(scenarios, pairs, strict=True)):
        for column, run in enumerate(runs):
            _requests(axes[row][column], run, is_first=False)
            _mark(axes[row][column], scenario, run, is_named=True)
        axes[row][0].set_ylabel(f"{scenario.name}\nrequests/s")
        axes[row][1].set_ylabel("")
    for column, side in enumerate(SIDES):
        axes[0][column].set_title(side, fontsize=10, fontweight="bold")
        axes[-1][column].set_xlabel("s since the crowd began to come")
    _legend(fig, axes[0][0])
    return _save(fig, file)


# --- one panel each ---------------------------------------------------------------------------------------------------


def _requests(axes: Axes, run: Run, *, is_first: bool) -> None:
    seconds = [run.from_s + k + 0.5 for k in range(len(run.served))]
    axes.fill_between(seconds, run.served, step="mid", color=BAR, alpha=0.85, linewidth=0, label="answered by the bank")
    axes.step(seconds, run.failed, where="mid", color=MISSED, linewidth=1.3, label="failed")
    # What fails is many times what is answered: a linear scale would show only one of the two.
    axes.set_yscale("symlog", linthresh=20, linscale=0.7)
    axes.set_ylim(0, 3_000)
    axes.set_yticks([0, 10, 100, 1_000], ["0", "10", "100", "1,000"])
    axes.minorticks_off()
    axes.set_ylabel("the crowd's\nrequests/s" if is_first else "")


def _latency(axes: Axes, run: Run, *, is_first: bool) -> None:
    """Every request of ordinary customers, at the time it was asked."""
    well = _thinned([(at_s, took_ms) for at_s, took_ms, is_failed in run.beside if not is_failed])
    failed = _thinned([(at_s, took_ms) for at_s, took_ms, is_failed in run.beside if is_failed])
    axes.plot(*_columns(well), ".", color=BAR, markersize=2.5, label="answered")
    axes.plot(*_columns(failed), "x", color=MISSED, markersize=4, markeredgewidth=1, label="failed")
    axes.set_yscale("log")
    axes.set_ylim(SMALLEST_MS, LARGEST_MS)
    axes.set_yticks([10, 100, 1_000, 10_000], ["10 ms", "0.1 s", "1 s", "10 s"])
    axes.minorticks_off()
    axes.set_ylabel("ordinary\ncustomers" if is_first else "")


def _line(axes: Axes, run: Run, *, is_first: bool) -> None:
    axes.plot(
        *_columns(_with_gaps(run.queued)), color=MISSED, linewidth=1.3, label="requests before the bank's workers"
    )
    if run.has_gateway:
        until = ", until it was sold out" if run.left else ""
        axes.plot(*_columns(run.line), color=BAR, linewidth=1.5, label=f"people in line{until}")
    axes.set_ylabel("waiting" if is_first else "")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper left", fontsize=7, frameon=False)


def _left(axes: Axes, run: Run, *, is_first: bool) -> None:
    axes.step(*_columns(run.left), where="post", color=BAR, linewidth=1.5, label="left, by the bank's books")
    axes.plot(*_told(run), color=OPENS, linewidth=1.3, label="people who were told they have one")
    axes.axhline(0, color=LINE, linewidth=0.6)
    axes.set_ylabel("deposits" if is_first else "")
    if is_first:
        axes.legend(loc="upper right", fontsize=7, frameon=False)


def _people(axes: Axes, run: Run, *, is_first: bool) -> None:
    axes.plot(*_told(run), color=OPENS, linewidth=1.5)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("people served" if is_first else "")


def _draw_waits(scenario: Scenario, run: Run, file: Path) -> Path:
    """Each who was told a time, at what was told and what it came to."""
    fig, axes = _sheet(1, 1, height=4.2, width=4.6)
    panel = axes[0][0]
    p50 = _thinned([(told_s, real_s) for told_s, _, real_s in run.waits])
    p90 = _thinned([(told_s, real_s) for _, told_s, real_s in run.waits])
    most = max([1.0, *(value for wait in run.waits for value in wait)])
    panel.plot([0, most], [0, most], color=LINE, linewidth=0.8, linestyle="--", label="as told")
    panel.plot(*_columns(p50), ".", color=BAR, markersize=3, label="told as p50")
    panel.plot(*_columns(p90), ".", color=PALE, markersize=2, label="told as p90", zorder=1)
    panel.set_xlabel("told, s")
    panel.set_ylabel("waited from then on, s")
    panel.set_title(f"{scenario.name}: expected and real waits", fontsize=9)
    panel.legend(loc="lower right", fontsize=7, frameon=False)
    return _save(fig, file)


def _mark(axes: Axes, scenario: Scenario, run: Run, *, is_named: bool) -> None:
    """The hour, and the time the bank was away."""
    axes.set_xlim(-QUIET_S, scenario.seconds)
    top = axes.get_xaxis_transform()
    if run.opened_s is not None:
        axes.axvline(run.opened_s, color=OPENS, linewidth=0.9, linestyle="--")
        if is_named:
            axes.text(run.opened_s + 0.6, 0.97, "opens", color=OPENS, fontsize=7, transform=top, va="top")
    if run.stopped_s is not None:
        axes.axvspan(*run.stopped_s, color=PALE, alpha=0.25, linewidth=0)
        if is_named:
            axes.text(run.stopped_s[0] + 0.4, 0.97, "bank\ndown", color=LINE, fontsize=7, transform=top, va="top")


# --- paper ------------------------------------------------------------------------------------------------------------


def _sheet(rows: int, columns: int, *, height: float, width: float = 8.6) -> tuple[Figure, list[list[Axes]]]:
    import matplotlib as mpl  # noqa: PLC0415 - it takes a second, which `--help` need not wait for

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "replay", "font.size": 8, "axes.labelsize": 8})
    from matplotlib import pyplot as plt  # noqa: PLC0415

    fig, axes = plt.subplots(
        rows, columns, figsize=(width, 0.5 + height * rows), layout="constrained", sharey="row", squeeze=False
    )
    for panel in axes.flat:
        panel.grid(axis="y", color="#e3e5e8", linewidth=0.6)
        panel.set_axisbelow(True)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    return fig, [list(row) for row in axes]


def _save(fig: Figure, file: Path) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    fig.savefig(file, metadata={"Date": None})
    plt.close(fig)
    return file


def _time(scenario: Scenario) -> str:
    of_the_day = f" (1 s is {scenario.pace / 60:g} min of the day)" if scenario.pace > 1 else ""
    return f"s since the crowd began to come{of_the_day}"


def _told(run: Run) -> tuple[list[float], list[float]]:
    return _columns(run.people)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _with_gaps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """No line is drawn over seconds of which nothing is known."""
    lined: list[tuple[float, float]] = []
    for at_s, value in points:
        if lined and at_s - lined[-1][0] > GAP_S:
            lined.append((at_s, nan))
        lined.append((at_s, value))
    return lined


def _legend(fig: Figure, axes: Axes) -> None:
    """Of the requests, above all."""
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8, frameon=False)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Every n-th of them, in their order."""
    return points[:: -(-len(points) // MARKED_MAX) or 1]
