from __future__ import annotations

from typing import Any

import pytest

from loadtests.kit.expectations import NOTHING, growth, judge, lag
from loadtests.kit.profile import Expectations, Profile
from loadtests.kit.result import Audit, Broken, Machine, NodeSample, Percentiles, Result, Second

MIB = 1 << 20
SECONDS = [
    *(Second(at=at, phase="ramp") for at in range(2)),
    *(Second(at=at, phase="warm-up") for at in range(2, 4)),
    *(Second(at=at, phase="measure") for at in range(4, 8)),
    Second(at=8, phase="settle"),
]


def result(**parts: Any) -> Result:
    """Return a run in which everything went well, but for these parts."""
    good = Percentiles(count=100, p50=1.0, p99=5.0)
    fields: dict[str, Any] = {
        "scenario": "x",
        "profile": {},
        "target": "http://t",
        "command": "c",
        "started": "2026-01-01T00:00:00Z",
        "machine": Machine(cores=2, model="m", system="s", python="p", memory=1),
        "versions": {},
        "measured": 4.0,
        "seconds": SECONDS,
        "nodes": [sample(at, at) for at in range(1, 9)],
        **dict.fromkeys(("connect", "subscribe", "acknowledge", "delivery", "recover"), good),
        "audit": Audit(),
        "closes": {},
        "refusals": {},
        "generators": [],
        "broken": [],
        "remarks": [],
    }
    return Result(**{**fields, **parts})


def sample(at: float, resident: float, lag_ms: float = 1.0, node: str = "a") -> NodeSample:
    """Return a sample; resident in MiB."""
    return NodeSample(node=node, at=at + 0.3, resident=round(resident * MIB), lag=lag_ms)


def broken(run: Result, *, slow: float = 0.0, **expect: float | None) -> list[Broken]:
    """Judge a run by these expectations alone."""
    wanted = Expectations.model_validate({"lost": None, "repeats": None, **expect})
    return judge(Profile(scenario="x", connections=1, slow=slow, expect=wanted), run)


@pytest.mark.parametrize(
    ("name", "bound", "seen", "parts"),
    [
        ("p50", 2.0, 2.5, {"delivery": Percentiles(count=1, p50=2.5)}),
        ("p99", 20.0, 20.1, {"delivery": Percentiles(count=1, p99=20.1)}),
        ("connect_p99", 9.0, 10.0, {"connect": Percentiles(count=1, p99=10.0)}),
        ("recover_p99", 9.0, 10.0, {"recover": Percentiles(count=1, p99=10.0)}),
        ("lost", 0, 1, {"audit": Audit(lost=1)}),
        ("repeats", 0, 1, {"audit": Audit(repeats=3, twice=1)}),
        ("refused", 2, 3, {"refusals": {"503": 1, "429": 2}}),
        ("closed", 1, 4, {"closes": {"3008": 1, "1006": 3}}),
        ("lag_p99", 10.0, 12.0, {"nodes": [sample(5, 0, 3.0), sample(6, 0, 12.0)]}),
        ("resident_growth", 2.0, 2.5, {"nodes": [sample(4, 10), sample(7, 12.5)]}),
    ],
)
def test_each_expectation_breaks(name: str, bound: float, seen: float, parts: dict[str, Any]) -> None:
    """Beyond its bound each is broken, and says what was seen; at its bound, or without one, it holds."""
    run = result(**parts)
    assert [Broken(name=name, wanted=bound, seen=seen)] == broken(run, **{name: bound})
    assert [] == broken(run, **{name: seen})
    assert [] == broken(run)
    assert [] == broken(result(), **{name: 5.0}), "a good run holds"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("p50", {"delivery": Percentiles()}),
        ("p99", {"delivery": Percentiles()}),
        ("connect_p99", {"connect": Percentiles()}),
        ("lag_p99", {"nodes": []}),
        ("resident_growth", {"nodes": [sample(1, 5)]}),  # before the measure phase only
    ],
)
def test_what_was_not_measured_does_not_hold(name: str, parts: dict[str, Any]) -> None:
    """A run that measured nothing passes no expectation on it: silence is no good news."""
    assert [Broken(name=name, wanted=5.0, seen=0.0, why=NOTHING)] == broken(result(**parts), **{name: 5.0})


@pytest.mark.parametrize("name", ["p50", "p99"])
def test_a_percentile_that_never_came_does_not_hold(name: str) -> None:
    """However long one would have waited."""
    late = Percentiles(count=3, missing=7, p50=None, p99=None, max=None)
    assert [Broken(name=name, wanted=1e9, seen=0.0, why="7 of 10 never came")] == broken(
        result(delivery=late), **{name: 1e9}
    )


@pytest.mark.parametrize(
    ("closes", "expected"),
    [
        ({"1006": 3, "3004": 2, "x": 1}, []),
        ({"3500": 2, "1006": 1, "4501": 1}, ["3 were told not to come back"]),
    ],
)
def test_who_is_told_not_to_come_back_fails_a_run_that_says_nothing_of_closes(
    closes: dict[str, int], expected: list[str]
) -> None:
    """Others came back; of these nobody asks any more. A number of closes that is meant is meant for all of them."""
    run = result(closes=closes)
    assert expected == [it.why for it in broken(run)]
    assert [] == broken(run, closed=9)


def test_all_that_is_broken_is_named() -> None:
    """One failure hides no other; the order is that of the profile."""
    run = result(audit=Audit(lost=3), refusals={"503": 1}, delivery=Percentiles(count=1, p99=9.0))
    assert ["p99", "lost", "refused"] == [it.name for it in broken(run, p99=1.0, lost=0, refused=0)]


def test_nothing_may_be_lost_unless_told_otherwise() -> None:
    """A profile without expectations expects that nothing is lost."""
    profile = Profile(scenario="x", connections=1)
    assert [Broken(name="lost", wanted=0, seen=1)] == judge(profile, result(audit=Audit(lost=1)))


def test_slow_clients_are_meant_to_be_closed() -> None:
    """Where the profile has slow clients, their end is part of the plan; any other code is not."""
    run = result(closes={"3008": 5, "1006": 1, "3004": 2})
    assert [Broken(name="closed", wanted=0, seen=2)] == broken(run, slow=0.1, closed=0)
    assert [Broken(name="closed", wanted=0, seen=8)] == broken(run, closed=0)


def test_only_the_measure_phase_is_judged() -> None:
    """A node may grow and lag while everybody connects, and when everybody goes."""
    nodes = [sample(1, 0, 500.0), sample(3, 50), sample(4, 100), sample(7, 101), sample(8, 300, 500.0)]
    assert [] == broken(result(nodes=nodes), lag_p99=2.0, resident_growth=1.0)


def test_the_worst_node_decides() -> None:
    """Growth and lag are of each node by itself, however their samples are mixed."""
    nodes = [sample(5, 9, 3.0, "b"), sample(4, 10), sample(4, 2, 4.0, "b"), sample(5, 11)]
    assert 7.0 == growth(nodes)
    assert 4.0 == lag(nodes)
    assert -3.0 == growth([sample(4, 5), sample(5, 2)])


def test_one_bad_second_of_a_long_run_is_borne() -> None:
    """In 100 seconds and more the one in a hundred that was worst does not count, two do."""
    quiet = [sample(at, 0, 1.0) for at in range(98)]
    assert 1.0 == lag([*quiet, sample(98, 0, 1.0), sample(99, 0, 70.0)])
    assert 60.0 == lag([*quiet, sample(98, 0, 60.0), sample(99, 0, 70.0)])
