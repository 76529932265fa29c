"""Makes Grafana's dashboard of its source; `check` says whether it is stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final, TypeAlias

import yaml

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "deploy" / "grafana" / "gateway.yaml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboards" / "gateway.json"

WIDTH: Final = 24  # of a row, in Grafana's units
WIDE: Final = 8
HEIGHT: Final = 7
CHOSEN: Final = 'job=~"$job", instance=~"$node"'
PROMETHEUS: Final = {"type": "prometheus", "uid": "${datasource}"}
GREEN, AMBER, RED = "green", "orange", "red"

Json: TypeAlias = dict[str, Any]


def dashboard(source: Mapping[str, Any]) -> Json:
    """Return what Grafana reads. Raises KeyError for what a panel must have and for a kind that there is not."""
    return {
        "uid": source["uid"],
        "title": source["title"],
        "tags": source["tags"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,  # the cross hair shows on all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "annotations": {"list": list(_annotations())},
        "panels": list(_rows(source["rows"])),
    }


# --- what one chooses, and what is marked


def _variables() -> Iterator[Json]:
    """Yield the choices above the panels, each narrowed by those before it."""
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    yield _choice("namespace", "label_values(gateway_build_info, namespace)") | {"allValue": ".*"}
    yield _choice("job", 'label_values(gateway_build_info{namespace=~"$namespace"}, job)')
    yield _choice("node", 'label_values(gateway_build_info{namespace=~"$namespace", job=~"$job"}, instance)')
    shares = ("0.5", "0.9", "0.99", "0.999")
    yield {
        "name": "quantile",
        "type": "custom",
        "query": ",".join(shares),
        "current": {"text": "0.99", "value": "0.99"},
        "options": [{"text": it, "value": it, "selected": it == "0.99"} for it in shares],
    }


def _choice(name: str, query: str) -> Json:
    return {
        "name": name,
        "type": "query",
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,  # when the time range changes: nodes that are gone are of interest, too
        "sort": 1,
    }


def _annotations() -> Iterator[Json]:
    builtin = {"type": "grafana", "uid": "-- Grafana --"}
    yield {
        "name": "Experiments",  # whoever harms a system on purpose writes it down with this tag
        "datasource": builtin,
        "enable": True,
        "iconColor": "purple",
        "target": {"type": "tags", "tags": ["chaos"], "limit": 100, "matchAny": False},
    }
    started = (
        f"process_start_time_seconds{{{CHOSEN}}} * 1000 and changes(process_start_time_seconds{{{CHOSEN}}}[5m]) > 0"
    )
    born = f"process_start_time_seconds{{{CHOSEN}}} * 1000 unless process_start_time_seconds{{{CHOSEN}}} offset 5m"
    yield _mark("Nodes started", f"{started} or {born}", "{{instance}} started", "blue") | {"useValueForTime": True}
    yield _mark("Drains", f"gateway_draining{{{CHOSEN}}} == 1", "{{instance}} drains", "yellow")
    yield _mark("Alerts", 'ALERTS{alertstate="firing", namespace=~"$namespace"}', "{{alertname}} {{instance}}", RED)


def _mark(name: str, expr: str, title: str, colour: str) -> Json:
    return {
        "name": name,
        "datasource": PROMETHEUS,
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "step": "30s",
        "titleFormat": title,
    }


# --- rows and panels


def _rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[Json]:
    """Yield rows and their panels; the panels of a collapsed row are inside it, as Grafana wants it."""
    numbers, below = count(1), 0
    for row in rows:
        collapsed = row.get("collapsed", False)
        head = {
            "id": next(numbers),
            "type": "row",
            "title": row["title"],
            "collapsed": collapsed,
            "gridPos": _place(0, below, WIDTH, 1),
        }
        height = row.get("height", HEIGHT)
        panels = [_panel(next(numbers), it, at) for it, at in _placed(row["panels"], below + 1, height)]
        yield head | {"panels": panels if collapsed else []}
        if not collapsed:
            yield from panels
        below = 1 + below if collapsed else max(it["gridPos"]["y"] + it["gridPos"]["h"] for it in panels)


def _placed(
    panels: Iterable[Mapping[str, Any]], top: int, height: int
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, int]]]:
    left = 0
    for panel in panels:
        wide = panel.get("wide", WIDE)
        if left + wide > WIDTH:
            left, top = 0, top + height
        yield panel, _place(left, top, wide, height)
        left += wide


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(number: int, panel: Mapping[str, Any], place: Mapping[str, int]) -> Json:
    kind = panel["kind"]
    made = {
        "id": number,
        "title": panel["title"],
        "description": panel.get("says", ""),
        "datasource": PROMETHEUS,
        "gridPos": dict(place),
        "targets": [
            _target(ref, kind, legend, expr)
            for ref, (legend, expr) in zip(ascii_uppercase, panel["ask"].items(), strict=False)
        ],
        "fieldConfig": {"defaults": {"unit": panel.get("unit", "short")}, "overrides": []},
    }
    shape: Json = KINDS[kind](panel)
    made["fieldConfig"]["defaults"] |= shape.pop("defaults", {})
    return made | shape


def _target(ref: str, kind: str, legend: str, expr: str) -> Json:
    at_once = kind in {"stat", "table"}
    return {
        "refId": ref,
        "datasource": PROMETHEUS,
        "expr": expr.replace("{@", "{" + CHOSEN),
        "legendFormat": legend,
        "instant": at_once,
        "range": not at_once,
        "format": {"heatmap": "heatmap", "table": "table"}.get(kind, "time_series"),
    }


def _stat(panel: Mapping[str, Any]) -> Json:
    steps = [{"color": GREEN, "value": None}]
    if "most" in panel:
        amber, red = panel["most"]
        steps += [{"color": AMBER, "value": amber}, {"color": RED, "value": red}]
    if "least" in panel:
        red, amber = panel["least"]
        steps = [{"color": RED, "value": None}, {"color": AMBER, "value": red}, {"color": GREEN, "value": amber}]
    return {
        "type": "stat",
        "defaults": {"thresholds": {"mode": "absolute", "steps": steps}, "decimals": 2 if "unit" in panel else 0},
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "value_and_name" if len(panel["ask"]) > 1 else "value",
        },
    }


def _lines(panel: Mapping[str, Any], *, stacked: bool = False) -> Json:
    del panel
    drawn: Json = {"lineWidth": 1, "fillOpacity": 30 if stacked else 0, "showPoints": "never", "spanNulls": False}
    return {
        "type": "timeseries",
        "defaults": {"min": 0, "custom": drawn | ({"stacking": {"mode": "normal", "group": "A"}} if stacked else {})},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _stack(panel: Mapping[str, Any]) -> Json:
    return _lines(panel, stacked=True)


def _heatmap(panel: Mapping[str, Any]) -> Json:
    return {
        "type": "heatmap",
        "options": {
            "calculate": False,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "scale": "exponential", "exponent": 0.5},
            "cellGap": 1,
            "filterValues": {"le": 1e-9},
            "yAxis": {"unit": panel.get("unit", "short")},
            "tooltip": {"mode": "single", "yHistogram": True},
            "legend": {"show": False},
        },
    }


def _table(panel: Mapping[str, Any]) -> Json:
    del panel
    hidden = {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": {"Value": "nodes"}}}
    return {"type": "table", "options": {"showHeader": True}, "transformations": [hidden]}


KINDS: Final = {"stat": _stat, "lines": _lines, "stack": _stack, "heatmap": _heatmap, "table": _table}


# --- the file


def written() -> str:
    """Return the file that belongs to the source as it is."""
    source = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    return json.dumps(dashboard(source), indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write it, or with `check` only compare; return the exit code."""
    text = written()
    if DASHBOARD.exists() and DASHBOARD.read_text(encoding="utf-8") == text:
        return 0
    if "check" in arguments:
        print(f"{DASHBOARD.relative_to(ROOT)} is stale: run scripts/dashboard.py", file=sys.stderr)
        return 1
    DASHBOARD.write_text(text, encoding="utf-8")
    print(f"wrote {DASHBOARD.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
