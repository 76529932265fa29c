"""The dashboard as Grafana gets it: what it is made of, and that each panel has something to show of a live gateway."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest
import yaml

from gateway.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics
from loadtests.dashboard import stage
from loadtests.dashboard.__main__ import choices, read, run
from loadtests.dashboard.answers import Answer, Answered
from loadtests.dashboard.drawing import lines, picture
from loadtests.dashboard.panels import EVERYTHING, Panel, Query, filled, marks, panels
from tests.support.prometheus import Series

ROOT: Final = Path(__file__).parent.parent.parent
GRAFANA: Final = ROOT / "deploy" / "grafana"
SECONDS: Final = 15.0  # a rate is taken over four scrapes of a second
LOAD: Final = replace(stage.LOAD, clients=90, channels=9, publishes=30.0)
CHOSEN: Final = {**EVERYTHING, "__rate_interval": "4s"}
NOT_SHOWN: Final = {  # what an alert tells or a page of settings, and no course
    "gateway_engine_in_memory": "GatewayNodesApart",
    "gateway_revocations_total": "a revocation is an event of the log",
    "gateway_revocations_in_force": "the same",
    "gateway_revocations_forgotten_total": "GatewayRevocationsForgotten",
    "gateway_errors_total": "GatewayBugs",
    "gateway_jwks_refreshes_total": "the age of the keys tells it",
    "gateway_redis_foreign_payloads_total": "somebody else's, and logged",
    "gateway_drain_remaining_connections": "gateway drain --wait shows it",
}


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    """The script that makes the dashboard."""
    spec = importlib.util.spec_from_file_location("scripts_dashboard", ROOT / "scripts" / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- what is written


def test_it_is_the_one_that_its_source_says(script: ModuleType) -> None:
    """Nobody changed one without the other."""
    assert script.written() == script.DASHBOARD.read_text(encoding="utf-8"), "run scripts/dashboard.py"


def everything() -> list[Any]:
    """Return every panel and every row, those inside folded rows, too."""
    return [it for top in read()["panels"] for it in (top, *top.get("panels", ()))]


def test_panels_stand_beside_each_other() -> None:
    """No two share a number or a place; every row is within the width of the page."""
    numbers = [it["id"] for it in everything()]
    assert sorted(set(numbers)) == sorted(numbers)
    shown: list[list[Any]] = [[it for it in read()["panels"] if it["type"] != "row" or not it["panels"]]]
    shown += [it["panels"] for it in read()["panels"] if it["type"] == "row" and it["panels"]]
    for together in shown:
        taken: set[tuple[int, int]] = set()
        for place in (it["gridPos"] for it in together):
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, place
            assert place["x"] + place["w"] <= 24
            taken |= cells


def test_rows_are_those_that_one_looks_for() -> None:
    """From whether all is well to the details, which are folded."""
    rows = [(it["title"], it["collapsed"]) for it in read()["panels"] if it["type"] == "row"]
    folded = ("Recovery and presence", "Redis", "Runtime", "Log-in and keys")
    opened = ("Is it fine?", "Connections", "Delivery", "Back-pressure and limits")
    assert [*((it, False) for it in opened), *((it, True) for it in folded)] == rows


def test_every_panel_asks_the_chosen_prometheus_for_the_chosen_nodes() -> None:
    """A board that asks for all jobs would add up gateways that have nothing to do with each other."""
    for panel in (it for it in everything() if it["type"] != "row"):
        assert {"type": "prometheus", "uid": "${datasource}"} == panel["datasource"]
        references = [it["refId"] for it in panel["targets"]]
        assert sorted(set(references)) == references
        for it in panel["targets"]:
            assert re.search(r'instance=~"\$node"|namespace=~"\$namespace"', it["expr"]), it["expr"]
    named = {it["name"] for it in read()["templating"]["list"]}
    assert {"datasource", "namespace", "job", "node", "quantile"} == named


def test_whatever_the_gateway_counts_is_shown() -> None:
    """A metric that nobody sees is one for nothing; those that are not shown have a reason."""
    asked = " ".join(it["expr"] for panel in everything() for it in panel.get("targets", ()))
    names = {f"gateway_{it}_total" for it in COUNTERS} | {f"gateway_{it.name}" for it in HISTOGRAMS.values()}
    names |= {line.split()[2] for line in _gauges().splitlines() if line.startswith("# TYPE gateway_")}
    missing = {it for it in names if not re.search(rf"\b{it}(_bucket)?\b", asked)}
    assert NOT_SHOWN.keys() == missing


def _gauges() -> str:
    metrics = Metrics()
    for name in GAUGES:
        metrics.watch(name, lambda: 1.0)
    return "\n".join(it for it in metrics.exposition()[0].decode().splitlines() if it.endswith(" gauge"))


def test_provisioning_leads_to_it() -> None:
    """Grafana finds the folder and the source of its figures, with the scrape interval that rates are reckoned with."""
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "gateway.yml").read_text())["providers"]
    assert "/var/lib/grafana/dashboards" == provider["options"]["path"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert ("prometheus", scraped["scrape_interval"]) == (source["type"], source["jsonData"]["timeInterval"])


# --- what it shows


@pytest.mark.needs("prometheus")
@pytest.mark.needs("redis-exporter")
async def test_no_panel_is_empty(tmp_path: Path) -> None:
    """Nodes under load, users that log in, a link that is cut, a node that is drained: each question is answered."""
    answered, when = await run(tmp_path, SECONDS, LOAD)
    assert [] == [line for it in answered for line in it.silent()]
    assert len(answered) == len([it for it in everything() if it["type"] != "row"])
    drawn = picture(answered, when)
    assert ET.fromstring(drawn).tag.endswith("svg")  # noqa: S314 - we drew it
    assert [] == [it for it in ("Closes a second", "Repairs a second", "Commands take, ms") if it not in drawn]


# --- the means


def series(*values: float, **labels: str) -> Series:
    """Return an answer, a value a second."""
    return Series(labels, list(enumerate(values)))


def answered(kind: str, *found: Series, unit: str = "short") -> Answered:
    """Return a panel with one question and its answer."""
    query = Query("{{node}} is", "x", at_once=kind == "stat")
    panel = Panel(row="Row", title="Title", kind=kind, unit=unit, collapsed=False, queries=[query])
    return Answered(panel, 0.0, 2.0, [Answer(query, found)])


@pytest.mark.parametrize(("values", "empty"), [((), True), ((float("nan"),), True), ((float("nan"), 0.0), False)])
def test_nothing_and_no_number_is_empty(values: tuple[float, ...], empty: bool) -> None:
    """A panel of zeros says that nothing happened; one without a number says nothing at all."""
    found = answered("timeseries", *([series(*values)] if values else []))
    assert (["Row / Title / {{node}} is: x"] if empty else []) == list(found.silent())


def test_choices_take_the_place_of_variables() -> None:
    """All variables of an expression are filled in; an unknown one is an error, not an empty selector."""
    assert 'x{job=~"gateway", instance=~".+"}[4s]' == filled(
        'x{job=~"$job", instance=~"$node"}[$__rate_interval]', CHOSEN
    )
    with pytest.raises(KeyError):
        filled("x{pod=~'$pod'}", CHOSEN)
    assert all("$" not in query.expr for panel in panels(read(), CHOSEN) for query in panel.queries)
    assert {"Nodes started", "Drains", "Alerts"} == marks(read(), CHOSEN).keys()


def test_lines_have_names_and_units() -> None:
    """The highest come first, in the unit of the title, broken where there was no number."""
    found = lines(answered("timeseries", series(0.001, 0.002, node="a"), series(0.5, float("nan"), node="b"), unit="s"))
    assert [("b is", [(0.0, 500.0), (1.0, None)]), ("a is", [(0.0, 1.0), (1.0, 2.0)])] == [
        (it.name, list(it.points)) for it in found
    ]


def test_what_takes_long_is_told_in_seconds() -> None:
    """Nobody reads the age of a key in milliseconds."""
    (age,) = lines(answered("timeseries", series(1800.0, node="a"), unit="s"))
    assert [(0.0, 1800.0)] == list(age.points)
    assert "Title, s" in picture([answered("timeseries", series(1800.0, 1801.0, 1802.0), unit="s")], {})


def test_heatmaps_are_drawn_as_percentiles() -> None:
    """Of each moment's buckets; a moment in which nothing was observed has none."""
    buckets: Mapping[str, tuple[float, ...]] = {"1.0": (50.0, 0.0), "2.0": (100.0, 0.0), "+Inf": (100.0, 0.0)}
    found = lines(answered("heatmap", *(series(*values, le=le) for le, values in buckets.items())))
    assert [("p50", 1.0), ("p90", 1.8), ("p99", 1.98)] == [(it.name, it.points[0][1]) for it in found]
    assert {None} == {it.points[1][1] for it in found}


def test_rates_are_over_four_scrapes() -> None:
    """As Grafana does it when it knows the scrape interval."""

    class Slow:
        interval = 0.25

    assert "1000ms" == choices(Slow())["__rate_interval"]  # type: ignore[arg-type] # nothing else is looked at
