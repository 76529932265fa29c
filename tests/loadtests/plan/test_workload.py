from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from loadtests.plan.named import NAMED
from loadtests.plan.workload import Margin, PlanError, Pod, Workload

FINE: dict[str, Any] = {"connections": 100, "channels": 10, "subscribers": 20.0, "rate": 5.0}


def test_what_follows_from_a_workload() -> None:
    """Subscriptions, deliveries and told joins are counted from it."""
    it = Workload(**FINE, churn=2.0, announced=0.5)
    assert it.subscriptions == 200
    assert it.each == 2
    assert it.events == 2 * 2 * 2 * 0.5
    assert it.deliveries == (5 + 4) * 20


def test_times() -> None:
    """Twice the workload has twice of all but what one channel or one message is."""
    it = Workload(**FINE, churn=2.0, history=1.0)
    twice = it.times(2)
    assert (twice.connections, twice.channels, twice.rate, twice.churn) == (200, 20, 10.0, 4.0)
    assert (twice.subscribers, twice.size, twice.history) == (it.subscribers, it.size, it.history)
    assert twice.deliveries == 2 * it.deliveries


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"connections": 0}, "connections must be from 1"),
        ({"connections": -5}, "connections must be from 1"),
        ({"connections": 10**12}, "connections must be from 1"),
        ({"channels": 0}, "channels must be from 1"),
        ({"rate": -1}, "rate must be from 0"),
        ({"rate": nan}, "rate must be from 0"),
        ({"rate": inf}, "rate must be from 0"),
        ({"churn": inf}, "churn must be from 0"),
        ({"size": 0}, "size must be from 1"),
        ({"size": 1_000_000}, "size must be from 1 to 65,000"),
        ({"history": 1.5}, "history must be from 0 to 1"),
        ({"presence": -0.1}, "presence must be from 0 to 1"),
        ({"token_seconds": 0}, "token seconds must be from 1"),
        ({"subscribers": 101}, "100 connections are too few for channels of 101 subscribers"),
    ],
)
def test_a_workload_that_cannot_be(change: dict[str, float], words: str) -> None:
    """Each number out of its range is refused with its name and the range."""
    with pytest.raises(PlanError, match=words):
        Workload(**{**FINE, **change})


@pytest.mark.parametrize(
    "change", [{"cpu": 0.8}, {"cpu": 0}, {"cpu": nan}, {"zones": 0}, {"lost_zones": -1}, {"lost_pods": -1}, {"back": 0}]
)
def test_a_margin_that_is_none(change: dict[str, Any]) -> None:
    """Also a CPU share beyond which frames are joined so much that the share says nothing."""
    with pytest.raises(PlanError, match="must be from"):
        Margin(**change)


def test_all_zones_lost() -> None:
    """When every zone is gone nobody is left to plan for."""
    with pytest.raises(PlanError, match="2 lost leave nobody"):
        Margin(zones=2, lost_zones=2)


@pytest.mark.parametrize(
    "change", [{"nodes": 0}, {"memory": 1.0}, {"connections": 0}, {"network": 0}, {"accepts": -1.0}, {"memory": nan}]
)
def test_a_pod_that_is_none(change: dict[str, Any]) -> None:
    """A pod without a core, memory, connections or network is refused."""
    with pytest.raises(PlanError, match="must be from"):
        Pod(**change)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("connections", [1, 7, 10, 123_456])
def test_named_workloads_are_of_any_size(name: str, connections: int) -> None:
    """Each can be made for one connection and for many."""
    it = NAMED[name](connections)
    assert it.connections == connections
    assert it.deliveries > 0
