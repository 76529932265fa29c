"""Reads the dashboard as Grafana does: what each panel asks once somebody has chosen. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CHOICE: Final = re.compile(r"\$(\w+)")
LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
EVERYTHING: Final[Mapping[str, str]] = {"namespace": ".*", "job": "gateway", "node": ".+", "quantile": "0.99"}
"""What is chosen when somebody opens it, for one gateway; `__rate_interval` is still to be said."""


@dataclass(frozen=True, slots=True)
class Query:
    """One of a panel's; `at_once`: its answer is of one moment, not a course."""

    legend: str
    expr: str
    at_once: bool

    def name(self, labels: Mapping[str, str]) -> str:
        """Return what an answer with these labels is called."""
        return LABEL.sub(lambda found: labels.get(found[1], ""), self.legend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel; `kind` and `unit` are Grafana's words, `row` the title of the row that it stands in."""

    row: str
    title: str
    kind: str
    unit: str
    collapsed: bool
    queries: Sequence[Query]


def panels(dashboard: Mapping[str, Any], choices: Mapping[str, str]) -> Iterator[Panel]:
    """Yield all panels from top to bottom. Raises KeyError for a variable that nothing is chosen for."""
    row: Mapping[str, Any] = {"title": "", "collapsed": False}
    for it in dashboard["panels"]:
        if it["type"] != "row":
            yield _panel(row, it, choices)
            continue
        row = it
        for inner in it["panels"]:
            yield _panel(row, inner, choices)


def marks(dashboard: Mapping[str, Any], choices: Mapping[str, str]) -> Mapping[str, str]:
    """Return what Prometheus is asked for marks, by their names."""
    listed = dashboard["annotations"]["list"]
    return {it["name"]: filled(it["expr"], choices) for it in listed if "expr" in it}


def filled(expr: str, choices: Mapping[str, str]) -> str:
    """Return an expression with what was chosen in the place of each variable. Raises KeyError."""
    return CHOICE.sub(lambda found: choices[found[1]], expr)


def _panel(row: Mapping[str, Any], panel: Mapping[str, Any], choices: Mapping[str, str]) -> Panel:
    return Panel(
        row=row["title"],
        title=panel["title"],
        kind=panel["type"],
        unit=panel["fieldConfig"]["defaults"]["unit"],
        collapsed=row["collapsed"],
        queries=[Query(it["legendFormat"], filled(it["expr"], choices), it["instant"]) for it in panel["targets"]],
    )
