"""What a report says first."""

from __future__ import annotations

import msgspec

from loadtests.kit.result import Audit, Broken, GeneratorProcess, Percentiles, Result
from loadtests.reports.verdict import SHOWN, verdict
from tests.support import results


def changed(result: Result, **fields: object) -> Result:
    """Return another one."""
    return msgspec.structs.replace(result, **fields)


def test_a_good_run_has_passed() -> None:
    """Without a word more."""
    told = verdict(results.good())
    assert ("passed", [], []) == (told.kind, told.points, told.advice)


def test_all_that_was_broken_is_named_with_what_was_wanted() -> None:
    """Expectations first, then what the audit found."""
    told = verdict(results.bad())
    assert ("failed", "FAILED: 6 things did not hold") == (told.kind, told.headline)
    assert [
        "delivery, p99: 34.2 ms, at most 20.0 ms was expected",
        "publications lost: 2, at most 0 was expected",
        "growth of a node's memory: 12.5 MiB, at most 4.0 MiB was expected",
        "loop lag of a node, p99: at most 10.0 ms was expected, but nothing of this was measured",
    ] == told.points[:4]
    assert told.points[4].startswith("silent gap")


def test_expectations_of_later_kits_are_told_too() -> None:
    """By their own name."""
    told = verdict(changed(results.good(), broken=[Broken(name="joined_late", wanted=1.0, seen=2.5)]))
    assert "FAILED: 1 thing did not hold" == told.headline
    assert ["joined late: 2.5, at most 1 was expected"] == told.points


def test_many_offences_are_counted() -> None:
    """The first are shown; an audit that is not clean never goes without a word."""
    many = Audit(clean=False, delivered=1, offences=[f"silent gap {number}" for number in range(SHOWN + 5)])
    told = verdict(changed(results.good(), audit=many))
    assert (SHOWN + 1, "and 5 more that the audit found") == (len(told.points), told.points[-1])
    assert ["the audit of what was published and delivered found faults"] == verdict(
        changed(results.good(), audit=Audit(clean=False, delivered=1))
    ).points


def test_a_saturated_generator_voids_a_run() -> None:
    """It says why, and what to do; a latency that was missed is no offence, since it may be the generator's own."""
    told = verdict(results.saturated())
    assert "void" == told.kind
    assert "1 of 2 generator processes used up to 93 % of a core" in told.points[0]
    assert not any("Let nothing else run" in it for it in told.advice)
    assert 1 == len(told.points)
    assert any("--processes 4 (this run had 2)" in it for it in told.advice)
    assert any("--set rate=10" in it for it in told.advice)


def test_a_generator_that_waited_or_came_too_late_voids_a_run() -> None:
    """It says for how long, how much was never sent, and that its cores were not its own."""
    starved = GeneratorProcess(process=0, connections=1, mean=0.3, peak=0.4, lag=9.0, starved=0.6, over=0.75)
    told = verdict(changed(results.good(), generators=[starved]))
    assert "void" == told.kind
    assert "waited for one up to 60 % of the time; over 85 % together in up to 75 % of the seconds" in told.points[0]
    assert "Let nothing else run on the generator's cores" in told.advice[0]
    assert not any("--processes" in it for it in told.advice)
    late = GeneratorProcess(process=0, connections=1, mean=0.3, peak=0.4, lag=9.0, behind=1200)
    assert (
        "1,200 publications came so late that they were never sent"
        in (verdict(changed(results.good(), generators=[late])).points[0])
    )


def test_an_empty_run_fails_and_says_what_did_not_happen() -> None:
    """Nothing is wrong with what never was, which is no reason to pass."""
    told = verdict(changed(results.good(), acknowledge=Percentiles()))
    assert ("failed", "FAILED: 1 thing did not hold") == (told.kind, told.headline)
    assert ["20 publications a second were due, and none was acknowledged while measuring"] == told.points


def test_what_was_lost_is_told_of_a_void_run_too() -> None:
    """A loss is none of the generator's doing."""
    lost = [Broken(name="lost", wanted=0.0, seen=2.0), Broken(name="p99", wanted=1.0, seen=2.0)]
    told = verdict(changed(results.saturated(), broken=lost, audit=results.bad().audit))
    assert "publications lost: 2, at most 0 was expected" in told.points
    assert any("silent gap" in it for it in told.points)
    assert not any("p99" in it for it in told.points)


def test_advice_fits_the_run() -> None:
    """Nobody is told to start more processes than there are cores, or to lower a rate that there was not."""
    crowded = changed(results.saturated(), profile={"rate": 0}, machine=msgspec.structs.replace(
        results.good().machine, cores=2
    ))  # fmt: skip
    assert not any("--processes" in it or "--set rate" in it for it in verdict(crowded).advice)


def test_a_run_that_ended_before_it_measured_is_void() -> None:
    """An empty result must not pass."""
    told = verdict(changed(results.good(), measured=0.0))
    assert ("void", "VOID: nothing was measured") == (told.kind, told.headline)
    assert "after 5 s of ramp and warm-up" in told.points[0]
