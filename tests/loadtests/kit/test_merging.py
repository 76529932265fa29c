from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from typer.testing import CliRunner

from loadtests.cli import app
from loadtests.kit.merging import MergeError, together
from loadtests.kit.result import Broken, Percentiles, Result, Second
from loadtests.reports import writing
from loadtests.reports.verdict import verdict
from tests.support import results


def run(**changes: Any) -> Result:
    """Return a run that passed, with changes."""
    return msgspec.structs.replace(results.good(), **changes)


def course(*phases: str, at: int = 0, delivered: int = 10) -> list[Second]:
    """Return seconds of these phases, each with deliveries."""
    return [Second(at=at + number, phase=it, delivered=delivered) for number, it in enumerate(phases)]


PLAIN = ("ramp", "warm-up", "measure", "measure", "measure", "settle")


def test_one_run_is_itself() -> None:
    """Nothing is put together, nothing is said of several."""
    assert results.good() == together({"a": results.good()})


def test_counts_are_added_up() -> None:
    """Of each second, of the audit, of closes and refusals; processes are numbered anew."""
    one, other = results.good(), results.bad()
    whole = together({"a": one, "b": other})
    assert [2 * it.delivered for it in one.seconds] == [it.delivered for it in whole.seconds]
    assert [2 * it.connected for it in one.seconds] == [it.connected for it in whole.seconds]
    assert one.audit.published + other.audit.published == whole.audit.published
    assert other.audit.lost == whole.audit.lost
    assert other.audit.told == whole.audit.told
    assert (other.closes, other.refusals) == (whole.closes, whole.refusals)
    assert [0, 1, 2, 3] == [it.process for it in whole.generators]
    assert other.figures == whole.figures


def test_latencies_are_those_of_all() -> None:
    """A percentile is of all values together, which no mean of percentiles is; what never came counts as the latest."""
    slow = results.spread(20_000, 650.0, seed=5)
    whole = together({"a": run(), "b": run(delivery=slow)}).delivery
    exact = HdrHistogram.decode(run().delivery.hdr)
    exact.add(HdrHistogram.decode(slow.hdr))
    assert (40_000, exact.get_value_at_percentile(99) / 1000) == (whole.count, whole.p99)
    assert whole.p50 is not None
    assert slow.p50 is not None
    assert whole.p50 < slow.p50 / 2
    missing = together({"a": run(), "b": run(delivery=Percentiles(missing=20_000))}).delivery
    assert (20_000, None) == (missing.missing, missing.p99)


def test_seconds_belong_together_by_the_clock() -> None:
    """A run that began three seconds later is three seconds behind; only what all measured is measured."""
    early = run(seconds=course(*PLAIN, "settle"), started="2026-11-22T20:15:00+00:00")
    late = run(seconds=course(*PLAIN), started="2026-11-22T21:15:02+01:00")
    whole = together({"a": late, "b": early})
    assert "2026-11-22T20:15:00+00:00" == whole.started
    phases = ["ramp", "ramp", "ramp", "warm-up", "measure", "settle", "settle", "settle"]
    assert phases == [it.phase for it in whole.seconds]
    assert [10, 10, 20, 20, 20, 20, 20, 10] == [it.delivered for it in whole.seconds]
    assert 1.0 == whole.measured
    assert list(range(8)) == [it.at for it in whole.seconds]


def test_runs_that_never_met_are_no_load() -> None:
    """One was over when the other began: rates of both together are of nothing."""
    early = run(seconds=course(*PLAIN))
    late = run(seconds=course(*PLAIN), started="2026-11-22T20:15:04Z")
    with pytest.raises(MergeError, match="never measured at the same time"):
        together({"a": early, "b": late})
    with pytest.raises(MergeError, match="never measured at the same time"):
        together({"a": run(seconds=[]), "b": run(seconds=[])})
    with pytest.raises(MergeError, match="never measured at the same time"):
        together({"a": early, "b": run(seconds=[])})


def test_the_busiest_process_is_that_of_all() -> None:
    """A second is as full as the process that had the least time to spare."""
    one = msgspec.structs.replace(course("measure")[0], busy=0.5, starved=0.1)
    other = msgspec.structs.replace(one, busy=0.2, starved=0.6)
    (second,) = together({"a": run(seconds=[one]), "b": run(seconds=[other])}).seconds
    assert (0.2, 0.6) == (second.busy, second.starved)


def test_it_passes_if_each_did() -> None:
    """One that failed, was empty or saturated makes the whole so; offences say whose they are."""
    assert together({"a": run(), "b": run()}).passed
    failed = together({"a": run(), "b": results.bad()})
    assert not failed.passed
    assert any(it.startswith("b: silent gap") for it in failed.audit.offences)
    assert "void" == verdict(together({"a": run(), "b": results.saturated()})).kind
    empty = together({"a": run(), "b": run(connect=Percentiles())})
    assert ["b: no client was ever connected"] == empty.audit.offences
    assert not empty.passed


def test_what_was_missed_is_told_where_it_was_missed_most() -> None:
    """Each expectation once."""
    some = [Broken(name="p99", wanted=20.0, seen=34.0), Broken(name="lost", wanted=0.0, seen=2.0)]
    more = [Broken(name="lost", wanted=0.0, seen=5.0), Broken(name="p99", wanted=20.0, seen=0.0, why="never")]
    broken = together({"a": run(broken=some), "b": run(broken=more), "c": run(broken=some)}).broken
    assert [("p99", "never"), ("lost", "")] == [(it.name, it.why) for it in broken]
    assert 5.0 == broken[1].seen


def test_the_profile_is_of_all_together() -> None:
    """What each brought is multiplied, what each is like is not; the remarks say of how many it is."""
    one = results.good()
    whole = together({"a": one, "b": run(profile={**one.profile, "seed": 2}), "c": one})
    assert 3 * one.profile["connections"] == whole.profile["connections"]
    assert 3 * one.profile["rate"] == whole.profile["rate"]
    assert one.profile["size"] == whole.profile["size"]
    assert one.profile["expect"] == whole.profile["expect"]
    assert whole.profile["about"].startswith("3 runs at once, each: ")
    assert whole.remarks[0].startswith("3 runs at once: ")


def test_a_node_that_several_watched_is_shown_once() -> None:
    """As the first of them saw it; others' clocks are brought to the first's."""
    one = run(nodes=[it for it in results.good().nodes if "8000" in it.node])
    other = run(started="2026-11-22T20:15:02Z")
    whole = together({"a": one, "b": other})
    first, second = ([it for it in whole.nodes if port in it.node] for port in ("8000", "8001"))
    assert one.nodes == first
    assert [it.at + 2 for it in other.nodes if "8001" in it.node] == [it.at for it in second]


def test_targets_and_versions_are_all_that_were_seen() -> None:
    """Each once."""
    other = run(target="http://b", versions={**results.good().versions, "uvloop": "0.24.0"})
    whole = together({"a": run(target="http://a"), "b": other, "c": other})
    assert "http://a, http://b" == whole.target
    assert ("0.23.0 and 0.24.0", "3.11.7") == (whole.versions["uvloop"], whole.versions["python"])


@pytest.mark.parametrize("changes", [{"scenario": "idle"}, {"profile": {**results.good().profile, "rate": 21}}])
def test_other_loads_are_refused(changes: dict[str, Any]) -> None:
    """They are no parts of one."""
    with pytest.raises(MergeError, match="b is of another load than a"):
        together({"a": run(), "b": run(**changes)})


def test_nothing_is_no_report() -> None:
    """It cannot be put together."""
    with pytest.raises(MergeError, match="no run"):
        together({})


def test_several_files_are_one_report(tmp_path: Path) -> None:
    """The command shows them as one, names whose a fault is, and refuses what does not belong together."""
    names = ["one.json", "two.json", "other.json"]
    for name, result in zip(names, (run(), results.bad(), run(scenario="idle")), strict=True):
        (tmp_path / name).write_bytes(writing.encoded(result))
    one, two, other = (str(tmp_path / it) for it in names)
    shown = CliRunner().invoke(app, ["report", one, two, "--html", str(tmp_path / "page.html")])
    assert 0 == shown.exit_code
    assert "FAILED" in shown.output
    assert f"{two}:silentgap" in "".join(shown.output.split())  # it is wrapped
    assert "2 runs at once" in (tmp_path / "page.html").read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, ["report", one, other])
    assert (2, True) == (refused.exit_code, "is of another load" in refused.output)
