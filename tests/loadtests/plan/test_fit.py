from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.bench.scenarios import idle
from loadtests.plan import constants, samples
from loadtests.plan.constants import Constants
from loadtests.plan.fit import Run, fit
from loadtests.plan.node import TERMS, Load, cpu
from loadtests.plan.samples import ROWS, Sample, Seen
from loadtests.plan.workload import PlanError, Workload
from tests.loadtests.plan.runs import Made, run, written

BEFORE = constants.read()
RUN = Run("runs.json", "2026-12-01", "a machine")
TRUE = {
    "accept": 500.0, "token": 200.0, "publication": 14.0, "envelope": 7.0, "write": 6.0, "frame": 0.2,
    "history": 30.0, "call": 180.0, "byte": 0.002, "connection": 2.0, "subscribe": 150.0, "leave": 100.0,
}  # fmt: skip


def altered(values: Mapping[str, float]) -> Constants:
    """The kit's constants with these of a node, in microseconds."""
    known = Constants(BEFORE)
    for name, value in values.items():
        known[f"node.{name}"] = replace(BEFORE[f"node.{name}"], value=value, low=0.0, high=10 * value)
    return known


def full(row: str, known: Constants) -> float:
    """What a row of the bench would say of a node with these costs, whose core is full."""
    costs = known.costs().node
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if cpu(ROWS[row](middle), costs) < 1 else (low, middle)
    return low


def bench(known: Constants, folder: Path, noise: float = 0.0) -> Path:
    """The bench's file of such a node: five runs a row."""
    dice = random.Random(3)
    rows = {row: [full(row, known) * dice.gauss(1, noise) for _ in range(5)] for row in ROWS}
    path = folder / "bench.json"
    path.write_text(json.dumps({**rows, "  ours / theirs": [1.5, 1.6], "latency, 1:1 p50": [0.4]}), encoding="utf-8")
    return path


def steady(known: Constants, folder: Path, noise: float = 0.0) -> list[Path]:
    """Results of the kit: open loads of different shapes, one where frames are joined, one of large publications."""
    loads = [
        Workload(connections=400, channels=1, subscribers=400, rate=250),
        Workload(connections=200, channels=1, subscribers=200, rate=20, size=8000),
        Workload(connections=2000, channels=2000, subscribers=1, rate=9000),
        Workload(connections=3000, channels=300, subscribers=0, rate=15_000),
        Workload(connections=40_000, channels=40_000, subscribers=1, rate=0),
        Workload(connections=2000, channels=2000, subscribers=1, rate=3000, history=1),
    ]
    return [
        written(run(it, known.costs(), Made(noise=noise, seed=at)), folder, f"run{at}.json")
        for at, it in enumerate(loads)
    ]


def test_the_bench_alone_gives_back_what_it_was_made_of(tmp_path: Path) -> None:
    """Without noise, the constants that rows alone determine are found, and all rows are explained."""
    known = altered({it: TRUE[it] for it in ("accept", "token", "write", "frame", "history", "call")})
    found = fit(samples.read([bench(known, tmp_path)]), BEFORE, RUN)
    for name in ("accept", "token", "write", "history", "call"):
        assert found.constants[f"node.{name}"].value == pytest.approx(TRUE[name], rel=0.05), name
    assert all(abs(it) < 0.02 for errors in found.errors.values() for it in errors)
    assert found.ignored == ["ours / theirs", "latency, 1:1 p50"]


def test_bench_and_runs_together_tell_what_neither_tells_alone(tmp_path: Path) -> None:
    """With 3 % of noise each constant comes back within 15 %, the way in and the way out of a message told apart."""
    known = altered({it: TRUE[it] for it in TRUE if it not in {"subscribe", "leave"}})
    seen = samples.read([bench(known, tmp_path, 0.03), *steady(known, tmp_path, 0.03)])
    found = fit(seen, BEFORE, RUN).constants
    for name in ("accept", "token", "publication", "envelope", "write", "history", "call", "connection", "byte"):
        it = found[f"node.{name}"]
        assert it.value == pytest.approx(TRUE[name], rel=0.15), name
        assert it.basis == "measured", name
        assert it.low <= it.value <= it.high, name
        assert (it.source, it.date, it.machine) == ("runs.json", "2026-12-01", "a machine")


def test_what_no_run_contains_stays_as_it_was(tmp_path: Path) -> None:
    """A constant that no run touches keeps value, range and source, Redis' own too."""
    found = fit(samples.read([bench(BEFORE, tmp_path)]), BEFORE, RUN).constants
    for name in ("node.subscribe", "node.leave", "node.node", "redis.push", "memory.kernel", "proxy.handshake"):
        assert found[name] == BEFORE[name]


def test_publications_of_one_size_say_nothing_of_a_byte(tmp_path: Path) -> None:
    """While all frames are of one size, the cost of a byte stays as it was instead of taking that of a frame."""
    known = altered({"byte": 0.004})
    found = fit(samples.read([bench(known, tmp_path)]), BEFORE, RUN).constants
    assert found["node.byte"] == BEFORE["node.byte"]


def test_no_constant_becomes_negative() -> None:
    """Runs that contradict each other give 0 at least: here eight frames seem cheaper than an eighth of one write."""
    one, eight = ROWS["fan-out, one in flight"](100_000), ROWS["fan-out, 8 in flight"](1_200_000)
    found = fit(Seen([Sample("1", 1.0, lambda _: one), Sample("8", 1.0, lambda _: eight)]), BEFORE, RUN).constants
    assert found["node.frame"].value == 0
    assert found["node.frame"].basis == "derived"
    assert found["node.frame"].high >= BEFORE["node.frame"].high
    assert all(found[f"node.{it}"].value >= 0 for it in TERMS)


def test_ranges_are_those_of_the_runs(tmp_path: Path) -> None:
    """The noisier the runs, the wider the range; never less than 5 % to each side."""
    quiet = fit(samples.read([bench(BEFORE, tmp_path)]), BEFORE, RUN).constants["node.accept"]
    noisy = fit(samples.read([bench(BEFORE, tmp_path, 0.2)]), BEFORE, RUN).constants["node.accept"]
    assert quiet.high / quiet.low == pytest.approx(1.05 / 0.95, rel=0.01)
    assert noisy.high / noisy.low > quiet.high / quiet.low


def test_the_same_files_give_the_same_constants(tmp_path: Path) -> None:
    """Chance in resampling is seeded."""
    path = bench(BEFORE, tmp_path, 0.1)
    assert fit(samples.read([path]), BEFORE, RUN) == fit(samples.read([path]), BEFORE, RUN)


def test_what_was_measured_otherwise_is_taken_as_it_is(tmp_path: Path) -> None:
    """A file may name constants; the median counts, the ends are the range."""
    path = tmp_path / "redis.json"
    path.write_text('{"redis.push": [1.4, 1.1, 1.2], "memory per idle connection": [5.0, 5.5, 4.5]}', encoding="utf-8")
    found = fit(samples.read([path]), BEFORE, RUN)
    push, memory = found.constants["redis.push"], found.constants["memory.connection"]
    assert (push.value, push.low, push.high) == pytest.approx((1.2, 1.1, 1.4))
    assert (memory.value, memory.low, memory.high) == pytest.approx((5120, 4608, 5632))
    assert push.basis == memory.basis == "measured"
    assert found.errors == {}


def test_idle_rows_are_read_in_percent(tmp_path: Path) -> None:
    """The bench gives the idle node in % of a core, and connections per thousand with the node in it."""
    path = tmp_path / "idle.json"
    rows = {
        "idle CPU of a node without connections": [0.8] * 3,
        "idle CPU per 1,000 connections, node included": [(0.8 + 4 * 0.1) / 4] * 3,
    }
    path.write_text(json.dumps(rows), encoding="utf-8")
    found = fit(samples.read([path]), BEFORE, RUN).constants
    assert found["node.node"].value == pytest.approx(8000, rel=0.02)
    assert found["node.connection"].value == pytest.approx(1.0, rel=0.05)
    assert samples.IDLE == 2 * idle.PLATEAU


def test_nothing_to_fit() -> None:
    """Files that say nothing of a constant are an error, not a fit."""
    with pytest.raises(PlanError, match="none of these files"):
        fit(Seen(ignored=["x"]), BEFORE, RUN)


def test_a_node_that_something_else_kept_busy() -> None:
    """A sample that no constant explains changes none."""
    found = fit(Seen([Sample("busy", 1.0, lambda _: Load())]), BEFORE, RUN)
    assert found.constants == BEFORE
    assert found.errors["busy"][0] == pytest.approx(-0.995)
