from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.plan import constants
from loadtests.plan.capacity import UNLIKE, Plan, between, count_pods, plan
from loadtests.plan.limits import limits
from loadtests.plan.named import NAMED, rooms
from loadtests.plan.workload import GIB, Margin, PlanError, Pod, Workload

KNOWN = constants.read()
COSTS = KNOWN.costs()
SHARES = st.floats(0, 1)
MARGIN, POD = Margin(), Pod()


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Any load that a gateway may be asked about: none so hot that each single node is full of it."""
    connections = draw(st.integers(1, 20_000_000))
    subscribers = draw(st.floats(0, min(connections, 1000)))
    return Workload(
        connections=connections,
        channels=draw(st.integers(1, 10 * connections)),
        subscribers=subscribers,
        rate=draw(st.floats(0, 10_000)),
        size=draw(st.integers(1, 65_000)),
        history=draw(SHARES),
        presence=draw(SHARES),
        announced=draw(st.floats(0, 0.001)),
        api=draw(SHARES),
        churn=draw(st.floats(0, 100)),
    )


GROWN = {
    "rate": lambda it: replace(it, rate=2 * it.rate + 1),
    "churn": lambda it: replace(it, churn=2 * it.churn + 1),
    "size": lambda it: replace(it, size=min(65_000, 2 * it.size)),
    "history": lambda it: replace(it, history=1.0),
    "connections": lambda it: replace(it, connections=2 * it.connections, channels=2 * it.channels),
}


def planned(workload: Workload, margin: Margin = MARGIN, pod: Pod = POD) -> Plan:
    """The plan by the kit's own constants."""
    return plan(workload, margin, pod, COSTS)


@pytest.mark.parametrize("what", GROWN)
@settings(max_examples=25, deadline=None)
@given(workload=workloads())
def test_more_load_never_needs_fewer_pods(what: str, workload: Workload) -> None:
    """Whatever grows, each resource asks for as many pods as before or more."""
    try:
        more = count_pods(GROWN[what](workload), Margin(), Pod(), COSTS)
    except PlanError:
        return  # it has become impossible: more than any number
    less = count_pods(workload, Margin(), Pod(), COSTS)
    assert less.count <= more.count
    assert all(less.needs[it] <= more.needs[it] for it in less.needs)


@settings(max_examples=50, deadline=None)
@given(workload=workloads(), cpu=st.floats(0.1, 0.75), lost=st.integers(0, 5))
def test_what_is_left_after_the_loss_carries_all(workload: Workload, cpu: float, lost: int) -> None:
    """With a zone and some pods gone, the fullest pod still keeps every bound."""
    pod = Pod()
    try:
        pods = count_pods(workload, Margin(cpu=cpu, lost_pods=lost), pod, COSTS)
    except PlanError:
        return
    assert pods.count % 3 == 0
    assert pods.surviving == pods.count * 2 // 3 - lost
    assert pods.cpu <= pods.cpu_after <= cpu * (1 + 1e-9)
    assert min(1.0, UNLIKE / pods.surviving) * workload.connections <= pod.connections * (1 + 1e-9)
    assert pods.memory <= pod.memory * (1 + 1e-9)
    assert pods.network.wider <= 0.8 * pod.network * (1 + 1e-9)
    assert pods.needs[pods.binding] == max(pods.needs.values())


def test_one_pod_fewer_would_not_do() -> None:
    """The plan is the least there is: one survivor fewer breaks a bound."""
    workload = rooms(5_000_000)
    pods = planned(workload, Margin(zones=1, lost_zones=0)).pods
    assert pods.binding == "connections"
    assert UNLIKE * workload.connections / (pods.count - 1) > 50_000


@pytest.mark.parametrize("name", NAMED)
def test_twice_of_everything_needs_twice_of_everything(name: str) -> None:
    """Side by side, two of the same large load need twice the pods, bytes and writes, but for whole numbers."""
    once = planned(NAMED[name](4_000_000))
    workload = NAMED[name](8_000_000) if name == "live" else once.workload.times(2)
    twice = planned(workload)
    assert twice.pods.count == pytest.approx(2 * once.pods.count, rel=0.02)
    assert twice.workload.deliveries == pytest.approx(2 * once.workload.deliveries)
    assert twice.traffic.clients.out == pytest.approx(2 * once.traffic.clients.out, rel=0.02)
    assert twice.proxies.memory == pytest.approx(2 * once.proxies.memory)
    assert twice.tokens == pytest.approx(2 * once.tokens)
    assert twice.servers.memory == pytest.approx(2 * once.servers.memory, rel=0.02)
    assert twice.servers.operations.presence == pytest.approx(2 * once.servers.operations.presence)
    assert twice.lost == pytest.approx(2 * once.lost, rel=0.02)


def test_units_by_hand() -> None:
    """One plan, counted by hand: cores from microseconds, memory from bytes."""
    quiet = Workload(connections=100_000, channels=100_000, subscribers=1, rate=0, churn=0)
    pods = planned(quiet, Margin(zones=1, lost_zones=0, cpu=0.6), Pod(connections=1_000_000, memory=100 * GIB)).pods
    assert pods.count == 1
    assert pods.cpu == pytest.approx(5e-3 + 100_000 * 3e-6)
    per_connection = 5048 + 6144 + 1024
    assert pods.memory == pytest.approx((94_371_840 + 100_000 * per_connection) / 0.8, rel=1e-4)


def test_several_nodes_share_a_pod() -> None:
    """A pod of four nodes does the CPU of four, and a quarter of the pods is needed where CPU decides."""
    workload = NAMED["live"](10_000_000)
    margin = Margin(zones=1, lost_zones=0)
    one = planned(workload, margin, Pod(connections=10**7, memory=100 * GIB, network=1e12)).pods
    four = planned(workload, margin, Pod(connections=10**7, memory=100 * GIB, network=1e12, nodes=4)).pods
    assert one.binding == four.binding == "cpu"
    assert four.count == pytest.approx(one.count / 4, abs=1)


def test_a_channel_too_hot_for_any_node() -> None:
    """A channel that each single node must take in and cannot is refused, with what to do."""
    with pytest.raises(PlanError, match=r"100,000 pods have not enough cpu.*several gateways"):
        planned(Workload(connections=10**7, channels=1, subscribers=10**7, rate=1_000_000))


def test_servers_are_added_for_those_who_come_back() -> None:
    """Where Redis would hold up the way back, there are more servers than the load itself needs."""
    workload = NAMED["live"](10_000_000)
    patient = planned(workload, Margin(back=3600))
    assert patient.servers.count == 1
    assert patient.course.bound == "redis"
    hurried = planned(workload, Margin(back=60))
    assert hurried.servers.count > 1
    assert hurried.course.all <= 60 < patient.course.all


def test_nobody_is_lost() -> None:
    """Without a loss there is no storm."""
    calm = planned(rooms(10_000), Margin(zones=1, lost_zones=0))
    assert calm.lost == 0
    assert calm.course.all == 0
    assert calm.pods.cpu == calm.pods.cpu_after


def test_a_range_holds_the_middle() -> None:
    """Low constants need no more pods than the middle, high ones no fewer; what cannot be done then is None."""
    found = between(rooms(1_000_000), Margin(), Pod(), KNOWN)
    assert found.high is not None
    assert found.low.pods.count <= found.value.pods.count <= found.high.pods.count
    hot = Workload(connections=100_000, channels=1, subscribers=100_000, rate=30_000)
    assert between(hot, Margin(), Pod(), KNOWN).high is None


def test_limits_are_in_the_order_of_their_nearness() -> None:
    """The nearest limit comes first, and each has a fix."""
    found = limits(planned(NAMED["live"](10_000_000)), COSTS)
    assert [it.share for it in found] == sorted((it.share for it in found), reverse=True)
    assert all(it.fix and it.limit > 0 for it in found)


def test_what_breaks_first_depends_on_the_workload() -> None:
    """A hot channel with history breaks on its server, very many channels a connection on their number."""
    hot = Workload(connections=10_000, channels=1, subscribers=100, rate=40_000, history=1)
    assert "one channel on its server" in [it.name for it in limits(planned(hot), COSTS)[:2] if it.share > 1]
    many = Workload(connections=10_000, channels=10_000, subscribers=300, rate=1)
    assert limits(planned(many), COSTS)[0].name == "channels of a connection"
    slow = planned(rooms(100_000), pod=Pod(accepts=1))
    assert limits(slow, COSTS)[0].name == "the way back after a loss (admission)"
    full = planned(Workload(connections=10**6, channels=10**6, subscribers=1, rate=5e6, history=1), Margin(back=3600))
    broken = {it.name: it.share for it in limits(full, COSTS)}
    assert broken["servers of Redis"] > 1
    assert not full.servers.enough


def test_nobody_comes_back_is_a_limit_too() -> None:
    """A storm that never ends is far beyond its limit, and a number all the same."""
    stuck = planned(rooms(3_000_000), Margin(cpu=0.75), Pod(accepts=0.001))
    back = next(it for it in limits(stuck, COSTS) if it.name.startswith("the way back"))
    assert back.share > 100
