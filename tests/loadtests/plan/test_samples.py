from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtests.plan import constants, samples
from loadtests.plan.check import check
from loadtests.plan.workload import PlanError, Workload
from tests.loadtests.plan.runs import MEASURE, RAMP, Made, run, written

COSTS = constants.read().costs()
LOAD = Workload(connections=1000, channels=10, subscribers=100, rate=50, size=200)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither a result nor figures"),
        ("[1, 2]", "neither a result nor figures"),
        ("{", "neither a result nor figures"),
        ('"text"', "neither a result nor figures"),
        ('{"a": 1}', "neither a result nor figures"),
        ('{"a": ["x"]}', "neither a result nor figures"),
        ('{"scenario": "fan_out"}', "neither a result nor figures"),
        ("[" * 100_000, "neither a result nor figures"),
        ('{"1:1 over 1,000 channels": [NaN]}', "neither a result nor figures"),
        ('{"1:1 over 1,000 channels": []}', "must hold numbers above 0"),
        ('{"1:1 over 1,000 channels": [0]}', "must hold numbers above 0"),
        ('{"1:1 over 1,000 channels": [100, -3]}', "must hold numbers above 0"),
        ('{"redis.push": [-1]}', "must hold numbers above 0"),
        ("\x00\xff", "neither a result nor figures"),
    ],
)
def test_files_that_say_nothing(tmp_path: Path, text: str, words: str) -> None:
    """What is no result and no bench is refused in one sentence that names the file or the row."""
    path = tmp_path / "file.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(PlanError, match=words):
        samples.read([path])


def test_a_missing_file_and_one_too_large(tmp_path: Path) -> None:
    """Neither is opened blindly."""
    with pytest.raises(PlanError, match="cannot be read"):
        samples.read([tmp_path / "none.json"])
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(samples.LARGEST + 1)
    with pytest.raises(PlanError, match="too large"):
        samples.read([path])


def test_rows_of_the_bench_are_those_that_it_prints() -> None:
    """Each row that is taken from the bench stands in its source, so that renaming one there is noticed here."""
    folder = Path(samples.__file__).parent.parent / "bench" / "scenarios"
    source = "\n".join(it.read_text(encoding="utf-8") for it in folder.glob("*.py"))
    former = {"1:1 over 1,000 channels, one publisher", "accepts with an EdDSA token each"}
    for row in {*samples.ROWS, *samples.IDLING, *samples.MEMORY} - former:
        title = row.removeprefix("fan-out, ") if "in flight" in row and "10,000" not in row else row
        assert f'"{title}"' in source, row


def test_a_run_of_one_node_is_two_samples(tmp_path: Path) -> None:
    """While clients came and while it was measured; each is explained by the costs it was made of."""
    seen = samples.read([written(run(LOAD, COSTS), tmp_path)])
    assert [it.name for it in seen.samples] == ["run.json, measure", "run.json, ramp"]
    measured, ramp = (it.load(COSTS.node) for it in seen.samples)
    assert (measured.connection, measured.publication, measured.frame) == (1000, 50, 5000)
    assert ramp.accept == pytest.approx(1000 / RAMP, rel=0.02)
    assert ramp.connection == pytest.approx(500, rel=0.02)


def test_what_a_run_does_not_count_comes_from_its_profile(tmp_path: Path) -> None:
    """History where clients recover, and connections that are replaced."""
    load = replace(LOAD, history=1.0, churn=7.0)
    found = samples.read([written(run(load, COSTS), tmp_path)]).samples[0].load(COSTS.node)
    assert (found.history, found.accept, found.leave) == (50, 7, 7)


@pytest.mark.parametrize(
    ("made", "profile", "words"),
    [
        (Made(busy=0.99), {}, "generator was saturated"),
        (Made(watched=False), {}, "run it with --metrics"),
        (Made(shares=(0.5, 0.5)), {}, "of several nodes"),
        (Made(), {"slow": 0.1}, r"no steady load \(slow\)"),
        (Made(), {"cuts": 2, "missed": 5}, r"no steady load \(cuts, missed\)"),
    ],
)
def test_runs_that_are_no_figures(tmp_path: Path, made: Made, profile: dict[str, Any], words: str) -> None:
    """A saturated generator, unseen nodes, several of them, or a load in fits and starts: each is refused."""
    with pytest.raises(PlanError, match=words):
        samples.read([written(run(LOAD, COSTS, made, **profile), tmp_path)])


def test_a_ramp_of_a_moment_says_nothing(tmp_path: Path) -> None:
    """Under three seconds there is one sample only, of the measure."""
    seen = samples.read([written(run(LOAD, COSTS, Made(ramp=2)), tmp_path)])
    assert [it.name for it in seen.samples] == ["run.json, measure"]


def test_two_nodes_are_predicted(tmp_path: Path) -> None:
    """Costs that were right for one node give CPU and memory of each of two unequal ones, and of the ramp."""
    path = written(run(LOAD, COSTS, Made(shares=(0.6, 0.4), noise=0.05)), tmp_path)
    found = check(path, COSTS)
    assert [(it.node, it.resource) for it in found] == [
        (name, what) for name in ("node 0", "node 1") for what in ("cpu", "cpu while clients came", "memory")
    ]
    assert all(it.holds for it in found)
    assert all(abs(it.error) < 0.05 for it in found)
    assert found[0].predicted > found[3].predicted
    assert found[0].predicted + found[3].predicted > 0


@pytest.mark.parametrize(("wrong", "holds"), [(1.15, True), (0.85, True), (1.35, False), (0.7, False)])
def test_a_model_that_is_off_is_told(tmp_path: Path, wrong: float, *, holds: bool) -> None:
    """Up to 20 % to either side is a model; beyond it the check fails."""
    path = written(run(LOAD, COSTS, Made(shares=(0.5, 0.5), wrong=wrong)), tmp_path)
    shares = [it for it in check(path, COSTS) if it.resource == "cpu"]
    assert [it.holds for it in shares] == [holds, holds]
    assert shares[0].error == pytest.approx(1 / wrong - 1, abs=0.02)


def test_only_results_are_checked(tmp_path: Path) -> None:
    """Figures of the bench are of a full core: there is nothing to predict."""
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"1:1 over 1,000 channels": [25_000.0]}), encoding="utf-8")
    with pytest.raises(PlanError, match="no result"):
        check(path, COSTS)


def test_the_phases_of_the_made_runs() -> None:
    """What the other tests rely on: a second is a sample of each node."""
    made = run(LOAD, COSTS, Made(shares=(0.5, 0.5)))
    assert len(made.seconds) == RAMP + MEASURE
    assert len(made.nodes) == 2 * (RAMP + MEASURE)


def test_what_a_core_did_by_the_rows_of_the_bench() -> None:
    """A thousand subscribers hear each publication, eight frames leave in a write, and history is paid once each."""
    one = samples.ROWS["fan-out, one in flight"](120_000)
    assert (one.publication, one.envelope, one.write, one.frame, one.history) == (120, 120, 120_000, 120_000, 0)
    eight = samples.ROWS["fan-out, 8 in flight"](800_000)
    assert (eight.publication, eight.write, eight.frame) == (800, 100_000, 800_000)
    large = samples.ROWS["fan-out to 10,000, one in flight"](100_000)
    assert (large.publication, large.connection) == (10, 10_000)
    kept = samples.ROWS["1:1 with history and recovery"](9000)
    assert (kept.publication, kept.envelope, kept.write, kept.history) == (9000, 9000, 9000, 9000)
    assert kept.connection == 1000
    unseen = samples.ROWS["accepts, each token unseen"](1100)
    assert (unseen.accept, unseen.token, samples.ROWS["accepts, each token cached"](1600).token) == (1100, 1100, 0)
    assert samples.ROWS["/api/publish, 16 links"](4500).call == 4500
