from __future__ import annotations

from dataclasses import fields
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plan import constants, node
from loadtests.plan.constants import NodeCosts
from loadtests.plan.node import Load
from loadtests.plan.workload import Workload

COSTS = constants.read().costs()


def test_each_term_has_its_cost() -> None:
    """A load and its costs have the same fields, so that neither is ever forgotten."""
    assert [it.name for it in fields(NodeCosts)] == list(node.TERMS)


def test_cpu_is_the_sum() -> None:
    """A share of a core is amounts times seconds."""
    costs = NodeCosts(**dict.fromkeys(node.TERMS, 0.0) | {"node": 0.01, "write": 1e-5, "accept": 1e-3})
    assert node.cpu(Load(write=1000, accept=50, frame=7), costs) == pytest.approx(0.01 + 0.01 + 0.05)


def test_who_hears_of_a_channel() -> None:
    """One node hears all, one of two half the channels of one subscriber, and nearly all of a large one."""
    assert node.present(1, 1.0) == node.present(1000, 1.0) == 1
    assert node.present(0.5, 1.0) == 0.5
    assert node.present(0.5, 0.5) == 0.25
    assert node.present(1, 0.5) == 0.5
    assert node.present(2, 0.5) == 0.75
    assert node.present(1000, 0.5) == pytest.approx(1)
    assert node.present(0, 0.5) == 0


@given(rate=st.floats(0, 1e6), seconds=st.floats(0, 1))
def test_frames_in_a_write(rate: float, seconds: float) -> None:
    """At least one, at least what arrives during a flush, and never both together."""
    together = node.joined(rate, seconds)
    assert max(1.0, rate * seconds) <= together * (1 + 1e-12)
    assert together <= 1 + rate * seconds


def test_frames_in_a_write_by_simulation() -> None:
    """The formula is what a queue does that takes all who wait each time: here with exact arrivals."""
    import random  # noqa: PLC0415 - of this test alone

    dice, busy, rate, seconds = random.Random(1), 0.0, 2.0, 0.5
    frames = flushes = 0
    now = free = 0.0
    waiting = 0
    for _ in range(40_000):
        now += dice.expovariate(rate)
        while waiting and free <= now:  # the flush before is over: all who wait leave
            frames, flushes, waiting = frames + waiting, flushes + 1, 0
            free += seconds
        if free <= now:
            frames, flushes, free = frames + 1, flushes + 1, now + seconds
        else:
            waiting += 1
        busy = free
    assert busy > now - 10
    assert frames / flushes == pytest.approx(1 + exp(-1), rel=0.02)
    assert frames / flushes == pytest.approx(node.joined(rate, seconds), rel=0.02)


def test_a_node_alone_takes_all() -> None:
    """The whole workload is on one node; it hears each publication once."""
    workload = Workload(
        connections=1000, channels=10, subscribers=100, rate=50, api=0.2, history=0.5, churn=3, announced=0
    )
    load = node.share_of(workload, 1, COSTS.node)
    assert (load.connection, load.accept, load.token, load.leave) == (1000, 3, 3, 3)
    assert (load.publication, load.call, load.history, load.envelope) == (40, 10, 25, 50)
    assert load.frame == 5000
    assert load.write <= load.frame
    assert load.subscribe == 0


def test_parts_are_the_whole() -> None:
    """Halves of connections, accepts and frames add up; envelopes do not, each half hears most publications."""
    workload = Workload(connections=1000, channels=100, subscribers=10, rate=500, churn=4)
    whole, half = node.part(workload, 1.0, COSTS.node), node.part(workload, 0.5, COSTS.node)
    assert 2 * half.connection == whole.connection
    assert 2 * half.frame == whole.frame
    assert 2 * half.byte == whole.byte
    assert 0.5 * whole.envelope < half.envelope < whole.envelope


def test_nobody_listens() -> None:
    """Publications into channels without subscribers cost their way in, and nothing is delivered."""
    silent = Workload(connections=10, channels=5, subscribers=0, rate=100)
    for nodes in (1, 2):
        load = node.share_of(silent, nodes, COSTS.node)
        assert (load.envelope, load.write, load.frame, load.byte) == (0, 0, 0, 0)
        assert load.publication == 100 / nodes


def test_further_subscriptions_cost() -> None:
    """The first of a connection is part of its accept and memory; others are counted."""
    workload = Workload(connections=100, channels=300, subscribers=1, rate=0, churn=5)
    assert node.share_of(workload, 1, COSTS.node).subscribe == 10
    one = Workload(connections=100, channels=100, subscribers=1, rate=0)
    more = node.resident(workload, 1, COSTS.memory) - node.resident(one, 1, COSTS.memory)
    assert more == pytest.approx(100 * 2 * COSTS.memory.subscription)
    kernel = node.memory(one, 1, COSTS.memory) - node.resident(one, 1, COSTS.memory)
    assert kernel == pytest.approx(100 * (COSTS.memory.kernel + COSTS.memory.waiting))
