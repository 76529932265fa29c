from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import gateway
from gateway.contracts.recorder import Recorder
from gateway.disconnects import DISCONNECTS
from gateway.metrics import COUNTERS, GAUGES, HISTOGRAMS, OTHER, Metrics
from gateway.protocol.messages import Command


@pytest.fixture(name="metrics")
def _metrics() -> Metrics:
    return Metrics()


def families(metrics: Metrics) -> dict[str, Metric]:
    """Parse the page."""
    body, _ = metrics.exposition()
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return one sample of the page."""
    for family in families(metrics).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(f"{name}{labels} is not shown")


def test_is_a_recorder(metrics: Metrics) -> None:
    """The layers below can be handed the metrics without knowing them."""
    recorder: Recorder = metrics
    recorder.count("sent_bytes", n=3)
    recorder.observe("redis_command", 0.002)
    assert 3 == value(metrics, "gateway_sent_bytes_total")


def test_everything_parses_and_begins_with_our_prefix(metrics: Metrics) -> None:
    """Prometheus's own parser reads the page; names are ours or those of the client library."""
    for name in GAUGES:
        metrics.watch(name, lambda: 1.0)
    shown = families(metrics)
    assert all(name.startswith(("gateway_", "process_", "python_gc_")) for name in shown)
    assert {"gateway_build_info", "process_resident_memory_bytes", "python_gc_collections"} <= set(shown)
    assert len(COUNTERS) + len(HISTOGRAMS) + len(GAUGES) + 1 == len([it for it in shown if it.startswith("gateway_")])


def test_content_type_is_one_that_every_prometheus_reads(metrics: Metrics) -> None:
    """The page says which format it is."""
    assert metrics.exposition()[1] == "text/plain; version=0.0.4; charset=utf-8"


def test_two_nodes_in_one_process_share_nothing() -> None:
    """Each node counts for itself."""
    one, two = Metrics(), Metrics()
    one.count("duplicates_dropped", n=5)
    assert 5 == value(one, "gateway_duplicates_dropped_total")
    assert 0 == value(two, "gateway_duplicates_dropped_total")


def test_counters_of_one_label_stand_at_zero_from_the_start(metrics: Metrics) -> None:
    """An alert on a rate works from the first event on, since the series was there before."""
    assert 0 == value(metrics, "gateway_publishes_total", result="duplicate")


def test_a_disconnect_is_split_into_code_and_initiator(metrics: Metrics) -> None:
    """One label string becomes the two labels of the alert rules."""
    metrics.count("disconnects", "3008:server")
    assert 1 == value(metrics, "gateway_disconnects_total", code="3008", initiator="server")


@pytest.mark.parametrize("disconnect", DISCONNECTS, ids=lambda it: str(it.code))
def test_every_code_we_send_has_its_own_series(metrics: Metrics, disconnect: gateway.disconnects.Disconnect) -> None:
    """No code of the table is lumped together with others."""
    metrics.count("disconnects", f"{disconnect.code}:server")
    assert 1 == value(metrics, "gateway_disconnects_total", code=str(disconnect.code), initiator="server")


def test_codes_that_clients_make_up_share_one_series(metrics: Metrics) -> None:
    """A client may close with any code from 4000 to 4999; that must not make a thousand series."""
    before = len(list(families(metrics)["gateway_disconnects"].samples))
    for code in range(4000, 5000):
        metrics.count("disconnects", f"{code}:client")
    assert 1000 == value(metrics, "gateway_disconnects_total", code=OTHER, initiator="client")
    assert before + 1 == len(list(families(metrics)["gateway_disconnects"].samples))


@pytest.mark.parametrize("name", [name for name, row in COUNTERS.items() if row.labels])
def test_a_label_from_outside_is_never_shown(metrics: Metrics, name: str) -> None:
    """Whatever text reaches a counter's label, the page does not repeat it."""
    for text in ("alice", 'x"} 1\ngateway_evil 1', "a:b", "3008:alice", ""):
        metrics.count(name, text)
    body = metrics.exposition()[0].decode()
    assert "alice" not in body
    assert "evil" not in body
    assert 5 == sum(it.value for it in families(metrics)[f"gateway_{name}"].samples)


def test_every_command_is_counted_under_its_own_type(metrics: Metrics) -> None:
    """`messages_received` knows each command by the lower-cased name of its class."""
    for command in get_args(Command):
        metrics.count("messages_received", command.__name__.lower())
        assert 1 == value(metrics, "gateway_messages_received_total", type=command.__name__.lower())


@pytest.mark.parametrize("call", ["count", "observe", "watch"])
def test_a_wrong_name_is_an_error(metrics: Metrics, call: str) -> None:
    """A slip of the pen shows in the first test that runs the line."""
    with pytest.raises(KeyError):
        getattr(metrics, call)("no_such_metric", *([] if call == "count" else [1.0]))


def test_a_value_counts_in_its_bucket_and_all_above(metrics: Metrics) -> None:
    """Buckets are cumulative, bounds belong to their bucket, sum and count are right."""
    for seconds in (0.001, 0.0011, 99.0):
        metrics.observe("delivery_latency", seconds)
    name = "gateway_delivery_latency_seconds"
    assert 1 == value(metrics, f"{name}_bucket", le="0.001")
    assert 2 == value(metrics, f"{name}_bucket", le="0.0025")
    assert 2 == value(metrics, f"{name}_bucket", le="10.0")
    assert 3 == value(metrics, f"{name}_bucket", le="+Inf")
    assert 3 == value(metrics, f"{name}_count")
    assert 99.0021 == pytest.approx(value(metrics, f"{name}_sum"))


def test_gauges_are_read_when_asked(metrics: Metrics) -> None:
    """A gauge shows what its source says now, by label where it has one, and nothing before it has a source."""
    assert "gateway_connections" not in families(metrics)
    states = {"open": 1.0}
    metrics.watch("connections", lambda: states)
    metrics.watch("jwks_age", lambda: 12.5)
    metrics.watch("memory_limit", lambda: 64)
    states["open"] = 7.0
    assert 7 == value(metrics, "gateway_connections", state="open")
    assert 12.5 == value(metrics, "gateway_jwks_age_seconds")
    assert 64 == value(metrics, "gateway_memory_limit_bytes")


def calls() -> Iterator[tuple[str, str, str | None]]:
    """Find every call with a literal name: method, name, literal label."""
    for path in Path(gateway.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if not ast.unparse(node.func.value).endswith(("recorder", "metrics")):
                continue
            words = [it.value if isinstance(it, ast.Constant) else None for it in node.args]
            if node.func.attr in ("count", "observe", "watch") and words and isinstance(words[0], str):
                label = words[1] if len(words) > 1 else None
                yield node.func.attr, words[0], label if isinstance(label, str) else None


def test_the_source_uses_names_and_labels_of_the_table_only() -> None:
    """Every literal name and label handed to a recorder anywhere in the gateway is in the table."""
    tables = {"count": COUNTERS, "observe": HISTOGRAMS, "watch": GAUGES}
    wrong = [
        f"{call}({name!r}, {label!r})"
        for call, name, label in calls()
        if name not in tables[call] or (label and call == "count" and label not in COUNTERS[name].values.split())
    ]
    assert [] == wrong
