"""What breaks first: everything that more pods do not mend, how near the plan comes to it, and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from loadtests.plan import node, servers
from loadtests.plan.capacity import Plan
from loadtests.plan.constants import Costs
from loadtests.plan.reconnect import HORIZON
from loadtests.plan.servers import PARTITIONS

CLIENTS: Final = 10_000  # `maxclients` of a server
LINKS: Final = 2  # of a node to each server
CONNTRACK: Final = 262_144  # `nf_conntrack_max` of a machine with 16 GiB
PORTS: Final = 28_232  # `ip_local_port_range`, for one proxy address and one node
FILES: Final = 524_288  # systemd's hard limit, to which the gateway raises its own
LINE: Final = 10e9  # bits a second of a server's network
OF_ONE: Final = 128  # `client.channel_limit`

FASTER: Final = {
    "admission": "raise client.connection_rate_limit, as far as the core lasts",
    "cpu": "more pods, or a lower --cpu",
    "redis": "presence, and history that everybody recovers from, only where they are needed; split the channel",
    "backoff": "nothing to do: it is the clients' own pause",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One of them: what is used of what there is, and what to do. A share of more than 1 is broken as planned."""

    name: str
    used: float
    limit: float
    unit: str
    fix: str

    @property
    def share(self) -> float:
        """Used of what there is."""
        return self.used / self.limit


def limits(plan: Plan, costs: Costs) -> list[Limit]:
    """Return all of them, the nearest first."""
    found = [*_channels(plan, costs), *_redis(plan, costs), *_machines(plan), _return(plan)]
    return sorted(found, key=lambda it: -it.share)


def _channels(plan: Plan, costs: Costs) -> list[Limit]:
    workload, nodes = plan.workload, plan.pods.surviving * plan.pod.nodes
    load = node.share_of(workload, nodes, costs.node)
    one = servers.operations(workload, nodes).of_channels(costs.redis) / workload.channels
    return [
        Limit(
            name="one channel on its server",
            used=one,
            limit=plan.margin.cpu,
            unit="core",
            fix="split it: channel.0 to channel.n, its members divided by a hash of the user",
        ),
        Limit(
            name="what every node must take in",
            used=load.envelope * costs.node.envelope,
            limit=plan.margin.cpu,
            unit="core",
            fix="let fewer nodes listen: send the members of a channel to the same nodes (hash at the load balancer)",
        ),
        Limit(
            name="channels of a connection",
            used=workload.each,
            limit=OF_ONE,
            unit="",
            fix="client.channel_limit, or one personal channel that the backend publishes to",
        ),
    ]


def _redis(plan: Plan, costs: Costs) -> list[Limit]:
    nodes = plan.pods.count * plan.pod.nodes
    hot = servers.hottest(plan.servers.count, plan.workload.channels)
    asked = plan.servers.operations
    even = (asked.of_channels(costs.redis) + asked.of_users(costs.redis)) / plan.margin.cpu  # if it could be divided
    return [
        Limit(
            name="servers of Redis",
            used=plan.servers.count if plan.servers.enough else even,
            limit=PARTITIONS,
            unit="",
            fix="a partition cannot be divided: several gateways side by side, each with some of the channels",
        ),
        Limit(
            name="connections to a server",
            used=nodes * LINKS,
            limit=CLIENTS,
            unit="",
            fix="maxclients and its open files; fewer and busier nodes",
        ),
        Limit(
            name="network of a server",
            used=plan.traffic.redis.wider * hot,
            limit=LINE,
            unit="bit/s",
            fix="more servers; smaller publications; members of a channel on the same nodes",
        ),
    ]


def _machines(plan: Plan) -> list[Limit]:
    pods, zones = plan.pods, plan.margin.zones - plan.margin.lost_zones
    of_node = pods.connections_after / plan.pod.nodes
    return [
        Limit(
            name="tracked connections of a pod",
            used=pods.connections_after,
            limit=CONNTRACK,
            unit="",
            fix="of all pods on a machine together: nf_conntrack_max, or no tracking for the port",
        ),
        Limit(
            name="ports from a proxy to a node",
            used=of_node / zones,
            limit=PORTS,
            unit="",
            fix="with one proxy a zone; more proxies or addresses, or ip_local_port_range",
        ),
        Limit(
            name="open files of a node",
            used=of_node + LINKS * plan.servers.count + 100,
            limit=FILES,
            unit="",
            fix="the hard limit: LimitNOFILE, ulimit -Hn",
        ),
    ]


def _return(plan: Plan) -> Limit:
    slow = plan.course.all if plan.course.all < inf else HORIZON
    return Limit(
        name=f"the way back after a loss ({plan.course.bound})",
        used=slow,
        limit=plan.margin.back,
        unit="s",
        fix=FASTER[plan.course.bound],
    )
