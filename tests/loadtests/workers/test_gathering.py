"""What the processes say of each second, put together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadtests.kit.result import GeneratorProcess
from loadtests.scenarios.contract import Phase
from loadtests.workers.distribution import Distribution
from loadtests.workers.gathering import Gathering
from loadtests.workers.messages import Findings, Tick

FOUND = Findings(
    histograms={}, pages={}, logs=[], tops={}, remarks=[], faults=[], figures={}, connections=3, lag=1.5
)  # fmt: skip


def phase_of(second: int) -> Phase:
    """A run of one second of each."""
    phases: tuple[Phase, ...] = ("ramp", "warm-up", "measure", "settle")
    return phases[min(second, 3)]


def quiet(at: int, **more: Any) -> Tick:
    """Return a second in which nothing happens any more."""
    return msgspec.structs.replace(Tick(at=at, connected=3, standing=3, clients=3, played=True), **more)


def latencies(*values: int) -> str:
    """Return a histogram."""
    told = Distribution()
    for value in values:
        told.add(value)
    return told.encoded()


def test_a_second_is_whole_when_all_have_said_theirs() -> None:
    """Counts are added, distributions merged, and the busiest process is shown."""
    gathering = Gathering(2, phase_of)
    first = Tick(at=2, connected=1, published=2, acknowledged=3, delivered=4, errors=5, closes={"1006": 6}, busy=0.1)
    second = msgspec.structs.replace(first, refusals={"503": 2}, busy=0.7, delivery=latencies(1000, 3000))
    assert gathering.take(0, msgspec.structs.replace(first, delivery=latencies(2000))) is None
    assert gathering.take(0, Tick(at=3)) is None  # one process is ahead of the other
    found = gathering.take(1, second)
    assert found is not None
    assert (2, "measure", 2, 4, 6, 8, 10, 12, 0.7) == (
        found.at, found.phase, found.connected, found.published, found.acknowledged, found.delivered, found.errors,
        found.closes, found.busy,
    )  # fmt: skip
    assert found.delivery.count == 3
    assert found.delivery.p50 == pytest.approx(2.0, rel=0.001)
    assert ({"1006": 12}, {"503": 2}) == (gathering.closes, gathering.refusals)
    assert [found] == gathering.seconds


def test_the_cost_is_that_of_the_measure_phase() -> None:
    """A ramp is expensive, and no figure."""
    gathering = Gathering(1, phase_of)
    for at, busy in enumerate((1.0, 1.0, 0.2, 0.9)):
        gathering.take(0, Tick(at=at, busy=busy, starved=busy / 2))
    (cost,) = gathering.processes([FOUND])
    assert (0, 3, 0.2, 0.2, 1.5) == (cost.process, cost.connections, cost.mean, cost.peak, cost.lag)
    assert (0.1, 0.0, False) == (cost.starved, cost.over, cost.saturated)


def always(_: int) -> Phase:
    """A run that measures all the time."""
    return "measure"


@pytest.mark.parametrize(
    ("seconds", "saturated"),
    [
        ([(0.9, 0.0)], True),
        ([(0.5, 0.49)], True),  # waiting for a core is no time to spare either
        ([(0.1, 0.8)], True),
        ([(0.4, 0.44)], False),
        ([*19 * [(0.1, 0.0)], (0.2, 0.7)], True),  # one second of twenty is what the 99th percentile shows
        ([*199 * [(0.1, 0.0)], (0.2, 0.7)], False),  # one of two hundred is not
    ],
)
def test_who_computes_or_waits_for_a_core_has_no_time_to_spare(
    seconds: list[tuple[float, float]], saturated: bool
) -> None:
    """On the whole, or in more of the seconds than a percentile may leave out."""
    gathering = Gathering(1, always)
    for at, (busy, starved) in enumerate(seconds):
        gathering.take(0, Tick(at=at, busy=busy, starved=starved))
    (cost,) = gathering.processes([FOUND])
    assert saturated == cost.saturated


def test_waiting_counts_on_the_whole_too() -> None:
    """Of a result that does not say in how many seconds."""
    cost = GeneratorProcess(process=0, connections=1, mean=0.5, peak=0.6, lag=1.0, starved=0.4)
    assert (True, False) == (cost.saturated, msgspec.structs.replace(cost, starved=0.3).saturated)


def test_who_came_too_late_to_send_was_the_bottleneck() -> None:
    """However little time it used."""
    (cost,) = Gathering(1, always).processes([msgspec.structs.replace(FOUND, behind=1)])
    assert cost.saturated


def test_the_second_shows_the_process_with_the_least_time_to_spare() -> None:
    """Computing and waiting together, of one process."""
    gathering = Gathering(2, always)
    gathering.take(0, Tick(at=0, busy=0.6, starved=0.0))
    second = gathering.take(1, Tick(at=0, busy=0.3, starved=0.6))
    assert second is not None
    assert (0.3, 0.6, True) == (second.busy, second.starved, second.saturated)


def test_a_run_that_never_measured_costs_nothing() -> None:
    """There is no mean of nothing."""
    (cost,) = Gathering(1, phase_of).processes([FOUND])
    assert (0.0, 0.0, 0.0, 0.0) == (cost.mean, cost.peak, cost.starved, cost.over)


def test_a_run_has_settled_after_one_quiet_second() -> None:
    """All have played, everybody stands, all is answered, and nothing came."""
    gathering = Gathering(2, phase_of)
    assert not gathering.settled
    gathering.take(0, quiet(3))
    assert not gathering.settled
    gathering.take(1, quiet(3))
    assert gathering.settled
    assert gathering.played


@pytest.mark.parametrize(
    "change", [{"delivered": 1}, {"pending": 1}, {"standing": 2}, {"played": False}], ids=lambda it: next(iter(it))
)
def test_a_run_goes_on_while_something_is_on_its_way(change: dict[str, Any]) -> None:
    """In one process of two is enough."""
    gathering = Gathering(2, phase_of)
    gathering.take(0, quiet(3))
    gathering.take(1, quiet(3, **change))
    assert not gathering.settled


def test_no_phase_but_the_last_settles() -> None:
    """A quiet second while measuring is one without publications."""
    gathering = Gathering(1, phase_of)
    gathering.take(0, quiet(2))
    assert not gathering.settled
