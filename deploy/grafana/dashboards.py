"""Makes the JSON that Grafana imports out of dashboards.toml, the one source of the dashboards.

python deploy/grafana/dashboards.py           writes waitroom-event.json, waitroom-fleet.json and waitroom-promises.json
python deploy/grafana/dashboards.py --check   says which of them are not what the source makes, and exits 1

Every query is run by the tests against a real Prometheus. The JSON is checked, but was not opened in a Grafana.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SCHEMA_VERSION: Final = 39  # Grafana 10.4; later ones bring it up to date by themselves
COLUMNS: Final = 24
SIZES: Final = {"stat": (4, 4)}  # width, height
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
SOURCE_VARIABLE: Final = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
ROOM_VARIABLE: Final = {
    "name": "room",
    "label": "Room",
    "type": "query",
    "datasource": SOURCE,
    "query": {"query": "label_values(waitroom_waiting, room)", "refId": "room"},
    "refresh": 2,  # with the range of time: rooms come and go
    "sort": 1,
}
ALERTS: Final = {
    "name": "Alerts",
    "enable": True,
    "iconColor": "red",
    "datasource": SOURCE,
    "expr": 'ALERTS{alertname=~"Waitroom.*",alertstate="firing"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{room}}{{upstream}} {{instance}}",
}


def dashboard(name: str, source: dict[str, Any]) -> dict[str, Any]:
    """The document of one dashboard."""
    return {
        "uid": f"waitroom-{name}",
        "title": source["title"],
        "description": source["about"],
        "tags": ["waitroom"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": source["refresh"],
        "time": {"from": source["span"], "to": "now"},
        "templating": {"list": [SOURCE_VARIABLE, *([ROOM_VARIABLE] if source.get("room") else [])]},
        "annotations": {"list": [ALERTS]},
        "links": [{"type": "dashboards", "tags": ["waitroom"], "title": "waitroom", "asDropdown": False}],
        "panels": [{"id": number, **panel} for number, panel in enumerate(_placed(source["panels"]), 1)],
    }


def _placed(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """From left to right, and on to the next line when one is full or a row begins."""
    x = y = height = 0
    for panel in panels:
        width, tall = (panel.get(key, size) for key, size in zip(("width", "height"), _size(panel), strict=True))
        if "row" in panel or x + width > COLUMNS:
            x, y, height = 0, y + height, 0
        if "row" in panel:
            heading = {"type": "row", "title": panel["row"], "collapsed": False, "panels": []}
            yield {**heading, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
            y += 1
        yield {**_panel(panel), "gridPos": {"x": x, "y": y, "w": width, "h": tall}}
        x, height = x + width, max(height, tall)


def _size(panel: dict[str, Any]) -> tuple[int, int]:
    return SIZES.get(panel.get("kind", ""), (8, 8))


def _panel(panel: dict[str, Any]) -> dict[str, Any]:
    kind = panel.get("kind", "timeseries")
    if kind == "text":
        content = {"mode": "markdown", "content": panel["about"]}
        return {"type": kind, "title": panel["title"], "options": content}
    custom, options = _drawing(kind, is_stacked=panel.get("stacked", False))
    limits = panel.get("limits", [["text"]])
    steps = [{"color": colour, "value": value[0] if value else None} for colour, *value in limits]
    defaults = {"unit": panel["unit"], "min": 0, "thresholds": {"mode": "absolute", "steps": steps}} | custom
    return {
        "type": kind,
        "title": panel["title"],
        "description": panel.get("about", ""),
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": " ".join(expr.split()),
                "legendFormat": legend,
            }
            for index, (legend, expr) in enumerate(panel["queries"].items())
        ],
    }


def _drawing(kind: str, *, is_stacked: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a kind of panel wants besides: in its fields' defaults, and as its options."""
    tooltip = {"mode": "multi", "sort": "desc"}
    match kind:
        case "stat":
            shown = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
            return {"color": {"mode": "thresholds"}}, shown
        case "state-timeline":
            return {}, {"tooltip": tooltip, "showValue": "never", "mergeValues": True}
        case _:
            custom: dict[str, Any] = {"fillOpacity": 30 if is_stacked else 8, "lineWidth": 1, "showPoints": "never"}
            custom["stacking"] = {"mode": "normal" if is_stacked else "none", "group": "A"}
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
            return {"custom": custom}, {"tooltip": tooltip, "legend": legend}


def main(arguments: list[str]) -> int:
    is_check = "--check" in arguments
    stale = []
    for name, source in tomllib.loads((HERE / "dashboards.toml").read_text()).items():
        file, text = HERE / f"waitroom-{name}.json", json.dumps(dashboard(name, source), indent=1, ensure_ascii=False)
        if not file.exists() or file.read_text() != text + "\n":
            stale.append(file.name)
            if not is_check:
                file.write_text(text + "\n")
    word = "is not what dashboards.toml makes" if is_check else "written"
    sys.stdout.write("".join(f"{name} {word}\n" for name in stale))
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
