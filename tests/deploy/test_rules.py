"""Holds Prometheus' rules: promtool accepts and tests them, every alert fires and stays silent, and has its runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.prometheus import ALERTS, DEPLOY, RECORDS, RULES, faster
from tests.test_docs import slug

TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
RUNBOOKS = DEPLOY.parent / "docs" / "runbooks.md"
FAILED = re.compile(r"alertname: (\w+), time: \S+,\s+exp:\[(\]?)")
# What a series may be told apart by: all of it is configuration, an enumeration, or the scrape's own.
LABELS = {"room", "setting", "reason", "upstream", "kid", "hash", "le", "job", "instance"}


def promtool(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def planted(folder: Path, expr: str) -> set[tuple[str, bool]]:
    """Run promtool's tests with this in place of every alert's expression: which alerts failed where they were to be silent."""
    (folder / "rules").mkdir(parents=True)
    (folder / "tests").mkdir()
    for file in RULES:
        document = yaml.safe_load(file.read_text())
        for group in document["groups"]:
            # What is recorded costs most of the time, and nobody asks for it then.
            group["rules"] = [rule | {"expr": expr} for rule in group["rules"] if "alert" in rule]
        (folder / "rules" / file.name).write_text(yaml.safe_dump(document))
    for file in TESTS:
        (folder / "tests" / file.name).write_text(file.read_text())
    _, said = promtool("test", "rules", *sorted((folder / "tests").iterdir()))
    return {(name, silent == "]") for name, silent in FAILED.findall(said)}


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    """Issue 5: deploy/prometheus.yml works as it is."""
    code, said = promtool("check", "config", DEPLOY / "prometheus.yml")
    assert code == 0, said
    assert said.count("rules found") == len(RULES) == 2, said


def test_every_unit_test_of_the_rules_passes() -> None:
    code, said = promtool("test", "rules", *TESTS)
    assert code == 0, said


def test_an_alert_that_never_fires_is_caught_for_each_of_them(tmp_path: Path) -> None:
    """A planted fault: no alert can be broken without a test that fails."""
    assert planted(tmp_path, "vector(0) > 1") == {(name, False) for name in ALERTS}


def test_an_alert_that_always_fires_is_caught_for_each_of_them(tmp_path: Path) -> None:
    """A planted fault: each has a case in which it stays silent."""
    assert {name for name, was_to_be_silent in planted(tmp_path, "vector(1)") if was_to_be_silent} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_how_urgent_it_is_and_has_its_runbook(name: str) -> None:
    """What it means, what visitors see, what to do; and the anchor leads there."""
    rule = ALERTS[name]
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"page", "ticket", "notice"}
    sections = dict(part.partition("\n")[::2] for part in RUNBOOKS.read_text().split("\n## ")[1:])
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{slug(name)}"
    assert [word for word in ("**Means**:", "**Visitors see**:", "**Do**:") if word not in sections[name]] == []


def test_there_is_no_runbook_without_its_alert() -> None:
    assert set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == set(ALERTS)
    assert len(ALERTS) == 17


def test_labels_come_from_configuration_only() -> None:
    """Section 11. What is grouped by, matched on and told apart."""
    for rule in (*ALERTS.values(), *RECORDS.values()):
        told = re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)|\{(\w+)[=!]", rule["expr"])
        used = {label.strip() for grouped, matched in told for label in (grouped or matched).split(",")} - {""}
        assert used <= LABELS | {"kind", "use"}, rule["expr"]


def test_every_recorded_series_is_used() -> None:
    """Style 19: no series that nobody looks at."""
    dashboards = (DEPLOY / "grafana" / "dashboards.toml").read_text()
    for name in RECORDS:
        others = [rule["expr"] for rule in (*ALERTS.values(), *RECORDS.values()) if rule.get("record") != name]
        assert any(name in text for text in (dashboards, *others)), name


def test_minutes_become_seconds_and_names_stay() -> None:
    """What the live test does to the rules."""
    given: dict[str, Any] = {"for": "15m", "expr": "a:rate5m[30m] > 5.5 * 60 and b offset 5m", "e": "30s", "d": "7d"}
    assert yaml.safe_load(faster(yaml.safe_dump(given))) == {
        "for": "15s", "expr": "a:rate5m[30s] > 5.5 * 1 and b offset 5s", "e": "500ms", "d": "7d",
    }  # fmt: skip
