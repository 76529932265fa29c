"""How many servers of Redis or Valkey carry a workload: operations of each kind, a core each, 64 partitions at most."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import Final

from loadtests.plan.constants import RedisCosts
from loadtests.plan.node import present
from loadtests.plan.workload import Workload

PARTITIONS: Final = 64
LEASE: Final = 2.0  # seconds between two renewals of a lease
SILENCE: Final = 40.0  # seconds after which a node reads the top of a silent channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """What all servers together do in a second."""

    publish: float
    history: float
    push: float
    users: float  # connections counted under their user, over all nodes
    presence: float
    subscribe: float
    read: float

    def of_channels(self, costs: RedisCosts) -> float:
        """Return the cores taken where the channels are."""
        return (
            self.publish * costs.publish
            + self.history * costs.history
            + self.push * costs.push
            + self.presence * costs.presence
            + self.subscribe * costs.subscribe
            + self.read * costs.read
        )

    def of_users(self, costs: RedisCosts) -> float:
        """Return the cores taken where the users are: their names spread better than those of a few channels."""
        return self.users * costs.presence


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What came of it. `busy`: share of the core of the hottest; `enough` False: 64 are too few."""

    count: int
    busy: float
    enough: bool
    memory: float  # bytes, of all
    operations: Operations
    renewals: float  # of leases, a second, all servers


def operations(workload: Workload, nodes: float) -> Operations:
    """Return what so many nodes ask for."""
    share = 1 / nodes
    here = present(workload.subscribers, share)
    comings = workload.churn * workload.each
    alone = (1 - share) ** max(0.0, workload.subscribers - 1) if share < 1 else float(workload.subscribers <= 1)
    silent = exp(-SILENCE * workload.rate / workload.channels) / SILENCE
    return Operations(
        publish=workload.rate * (1 - workload.history),
        history=workload.rate * workload.history,
        push=(workload.rate + workload.events) * nodes * here,
        users=2 * workload.churn,
        presence=2 * comings * workload.presence,
        subscribe=2 * comings * alone,
        read=workload.history * (comings + workload.channels * nodes * here * silent),
    )


def renewals(nodes: float, count: int) -> float:
    """Return how many leases all nodes renew in a second on all servers together."""
    return nodes * (PARTITIONS if count > 1 else 1) / LEASE


def hottest(count: int, channels: int) -> float:
    """Return the share of the whole that the busiest of `count` servers has, names being spread by a hash.

    Partitions cannot be divided, and few channels do not lie evenly: Bernstein's bound for balls thrown into bins; no
    server has less than a whole channel.
    """
    even = ceil(PARTITIONS / count) / PARTITIONS
    uneven = even + sqrt(2 * even * log(count) / channels) + log(count) / (3 * channels)
    return max(1 / channels, min(1.0, uneven))


def busy(workload: Workload, nodes: float, count: int, costs: RedisCosts) -> float:
    """Return the share of its core that the hottest of `count` servers needs."""
    asked = operations(workload, nodes)
    channels = asked.of_channels(costs) * hottest(count, workload.channels)
    users = asked.of_users(costs) * hottest(count, workload.connections)
    kept_up = nodes * costs.probe + renewals(nodes, count) * costs.renew / count
    return channels + users + kept_up


def needed(workload: Workload, nodes: float, most: float, costs: RedisCosts) -> Servers:
    """Return the fewest servers that stay below `most` of a core each, or all 64."""
    shares = {count: busy(workload, nodes, count, costs) for count in range(1, PARTITIONS + 1)}
    fitting = [count for count, share in shares.items() if share <= most]
    count = fitting[0] if fitting else PARTITIONS
    return of(count, workload, nodes, most, costs)


def of(count: int, workload: Workload, nodes: float, most: float, costs: RedisCosts) -> Servers:
    """Return what so many servers have to do."""
    share = busy(workload, nodes, count, costs)
    return Servers(
        count=count,
        busy=share,
        enough=share <= most,
        memory=memory(workload, costs),
        operations=operations(workload, nodes),
        renewals=renewals(nodes, count),
    )


def memory(workload: Workload, costs: RedisCosts) -> float:
    """Return the bytes of all servers together, replicas not counted."""
    entries = workload.connections + workload.subscriptions * workload.presence
    kept = workload.channels * workload.history * workload.kept
    return entries * costs.entry_bytes + kept * (workload.size + costs.kept_bytes)
