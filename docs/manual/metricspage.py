"""Makes docs/metrics.md: what the code says of each metric, who shows it and who wakes for it, and what a person makes of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client import Metric

from gateway.metrics import Metrics
from gateway.model import Bypass, Match, Rate, Room, RoomSettings
from gateway.queue.scripts import SCRIPTS
from gateway.web.upstream import FAILURES

HERE = Path(__file__).parent
DEPLOY: Final = HERE.parent.parent / "deploy"
# What configuration names; every other value of a label is one of a fixed list.
CONFIGURED: Final = {
    "room": "each `id` of `[[rooms]]`",
    "upstream": "each `[upstreams.NAME]`",
    "rule": "each `name` of `bypass`",
    "kid": "a key's thumbprint",
    "hash": "of the configuration in force",
    "le": "",
}
NAME: Final = re.compile(r"\b(?:waitroom|process)_[a-z_]+\b")
RULE: Final = re.compile(r"\b[a-z]+:waitroom_\w+:\w+\b")
HEAD: Final = """# Every metric

Made by `make references` from `gateway/metrics.py`, the alerts and the dashboards; a test compares. They are on the
operator port, `/metrics`, in the text formats of Prometheus. Labels come from configuration and from fixed lists,
never from visitors.

- **Gauges of a room** are set from its board and equal on every gateway: take any, `max by (room)`.
- **Counters and histograms** count what one gateway did: `sum` them. `waitroom_door_held_seconds_total` is time, and
  passes alike for all: take any.
- With `workers`, one scrape tells of all workers of a gateway.
- "Wakes" are the alerts that ask for it, each with its [runbook](runbooks.md); "shown" are panels of the dashboards
  in `deploy/grafana/`.
"""


def page() -> str:
    """The whole of docs/metrics.md."""
    texts = tomllib.loads((HERE / "metrics.toml").read_text())
    families = list(_families())
    ours = [family for family in families if not family.name.startswith("process_")]
    theirs = [family for family in families if family.name.startswith("process_")]
    if unknown := set(texts) - {_name(family) for family in ours} - {"process"}:
        raise SystemExit(f"metrics.toml speaks of metrics that are not there: {', '.join(sorted(unknown))}")
    wakes, shown = _wakes(), _shown()
    parts = [HEAD, "\n".join(_overview(ours))]
    for family in ours:
        name = _name(family)
        parts.append("\n".join(_section(family, texts[name], wakes.get(name, []), shown.get(name, []))))
    parts.append("\n".join(_process(theirs, texts["process"])))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _families() -> Iterable[Metric]:
    """All metrics, each with every label and every value that the code may give it."""
    settings = RoomSettings(drain_rate=Rate(1, "s"), burst=2, active_max=1)
    room = Room("-", (Match("/"),), "/", "-", 1, settings, bypass=(Bypass("-", path="/"),))
    metrics = Metrics([room], ["-"])
    for kind in FAILURES:
        metrics.upstreams["-"].failed(kind)
    for script in SCRIPTS:
        metrics.redis_answered(script, 0)
    metrics.show_keys("-", ["-"])
    metrics.show_config("-")
    return metrics.collect()


def _name(family: Metric) -> str:
    """As queries name it; the library keeps counters without their ending."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def _overview(families: Iterable[Metric]) -> Iterator[str]:
    yield "| metric | kind | says |"
    yield "| --- | --- | --- |"
    for family in families:
        name = _name(family)
        yield f"| [`{name}`](#{name}) | {family.type} | {family.documentation} |"


def _section(family: Metric, text: dict[str, str], wakes: list[str], shown: list[str]) -> Iterator[str]:
    yield f"## `{_name(family)}`\n"
    yield f"{family.documentation} A {family.type}, in {text['unit']}.\n"
    for label, values in _labels(family).items():
        yield f"- `{label}`: {CONFIGURED.get(label) or ', '.join(f'`{value}`' for value in values)}"
    if bounds := _bounds(family):
        yield f"- buckets: {', '.join(bounds)}"
    yield f"- **Normal**: {text['normal']}"
    yield f"- **Do**: {text['do']}"
    if wakes:
        yield f"- **Wakes**: {', '.join(f'[{alert}](runbooks.md#{alert.lower()})' for alert in wakes)}"
    if shown:
        yield f"- **Shown**: {'; '.join(shown)}"


def _labels(family: Metric) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le":
                found.setdefault(label, {})[value] = None
    return {label: list(values) for label, values in found.items()}


def _bounds(family: Metric) -> list[str]:
    bounds = dict.fromkeys(sample.labels["le"] for sample in family.samples if "le" in sample.labels)
    return [f"{float(bound):g}" for bound in bounds if bound != "+Inf"]


def _process(families: Iterable[Metric], text: dict[str, str]) -> Iterator[str]:
    yield "## The process\n"
    yield f"{text['about']} In {text['unit']}.\n"
    yield "| metric | says |"
    yield "| --- | --- |"
    for family in families:
        yield f"| `{_name(family)}` | {family.documentation} |"
    yield f"\n- **Normal**: {text['normal']}"
    yield f"- **Do**: {text['do']}"


# --- who asks for it -------------------------------------------------------------------------------------------------


def _wakes() -> dict[str, list[str]]:
    """Metric -> alerts, through the recording rules that they ask for."""
    found: dict[str, list[str]] = {}
    recorded = _recorded()
    for rule in _rules():
        if "alert" in rule:
            for name in sorted(_metrics_of(rule["expr"], recorded)):
                found.setdefault(name, []).append(rule["alert"])
    return found


def _shown() -> dict[str, list[str]]:
    """Metric -> dashboards and their panels."""
    found: dict[str, dict[str, list[str]]] = {}
    recorded = _recorded()
    for name, board in tomllib.loads((DEPLOY / "grafana" / "dashboards.toml").read_text()).items():
        for panel in board["panels"]:
            asked = " ".join(panel.get("queries", {}).values())
            for metric in _metrics_of(asked, recorded):
                panels = found.setdefault(metric, {}).setdefault(name, [])
                if panel["title"] not in panels:
                    panels.append(panel["title"])
    return {
        metric: [f"{board} ({', '.join(f'“{panel}”' for panel in panels)})" for board, panels in boards.items()]
        for metric, boards in found.items()
    }


def _rules() -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def _recorded() -> dict[str, str]:
    return {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}


def _metrics_of(asked: str, recorded: dict[str, str]) -> set[str]:
    """Names of metrics that a query comes to; rules may ask for rules, and the last of them for metrics."""
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in NAME.findall(RULE.sub("", asked))}
    for rule in RULE.findall(asked):
        if rule in recorded:
            names |= _metrics_of(recorded[rule].replace(rule, ""), recorded)
    return names
