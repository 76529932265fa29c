"""What is drawn of which run."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import pytest
from hdrh.histogram import HdrHistogram

from loadtests.kit.result import NodeSample, Percentiles, Result
from loadtests.reports.drawing import Span
from loadtests.reports.figures import by_percentile, drawings, phases
from loadtests.workers.distribution import percentiles
from tests.support import results

SVG = "{http://www.w3.org/2000/svg}"
ALWAYS = ["CPU, share of a core", "resident memory, MiB", "connections"]


def headings(result: Result, *, void: bool = False) -> list[str]:
    """Return what the figures are called."""
    return [next(it for it in texts(drawn) if it) for drawn in map(bold, drawings(result, void=void))]


def bold(text: str) -> ET.Element:
    """Return a figure with its heading only."""
    root = ET.fromstring(text)  # noqa: S314 - we wrote it
    for group in list(root.iter(f"{SVG}g")):
        for it in group.findall(f"{SVG}text"):
            if it.get("font-weight") != "700":
                group.remove(it)
    return root


def texts(root: ET.Element) -> list[str]:
    """Return all that is written."""
    return [it.text or "" for it in root.iter(f"{SVG}text")]


def test_a_run_is_drawn_as_clients_and_nodes_saw_it() -> None:
    """The tail of the latencies beside their course."""
    assert [
        "deliveries a second",
        "publications a second",
        "latency of delivery, ms",
        "latency by percentile, ms",
        "CPU, share of a core",
        "resident memory, MiB",
        "loop lag of the nodes, p99, ms",
        "connections",
    ] == headings(results.good())


def test_closes_are_drawn_when_there_were_some() -> None:
    """Over time, and by their code."""
    assert ["closes and errors a second", "closes by code"] == headings(results.bad())[-2:]


def test_a_void_run_is_drawn_without_rates_and_latencies() -> None:
    """What it cost is true all the same."""
    assert ALWAYS == headings(results.saturated(), void=True)


def test_a_run_of_which_little_is_known_is_drawn() -> None:
    """No metrics, no second, no latency."""
    empty = msgspec.structs.replace(
        results.good(nodes=[]),
        seconds=[],
        **dict.fromkeys(("connect", "subscribe", "acknowledge", "delivery"), Percentiles()),
    )
    assert ["CPU, share of a core", "connections"] == headings(empty)
    idle = msgspec.structs.replace(empty, connect=results.good().connect)
    assert "latency by percentile, ms" in headings(idle)


def test_what_waits_for_slow_clients_is_drawn() -> None:
    """If anything did."""
    slow = [msgspec.structs.replace(it, queue=5 << 20) for it in results.good().nodes]
    assert "waiting for slow clients, MiB" in headings(msgspec.structs.replace(results.good(), nodes=slow))


def test_of_many_nodes_the_highest_are_drawn() -> None:
    """And the mean of the others; that of five are five lines."""
    nodes = [
        NodeSample(node=f"http://10.0.0.{number}/metrics", at=at + 0.5, cpu=number / 20, resident=number << 20)
        for number in range(12)
        for at in range(5)
    ]
    many = drawings(msgspec.structs.replace(results.good(), nodes=nodes), void=True)
    written = texts(ET.fromstring(many[0]))  # noqa: S314 - we wrote it
    assert {"10.0.0.8", "10.0.0.9", "10.0.0.10", "10.0.0.11", "mean of 8 others"} <= set(written)
    assert "10.0.0.7" not in written
    five = drawings(msgspec.structs.replace(results.good(), nodes=nodes[:25]), void=True)
    assert {f"10.0.0.{number}" for number in range(5)} <= set(texts(ET.fromstring(five[0])))  # noqa: S314 - as above


def test_phases_are_spans() -> None:
    """One after the other."""
    assert [
        Span("ramp", 0.0, 3.0),
        Span("warm-up", 3.0, 5.0),
        Span("measure", 5.0, 25.0),
        Span("settle", 25.0, 27.0),
    ] == (phases(results.good().seconds))


def test_the_tail_is_that_of_the_histogram() -> None:
    """From the least to the highest of all, through the percentiles that the table shows."""
    it = results.good().delivery
    found = dict(by_percentile(it))
    assert (1.0, 20_000.0) == (min(found), max(found))
    assert it.max == pytest.approx(found[20_000.0], rel=0.001)
    assert [it.p90, it.p99, it.p999] == pytest.approx([found[10.0], found[100.0], found[1000.0]], rel=0.01)
    values = list(found.values())
    assert sorted(values, key=lambda value: value or 0.0) == values


def test_the_tail_ends_before_what_never_came() -> None:
    """A tenth of all that was due: the course is that of all, and stops at nine of ten."""
    it = percentiles(HdrHistogram.decode(results.good().delivery.hdr), missing=2223)
    found = dict(by_percentile(it))
    assert (1.0, True) == (min(found), 8.5 < max(found) < 10.0)
    near = results.good().delivery.max
    assert near is not None
    assert max(value or 0.0 for value in found.values()) <= near
    known = Percentiles(count=150, p50=1.0, p90=2.0, p99=None, p999=None, max=None, missing=9)
    assert [(2.0, 1.0), (10.0, 2.0)] == by_percentile(known)


@pytest.mark.parametrize("hdr", ["", "not base64", "AAAA", "HISTFAAAAB542pNpmSzMwMDAxQABzFCaEUoAAABQ"])
def test_without_a_histogram_the_known_percentiles_are_drawn(hdr: str) -> None:
    """Of a damaged one, too; no more nines than there are values."""
    it = Percentiles(count=150, p50=1.0, p90=2.0, p99=3.0, p999=4.0, max=5.0, hdr=hdr)
    assert [(2.0, 1.0), (10.0, 2.0), (100.0, 3.0), (150.0, 5.0)] == by_percentile(it)
    assert [] == by_percentile(Percentiles(hdr=hdr))
