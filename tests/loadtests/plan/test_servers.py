from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.plan import constants, servers
from loadtests.plan.workload import Workload

COSTS = constants.read().costs().redis
CHAT = Workload(
    connections=100_000, channels=10_000, subscribers=10, rate=5000, history=1, presence=1, announced=1, churn=100
)


def test_operations_by_hand() -> None:
    """One node: each publication goes out once, and every coming and going is written for the user and the channel."""
    it = servers.operations(CHAT, 1)
    assert (it.publish, it.history) == (0, 5000)
    assert it.push == 5000 + 200
    assert it.users == it.presence == 200
    assert it.subscribe == 0  # somebody is always in the channel already
    assert it.read == pytest.approx(100, rel=1e-6)
    alone = servers.operations(replace(CHAT, subscribers=1), 1)
    assert alone.subscribe == 2 * 100 * 0.1


def test_small_channels_are_heard_by_each_subscriber() -> None:
    """Over very many nodes, a room of ten costs ten envelopes a publication."""
    assert servers.operations(CHAT, 100_000).push == pytest.approx(10 * (5000 + 200), rel=0.01)


def test_silent_channels_are_looked_at() -> None:
    """A channel in which nothing is said is read by each listening node every 40 s."""
    silent = replace(CHAT, rate=0, churn=0)
    assert servers.operations(silent, 1).read == pytest.approx(10_000 / 40)


def test_the_hottest_server() -> None:
    """Partitions are whole, few channels do not lie evenly, and one channel lies on one server."""
    assert servers.hottest(1, 10**9) == 1
    assert servers.hottest(64, 10**12) == pytest.approx(1 / 64, rel=1e-3)
    assert servers.hottest(3, 10**12) == pytest.approx(22 / 64, rel=1e-3)
    assert servers.hottest(64, 1) == 1
    assert servers.hottest(2, 2) == 1
    assert 1 / 64 < servers.hottest(64, 1000) < 0.05


def test_the_hottest_server_by_throwing_balls() -> None:
    """The bound for few channels holds for hashes as they fall, and is not far above them."""
    import random  # noqa: PLC0415 - of this test alone

    dice = random.Random(2)
    for channels in (20, 200, 5000):
        fullest = []
        for _ in range(100):
            bins = [0] * 64
            for _ in range(channels):
                bins[dice.randrange(64)] += 1
            fullest.append(max(bins) / channels)
        mean = sum(fullest) / len(fullest)
        assert mean <= servers.hottest(64, channels) <= 2.5 * mean


@settings(max_examples=60, deadline=None)
@given(rate=st.floats(0, 1e6), more=st.floats(1, 10), nodes=st.integers(1, 1000))
def test_more_load_never_needs_fewer_servers(rate: float, more: float, nodes: int) -> None:
    """The number needed grows with publications, and with nodes that listen."""
    few = servers.needed(replace(CHAT, rate=rate), nodes, 0.6, COSTS)
    many = servers.needed(replace(CHAT, rate=rate * more), nodes, 0.6, COSTS)
    assert few.count <= many.count
    assert few.enough >= many.enough
    assert few.busy <= 0.6 or not few.enough


def test_too_much_for_64() -> None:
    """Beyond 64 servers the answer is 64, and that they are not enough."""
    it = servers.needed(replace(CHAT, rate=5e6), 100, 0.6, COSTS)
    assert (it.count, it.enough) == (64, False)
    assert it.busy > 0.6


def test_leases() -> None:
    """A node renews one lease each 2 s with one server, and 64 with more: one for each partition."""
    assert servers.renewals(10, 1) == 5
    assert servers.renewals(10, 2) == servers.renewals(10, 64) == 320


def test_memory() -> None:
    """Users and presence have an entry each, history keeps data and its frame around each publication."""
    entries = (100_000 + 100_000) * COSTS.entry_bytes
    assert servers.memory(CHAT, COSTS) == pytest.approx(entries + 10_000 * 100 * (100 + COSTS.kept_bytes))
