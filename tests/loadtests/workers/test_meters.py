"""What one process counts."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.clients.publications import ELSEWHERE
from loadtests.workers.distribution import merged
from loadtests.workers.messages import Tick
from loadtests.workers.meters import ProcessMeters, now, starved


def tick(meters: ProcessMeters) -> Tick:
    """End a second."""
    return meters.tick(0, standing=1, clients=2, pending=3, played=True)


def count(text: str) -> int:
    """Count what a histogram holds."""
    return int(merged([text]).total_count)


def test_only_what_was_due_while_measuring_is_in_the_figures() -> None:
    """The second shows all, the run the measure phase alone: from its first moment to before its last."""
    meters, moment = ProcessMeters(), now()
    meters.began, meters.ends = moment - 1000, moment - 100
    for due in (moment - 1001, moment - 1000, moment - 101, moment - 100, ELSEWHERE):
        meters.delivered(due)
        meters.acknowledged(max(due, 0))
    found = tick(meters)
    assert (5, 5, 4) == (found.delivered, found.acknowledged, count(found.delivery))
    assert [2, 2] == [count(meters.run[it].encoded()) for it in ("delivery", "acknowledge")]


def test_before_the_times_are_told_nothing_is_in_the_figures() -> None:
    """The ramp is none of them."""
    meters = ProcessMeters()
    meters.delivered(now())
    assert (1, "") == (tick(meters).delivered, meters.run["delivery"].encoded())


def test_each_second_begins_anew() -> None:
    """Counts are of one second; what stands, stands."""
    meters = ProcessMeters()
    meters.connected = 7
    meters.count("published", 3)
    meters.count("errors")
    meters.closed(1006)
    meters.closed(1006)
    meters.refused("503")
    first, second = tick(meters), tick(meters)
    assert (3, 1, {"1006": 2}, {"503": 1}, 7) == (
        first.published, first.errors, first.closes, first.refusals, first.connected,
    )  # fmt: skip
    assert (0, 0, {}, {}, 7) == (
        second.published, second.errors, second.closes, second.refusals, second.connected,
    )  # fmt: skip
    assert (1, 2, 3, True) == (first.standing, first.clients, first.pending, first.played)


def test_it_says_what_it_costs() -> None:
    """A process that computes all the time is busy, and one that waits is not starved by it."""
    meters = ProcessMeters()
    tick(meters)
    stop = now() + 20_000
    while now() < stop:
        pass
    found = tick(meters)
    assert 0.0 < found.busy < 1.5
    assert found.starved >= 0.0


def test_what_is_said_once_is_enough() -> None:
    """Remarks and faults are kept once, of figures the largest."""
    meters = ProcessMeters()
    for value in (2.0, 5.0, 3.0):
        meters.remark("x")
        meters.fault("y")
        meters.figure("z", value)
    meters.took("recover", 5)
    assert ({"x": None}, {"y": None}, {"z": 5.0}) == (meters.remarks, meters.faults, meters.figures)
    assert count(meters.run["recover"].encoded()) == 1


def test_where_nobody_counts_waiting_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system, or an old kernel."""

    def gone(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", gone)
    assert starved() == 0.0
