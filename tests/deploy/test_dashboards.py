"""Holds the Grafana dashboards to what can be checked without a Grafana; none of them was opened in one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.prometheus import DEPLOY

GRAFANA = DEPLOY / "grafana"
DASHBOARDS = sorted(GRAFANA.glob("*.json"))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"short", "s", "percentunit", "reqps", "ops", "bytes", "bool_on_off"}
KINDS = {"row", "timeseries", "stat", "state-timeline", "text"}


def document(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def panels(dashboard: dict[str, Any], *, drawn: bool = True) -> list[dict[str, Any]]:
    """All of them, or those that ask something."""
    return [panel for panel in dashboard["panels"] if not drawn or panel["type"] not in {"row", "text"}]


def faults(dashboard: dict[str, Any]) -> list[str]:
    """What Grafana would refuse, lose, or draw over one another."""
    ids = [panel["id"] for panel in dashboard["panels"]]
    found = [] if len(set(ids)) == len(ids) else ["two panels have one id"]
    found += [f"{panel['type']} is no kind of panel" for panel in dashboard["panels"] if panel["type"] not in KINDS]
    for panel in panels(dashboard):
        title, targets = panel["title"], panel["targets"]
        refs = [target["refId"] for target in targets]
        found += [f"{title}: no unit"] if panel["fieldConfig"]["defaults"].get("unit") not in UNITS else []
        found += [f"{title}: no query"] if not targets or not all(target["expr"] for target in targets) else []
        found += [f"{title}: two queries have one refId"] if len(set(refs)) != len(refs) else []
        sources = [panel["datasource"], *(target["datasource"] for target in targets)]
        found += [f"{title}: its source is no variable"] if any(source != SOURCE for source in sources) else []
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        values = [step["value"] for step in steps]
        is_rising = values[0] is None and None not in values[1:] and values[1:] == sorted(values[1:])
        found += [] if is_rising else [f"{title}: its limits do not rise from nothing"]
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    found += [f"out of the grid: {place}" for place in places if place["x"] + place["w"] > 24]
    found += [f"over one another: {one} {other}" for one, other in combinations(places, 2) if overlap(one, other)]
    return found


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h"))
    )


def test_there_is_one_for_each_audience() -> None:
    """Issue 5: the room during an event, the fleet, the promises."""
    assert [file.stem for file in DASHBOARDS] == ["waitroom-event", "waitroom-fleet", "waitroom-promises"]


def test_the_documents_are_what_the_source_makes(tmp_path: Path) -> None:
    """And the check can fail: a title changed by hand is told."""
    copy = shutil.copytree(GRAFANA, tmp_path / "grafana", ignore=shutil.ignore_patterns("__pycache__"))
    check = [sys.executable, str(copy / "dashboards.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    file = copy / "waitroom-fleet.json"
    file.write_text(file.read_text().replace("the fleet", "the float"))
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "waitroom-fleet.json is not what dashboards.toml makes\n")


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_can_be_imported_anywhere(file: Path) -> None:
    """No id of one Grafana, a fixed uid, a source that is chosen, and panels that do not collide."""
    dashboard = document(file)
    assert "id" not in dashboard
    assert dashboard["uid"] == file.stem
    assert dashboard["schemaVersion"] >= 36
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables.get("room", {"datasource": SOURCE})["datasource"] == SOURCE
    assert [one["datasource"] for one in dashboard["annotations"]["list"]] == [SOURCE]
    assert faults(dashboard) == []
    assert len(panels(dashboard)) > 12


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_variables_that_queries_use_are_there(file: Path) -> None:
    dashboard = document(file)
    queries = " ".join(target["expr"] for panel in panels(dashboard) for target in panel["targets"])
    assert ("$room" in queries) == any(one["name"] == "room" for one in dashboard["templating"]["list"])
    for builtin in ("$room", "$__rate_interval", "$__range"):
        queries = queries.replace(builtin, "")
    assert "$" not in queries


def test_planted_faults_are_caught() -> None:
    dashboard = document(DASHBOARDS[0])
    one, other, third, *_ = panels(dashboard)
    one["id"] = other["id"]
    one["fieldConfig"]["defaults"]["unit"] = "people"
    other["datasource"] = {"type": "prometheus", "uid": "P1809F7CD0C75ACF3"}
    other["targets"] = []
    third["gridPos"] = other["gridPos"]
    third["fieldConfig"]["defaults"]["thresholds"]["steps"] = [{"color": "red", "value": 1}]
    found = faults(dashboard)
    assert found[:-1] == [
        "two panels have one id",
        f"{one['title']}: no unit",
        f"{other['title']}: no query",
        f"{other['title']}: its source is no variable",
        f"{third['title']}: its limits do not rise from nothing",
    ]
    assert found[-1].startswith("over one another")
