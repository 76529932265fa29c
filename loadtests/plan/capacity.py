"""The plan: pods, servers, bandwidth and the way back after a loss, for one workload and one set of costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from loadtests.plan import node, reconnect, servers, wire
from loadtests.plan.constants import Constants, Costs, NodeCosts, Which
from loadtests.plan.reconnect import Course, Storm
from loadtests.plan.servers import Servers
from loadtests.plan.wire import Both
from loadtests.plan.workload import Margin, PlanError, Pod, Workload

MOST_PODS: Final = 100_000  # beyond it, it is no plan for one gateway
FULL_LINK: Final = 0.8  # share of a pod's network beyond which packets wait
WORTH: Final = 1.02  # times faster that more servers must make the way back to be counted
UNLIKE: Final = 1.1  # the fullest pod beside the mean: a load balancer is not exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """How many, and what each does; `needs`: how many would do for each resource alone, once the lost are gone."""

    count: int
    surviving: int
    needs: Mapping[str, int]
    binding: str
    connections: float  # of one, while none is lost
    connections_after: float  # and afterwards
    cpu: float  # of one node's core
    cpu_after: float
    memory: float  # bytes to give it
    network: Both  # bits a second of one, afterwards
    together: float  # frames of a write


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bits a second of all: `clients` as the world sees it, with TLS; `inside` between proxy and nodes."""

    clients: Both
    inside: Both
    redis: Both  # into the servers, and out of them
    calls: Both


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """What ends TLS in front: cores while nothing happens and in the storm, memory of all in bytes."""

    cores: float
    cores_in_storm: float
    memory: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All of it; `tokens`: calls of the auth service a second, each for a token."""

    workload: Workload
    margin: Margin
    pod: Pod
    pods: Pods
    servers: Servers
    traffic: Traffic
    proxies: Proxies
    course: Course
    lost: float  # connections, when the margin is used up
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The same at the low ends, in the middle, and at the high ends of all constants; None: cannot be done then."""

    low: Plan
    value: Plan
    high: Plan | None


def between(workload: Workload, margin: Margin, pod: Pod, constants: Constants) -> Range:
    """Return the plan with its range. Raises PlanError if even the middle cannot be done."""

    def at(which: Which) -> Plan:
        return plan(workload, margin, pod, constants.costs(which))

    value, low = at("value"), at("low")
    try:
        high: Plan | None = at("high")
    except PlanError:
        high = None
    return Range(low=low, value=value, high=high)


def plan(workload: Workload, margin: Margin, pod: Pod, costs: Costs) -> Plan:
    """Return what this workload needs. Raises PlanError: no number of pods is enough."""
    pods = count_pods(workload, margin, pod, costs)
    nodes = pods.count * pod.nodes
    redis, course = _servers(workload, margin, pods, pod, costs)
    here = node.present(workload.subscribers, 1 / nodes)
    traffic = Traffic(
        clients=wire.clients(workload, pods.together, tls=True),
        inside=wire.clients(workload, pods.together, tls=False),
        redis=wire.redis(workload, nodes, here, redis.renewals),
        calls=wire.calls(workload),
    )
    return Plan(
        workload=workload,
        margin=margin,
        pod=pod,
        pods=pods,
        servers=redis,
        traffic=traffic,
        proxies=_proxies(workload, traffic, course, costs),
        course=course,
        lost=_lost(workload, pods),
        tokens=workload.connections / workload.token_seconds + workload.churn,
    )


def count_pods(workload: Workload, margin: Margin, pod: Pod, costs: Costs) -> Pods:
    """Return the fewest pods of which enough are left. Raises PlanError: no number is enough."""
    uses = _uses(workload, pod, costs)
    limits = {
        "cpu": margin.cpu,
        "connections": float(pod.connections),
        "memory": node.FULL * pod.memory,
        "network": FULL_LINK * pod.network,
    }
    needs = {name: _least(workload, uses[name], limits[name], name) for name in limits}
    surviving = max(needs.values())
    in_zone = ceil((surviving + margin.lost_pods) / (margin.zones - margin.lost_zones))
    count = in_zone * margin.zones
    left = count - margin.lost_zones * in_zone - margin.lost_pods
    after = node.share_of(workload, left * pod.nodes, costs.node)
    return Pods(
        count=count,
        surviving=left,
        needs=needs,
        binding=max(needs, key=lambda it: needs[it]),
        connections=workload.connections / count,
        connections_after=workload.connections / left,
        cpu=uses["cpu"](count),
        cpu_after=uses["cpu"](left),
        memory=uses["memory"](left) / node.FULL,
        network=_network(workload, left, costs.node),
        together=after.frame / after.write if after.write else 1.0,
    )


def _uses(workload: Workload, pod: Pod, costs: Costs) -> Mapping[str, Callable[[int], float]]:
    """Return what the fullest of so many pods uses of each resource; each falls as pods are added."""

    def cpu(pods: int) -> float:
        return node.cpu(node.part(workload, _fullest(pods * pod.nodes), costs.node), costs.node)

    def memory(pods: int) -> float:
        return pod.nodes * node.memory(workload, _fullest(pods * pod.nodes), costs.memory)

    return {
        "cpu": cpu,
        "connections": lambda pods: workload.connections * _fullest(pods),
        "memory": memory,
        "network": lambda pods: _network(workload, pods, costs.node).wider,
    }


def _fullest(parts: int) -> float:
    return min(1.0, UNLIKE / parts)


def _network(workload: Workload, pods: int, costs: NodeCosts) -> Both:
    share = _fullest(pods)
    load = node.part(workload, share, costs)
    together = load.frame / load.write if load.write else 1.0
    outside = wire.clients(workload, together, tls=False).times(share)
    heard = 8 * load.envelope * (wire.ENVELOPE + workload.size + wire.PUSHED)
    sent = 8 * (load.publication + load.call) * (wire.ENVELOPE + workload.size + wire.SCRIPT)
    return outside + Both(heard, sent)


def _least(workload: Workload, uses: Callable[[int], float], limit: float, name: str) -> int:
    """Return the fewest pods of which each stays below the limit."""
    if uses(MOST_PODS) > limit:
        raise PlanError(
            f"{MOST_PODS:,} pods have not enough {name}: each has its part in {workload.rate:,.0f} publications/s, "
            "however many nodes there are; spread channels and clients over several gateways, or publish less"
        )
    low, high = 0, 1
    while uses(high) > limit:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if uses(middle) > limit else (low, middle)
    return high


def _servers(workload: Workload, margin: Margin, pods: Pods, pod: Pod, costs: Costs) -> tuple[Servers, Course]:
    """Return the fewest servers that carry the workload and do not hold up those who come back, and how these do."""
    nodes = pods.count * pod.nodes
    least = servers.needed(workload, nodes, margin.cpu, costs.redis)
    course = _loss(workload, pods, pod, least, costs)
    for count in range(least.count + 1, servers.PARTITIONS + 1):
        if course.bound != "redis" or course.all <= margin.back:
            break
        more = servers.of(count, workload, nodes, margin.cpu, costs.redis)
        faster = _loss(workload, pods, pod, more, costs)
        if faster.accepts > WORTH * course.accepts:
            least, course = more, faster
    return least, course


def _lost(workload: Workload, pods: Pods) -> float:
    return workload.connections * (pods.count - pods.surviving) / pods.count


def _loss(workload: Workload, pods: Pods, pod: Pod, redis: Servers, costs: Costs) -> Course:
    """Return the way back of those whose pods are gone."""
    nodes = pods.surviving * pod.nodes
    told = 2 * workload.each * workload.announced  # a leave and a join, to everybody in the channel
    heard = nodes * node.present(workload.subscribers, 1 / nodes)
    own = costs.node.accept + costs.node.token + costs.node.subscribe * max(0.0, workload.each - 1)
    own += told * (workload.subscribers * costs.node.write + heard * costs.node.envelope)
    each = workload.each * workload.presence * costs.redis.presence + told * heard * costs.redis.push
    alone = max(0.0, 1 - 1 / nodes) ** max(0.0, workload.subscribers - 1)
    each += workload.each * (workload.history * costs.redis.read + alone * costs.redis.subscribe)
    each *= servers.hottest(redis.count, workload.channels)
    each += costs.redis.presence * servers.hottest(redis.count, workload.connections)
    spare = max(0.0, reconnect.SPARE - redis.busy)
    storm = Storm(
        lost=_lost(workload, pods),
        nodes=nodes,
        cpu=pods.cpu,
        accept=own,
        admitted=pod.accepts,
        redis=spare / each,
    )
    return reconnect.play(storm)


def _proxies(workload: Workload, traffic: Traffic, course: Course, costs: Costs) -> Proxies:
    passing = (traffic.clients.into + traffic.clients.out) / 8 * costs.proxy.byte
    peak = max((it.tried for it in course.moments), default=0.0)
    return Proxies(
        cores=workload.churn * costs.proxy.handshake + passing,
        cores_in_storm=(workload.churn + peak) * costs.proxy.handshake + passing,
        memory=workload.connections * costs.proxy.connection_bytes,
    )
