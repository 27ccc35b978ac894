"""Owns the pages of the replays: one for each incident with its pictures, and a table over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.replay.scenario import Scenario
from bench.replay.story import Figures, Run
from bench.replay.verdict import fell, judge

COMMAND: Final = "make replay"
NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class Replay:
    """An incident with both of its runs, and where they were made."""

    scenario: Scenario
    without: Run
    behind: Run
    machine: str


def _whole(read: Callable[[Figures], int | None]) -> Callable[[Figures], str]:
    def cell(figures: Figures) -> str:
        value = read(figures)
        return NONE if value is None else f"{value:,}"

    return cell


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value < 1_000 else f"{value / 1e3:,.1f} s"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.0%}"


# The table of the issue, over all incidents; then what else a page tells.
CHIEF: Final[Mapping[str, Callable[[Figures], str]]] = {
    "requests failed": _whole(lambda f: f.failed),
    "of those, while the bank was away": _whole(lambda f: f.failed_in_stop),
    "oversold": _whole(lambda f: f.oversold),
    "people served a minute": lambda f: f"{f.served_per_min:,.0f}",
    "p99 of the unprotected route": lambda f: _ms(f.beside_p99_ms),
    "order inversions at the door": _whole(lambda f: f.overtaken_at_door),
    "of those, until both gateways had found the bank again": _whole(lambda f: f.overtaken_in_stop),
    "overtaken by somebody who came 5 s later": _whole(lambda f: f.overtaken),
}
REST: Final[Mapping[str, Callable[[Figures], str]]] = {
    "people who came": _whole(lambda f: f.arrived),
    "served: told that they have it": _whole(lambda f: f.served),
    "have it in the bank's books, and never heard": _whole(lambda f: f.untold),
    "told that it is over": _whole(lambda f: f.turned_away),
    "gave up after 12 failures": _whole(lambda f: f.gave_up),
    "none of these when the run ended, or left": lambda f: f"{f.arrived - f.served - f.turned_away - f.gave_up:,}",
    "requests of the crowd": _whole(lambda f: f.requests),
    "seconds in which more failed than the bank answered": _whole(lambda f: f.down_s),
    "transactions for people who had gone": _whole(lambda f: f.abandoned),
    "sold out after": lambda f: NONE if f.sold_out_s is None else f"{f.sold_out_s:.0f} s",
    "ordinary customers: requests, failed": lambda f: f"{f.beside:,}, {f.beside_failed:,}",
    "p50; p99 of the same before the crowd": lambda f: f"{_ms(f.beside_p50_ms)}; {_ms(f.quiet_p99_ms)}",
    "longest line": _whole(lambda f: f.line_max),
    "wait until let in, p50 and p90": lambda f: f"{f.wait_p50_s:.1f} s, {f.wait_p90_s:.1f} s",
    "in by the told p50, p90": lambda f: f"{_share(f.by_p50)}, {_share(f.by_p90)}",
    "lost places, wrongly refused": lambda f: f"{f.lost_places}, {f.wrongly_refused}",
    "entries above rate x window + burst": lambda f: NONE if f.excess is None else f"{max(0.0, f.excess):.0f}",
    "the crowd's own lag, at most": lambda f: f"{f.lag_s:.2f} s",
    "of the machine, used by others": lambda f: f"{f.others_share:.0%}",
}


def write_page(replay: Replay, folder: Path) -> Path:
    """`<name>.md`, beside its pictures."""
    file = folder / f"{replay.scenario.name}.md"
    file.write_text("\n".join(_page(replay)) + "\n", encoding="utf-8")
    return file


def write_index(replays: Sequence[Replay], folder: Path) -> Path:
    file = folder / "index.md"
    file.write_text("\n".join(_index(replays)) + "\n", encoding="utf-8")
    return file


def words(replay: Replay) -> Iterator[str]:
    """What the pair shows, in sentences made of its figures."""
    without, behind = replay.without.figures, replay.behind.figures
    if fell(replay.without):
        yield (
            f"Without the gateway the bank fell: in {without.down_s} of {replay.scenario.seconds:g} seconds more requests "
            f"failed than it answered. {without.served:,} of {without.arrived:,} people got what they came for and were "
            f"told so; {without.abandoned:,} transactions were done for people who had gone."
        )
    else:
        yield "Without the gateway the bank stood: this run shows nothing."
    verdict = judge(replay.behind, replay.scenario.rate_per_s)
    if verdict.faults:
        yield f"With the gateway promises were broken: {'; '.join(verdict.faults)}."
    elif verdict.doubts:
        yield f"With the gateway, on a machine too busy to tell why: {'; '.join(verdict.doubts)}."
    else:
        outside = "" if replay.behind.stopped_s is None else " while the bank was up"
        yield (
            f"With it the bank stood: {behind.served:,} were served and no place was lost; no request failed and nobody at the "
            f"door was overtaken{outside}; 99 of 100 requests of ordinary customers took {_ms(behind.beside_p99_ms)} or less "
            f"({_ms(without.beside_p99_ms)} without)."
        )


def _page(replay: Replay) -> Iterator[str]:
    scenario = replay.scenario
    yield f"# `{scenario.name}`, replayed"
    yield ""
    yield f"{scenario.title}. Written by `{COMMAND}`, which replaces it; all three are [beside each other](index.md)."
    yield ""
    yield from words(replay)
    yield ""
    yield f'<img src="{scenario.name}.svg" width="860" alt="{scenario.name}: both runs side by side">'
    yield ""
    yield from _panels(scenario)
    yield ""
    yield "## What is assumed"
    yield ""
    yield from (f"- {sentence}" for sentence in scenario.assumed)
    yield (
        f"- The door lets {scenario.rate_per_s:g} people a second in, bursts of {scenario.burst:g}, at most "
        f"{scenario.active_max} at a time, through two gateways that share one Valkey."
    )
    yield f"- Who comes, and how patient each is: `locustfiles/{scenario.name}.py` ([load tests](../load.md))."
    yield ""
    yield "## Figures"
    yield ""
    yield from _table([replay], {**CHIEF, **REST})
    yield ""
    yield f'<img src="{scenario.name}-waits.svg" width="460" alt="{scenario.name}: expected against real waits">'
    yield ""
    yield (
        "Each point is one who was told a time while waiting, at what was told and what it came to. Noticing the turn and "
        "loading the page count as waiting."
    )
    yield ""
    yield f"Made on {replay.machine}."
    yield f"The data: [{scenario.name}.json]({scenario.name}.json)."


def _panels(scenario: Scenario) -> Iterator[str]:
    yield "From the top, in the same seconds:"
    yield ""
    yield "- the crowd's requests that the bank answered (pages and forms, not the waiting page), and those that failed;"
    yield "- every request of ordinary customers, who are in no room, at the time it was made, by how long it took;"
    yield "- what waits: requests before the bank's workers, and people in line;"
    if scenario.stock is not None:
        yield "- deposits left by the bank's books, and people who were told that they have one."
    else:
        yield "- people who were told that they have what they came for."


def _index(replays: Sequence[Replay]) -> Iterator[str]:
    yield "# The three outages, replayed"
    yield ""
    yield (
        "Each of the [three outages](../../README.md#the-three-outages-it-exists-for) once without the gateway and once with "
        f"it, on the demo bank, with the crowds of [`locustfiles/`](../load.md). `{COMMAND}` writes these pages; all of it "
        "takes less than ten minutes on two cores."
    )
    yield ""
    yield '<img src="outages.svg" width="860" alt="What the bank answered and what failed in each second, in all three">'
    yield ""
    yield from _table(replays, CHIEF)
    yield ""
    for replay in replays:
        yield f"- [{replay.scenario.title}]({replay.scenario.name}.md). {' '.join(words(replay))}"
    yield ""
    yield from (Path(__file__).parent / "how.md").read_text(encoding="utf-8").splitlines()
    yield ""
    for replay in replays:
        shares = ", ".join(f"{run.figures.others_share:.0%}" for run in (replay.without, replay.behind))
        yield f"- `{replay.scenario.name}`: {replay.machine}; others used {shares} of it meanwhile (without, with)."


def _table(replays: Sequence[Replay], rows: Mapping[str, Callable[[Figures], str]]) -> Iterator[str]:
    """A column for each run, without before with."""
    names = [f"`{replay.scenario.name}`, {side}" for replay in replays for side in ("without", "with")]
    runs = [run.figures for replay in replays for run in (replay.without, replay.behind)]
    yield f"| | {' | '.join(names if len(replays) > 1 else ('without', 'with'))} |"
    yield f"| --- |{' ---: |' * len(runs)}"
    for label, cell in rows.items():
        yield f"| {label} | {' | '.join(cell(figures) for figures in runs)} |"
