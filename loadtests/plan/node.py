"""What one node does in a second, and what that costs: the same sum for planning, fitting and checking."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import exp
from typing import Final

from loadtests.plan import wire
from loadtests.plan.constants import MemoryCosts, NodeCosts
from loadtests.plan.workload import Workload

FULL: Final = 0.8  # of a pod's memory: beyond it the gateway lets nobody in (`http_server.memory_limit`)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Amounts of one node in a second; each field is what the constant of its name is the cost of."""

    node: float = 1.0
    connection: float = 0.0
    accept: float = 0.0
    token: float = 0.0
    leave: float = 0.0
    subscribe: float = 0.0
    publication: float = 0.0
    call: float = 0.0
    history: float = 0.0
    envelope: float = 0.0
    write: float = 0.0
    frame: float = 0.0
    byte: float = 0.0


TERMS: Final = tuple(it.name for it in fields(Load))


def cpu(load: Load, costs: NodeCosts) -> float:
    """Return the share of a core. More than 1: it cannot be done."""
    return sum(float(getattr(load, it)) * float(getattr(costs, it)) for it in TERMS)


def present(subscribers: float, share: float) -> float:
    """Return the probability that a node with this share of all connections has one of a channel's subscribers.

    Less than one subscriber means that some channels have one and the others none.
    """
    return subscribers * share if subscribers < 1 else 1 - (1 - share) ** subscribers


def joined(rate: float, seconds: float) -> float:
    """Return how many frames leave in one write: `rate` a second come for a connection, a flush takes `seconds`.

    What arrives while a flush is under way leaves together with the next one; if nothing does, the next is a single
    frame. With a = rate * seconds arrivals during a flush, at random, the mean is a + exp(-a).
    """
    arrivals = rate * seconds
    return arrivals + exp(-arrivals)


def share_of(workload: Workload, nodes: float, costs: NodeCosts) -> Load:
    """Return the load of each of so many nodes."""
    return part(workload, 1 / nodes, costs)


def part(workload: Workload, share: float, costs: NodeCosts) -> Load:
    """Return the load of a node with this share of all connections; publishers are spread as these are.

    A flush takes the writes to the local subscribers of one channel: other channels only lengthen it, so that frames
    are joined at least as often as is said here.
    """
    here = present(workload.subscribers, share)
    local = workload.subscribers * share / here if here else 0.0
    frames = workload.deliveries * share
    together = joined(workload.deliveries / workload.connections, costs.write * local)
    came = workload.churn * share
    published = workload.rate * share
    return Load(
        connection=workload.connections * share,
        accept=came,
        token=came,
        leave=came,
        subscribe=came * max(0.0, workload.each - 1),
        publication=published * (1 - workload.api),
        call=published * workload.api,
        history=published * workload.history,
        envelope=(workload.rate + workload.events) * here,
        write=frames / together,
        frame=frames,
        byte=frames * wire.frame(workload),
    )


def memory(workload: Workload, share: float, costs: MemoryCosts) -> float:
    """Return the bytes of one process with this share of all connections, the kernel's for them included."""
    return resident(workload, share, costs) + workload.connections * share * (costs.kernel + costs.waiting)


def resident(workload: Workload, share: float, costs: MemoryCosts) -> float:
    """Return the bytes that the process itself holds while nobody is slow."""
    further = max(0.0, workload.each - 1)
    return costs.node + workload.connections * share * (costs.connection + further * costs.subscription)
