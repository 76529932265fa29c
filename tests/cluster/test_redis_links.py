"""The links between nodes and their server fall silent, are cut, repeat themselves, carry rubbish or are slow."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from loadtests.oracle import Verdict
from tests.cluster.witness import Meters, clean, guests, operator, told, until, wanted
from tests.support import scene as scenes
from tests.support.crowd_life import STANDARD, Load
from tests.support.exactness import within
from tests.support.faultproxy import PUBSUB, FaultProxy, Rule, faultproxy, publications
from tests.support.fleet import Node
from tests.support.scene import Scene
from tests.support.valkey import Valkey

DETECTED = within(5.0, otherwise=2.0)  # seconds until a link that carries nothing is given up
SLOWER = within(0.7, otherwise=3.0)  # seconds more for a delivery when every message takes 0.2 s, and a jitter of 0.1 s
BULK = "fleeting:bulk"  # a channel without history that only some listen to
PIECE = "x" * 65536
LIMIT = 1 << 20  # bytes that the server keeps for a node that does not read
STALL = 3.0  # seconds
LONGEST = 30.0  # ... on a machine that publishes slowly

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(slots=True)
class Wired:
    """A scene whose first two nodes reach their server past a proxy; the third does not."""

    scene: Scene
    proxy: FaultProxy

    @property
    def behind(self) -> list[Node]:
        """The nodes behind the proxy."""
        return self.scene.nodes[:2]


@pytest_asyncio.fixture(name="wired", scope="module", loop_scope="module")
async def _wired(tmp_path_factory: pytest.TempPathFactory, load: Load) -> AsyncIterator[Wired]:
    folder = tmp_path_factory.mktemp("links")
    valkey = Valkey(folder)
    # A node that wakes hands out in one go what the kernel has kept for it, which may be more than a client may owe.
    room = str(64 << 20)
    async with (
        faultproxy(valkey.port) as proxy,
        scenes.standing(
            folder,
            load,
            valkey=valkey,
            engine_urls=[proxy.url, proxy.url, valkey.url],
            CLIENT__QUEUE_MAX_SIZE=room,
            ENGINE__COMMAND_TIMEOUT="5s",  # the proxy is this process, which may be kept waiting
        ) as scene,
    ):
        yield Wired(scene, proxy)


@pytest.fixture(name="scene")
def _scene(wired: Wired) -> Scene:
    return wired.scene


async def _harmless(scene: Scene, meters: Meters, since: float, *, doubtful: int = 0) -> Verdict:
    """Everybody has everything, nobody was cut off, told, or even bothered with a lost command link.

    `doubtful`: so many publications may have been in doubt.
    """
    verdict = await clean(scene)
    assert not scene.crowd.records.codes(since), scene.crowd.records.codes(since)
    assert not verdict.tells, "what history holds is mended, and nobody is told"
    outcomes = scene.crowd.records.outcomes(since)
    assert outcomes["refused"] == 0
    assert outcomes["doubtful"] <= doubtful, outcomes
    assert [0] * len(meters.nodes) == await meters.rises("gateway_redis_reconnects_total", role="command")
    return verdict


def _given_up(node: Node) -> float:
    """Return the Unix time at which a node last gave up a link that carried nothing, by its own log."""
    line = [it for it in node.log.splitlines() if "redis.link_down" in it and "carries nothing" in it][-1]
    return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()


@pytest.mark.parametrize("how", ["half-open", "one way"])
async def test_a_link_that_carries_nothing_is_found_out(wired: Wired, how: Literal["half-open", "one way"]) -> None:
    """A pub/sub link that stands and is dead, in both ways or in ours alone: the probe sees it, repair mends it."""
    scene, start = wired.scene, time.monotonic()
    await scene.moving()
    meters = await Meters.begin(wired.behind)
    rules = [Rule(way="down", only=PUBSUB, pipes=wired.proxy.chosen(PUBSUB), swallow=True)]
    if how == "half-open":
        rules.append(Rule(way="up", only=PUBSUB, pipes=wired.proxy.chosen(PUBSUB), swallow=True))

    async def rebuilt() -> bool:
        return all(it >= 1 for it in await meters.rises("gateway_redis_reconnects_total", role="pubsub"))

    began = time.time()
    with wired.proxy.rule(*rules):
        await until(rebuilt, 2 * DETECTED, "another pub/sub link")
    took = max(_given_up(node) for node in wired.behind) - began
    told(f"{how}: given up after {took:.1f} s")
    assert 0 < took <= DETECTED
    assert [1, 1] == await meters.rises("gateway_redis_pubsub_probe_timeouts_total")
    await scene.moving()
    await _harmless(scene, meters, start)


async def test_pubsub_links_that_are_killed_again_and_again(scene: Scene, load: Load) -> None:
    """Each kill costs each node one reconnect, and nobody a publication."""
    kills, start = 30 if load is STANDARD else 5, time.monotonic()
    await scene.moving()
    meters = await Meters.begin(scene.nodes)
    async with operator(scene.valkey) as redis:

        async def all_stand() -> bool:
            return len(await redis.client_list(_type="pubsub")) == len(scene.nodes)

        for _ in range(kills):
            assert await redis.client_kill_filter(_type="pubsub", skipme=True) == len(scene.nodes)
            await asyncio.sleep(2.0)  # the rhythm of the fault
            await until(all_stand, DETECTED, "all links to stand again")

    async def all_counted() -> bool:
        return [kills] * len(scene.nodes) == await meters.rises("gateway_redis_reconnects_total", role="pubsub")

    await until(all_counted, DETECTED, "each node to have counted its links")
    assert min(await meters.rises("gateway_gaps_detected_total", where="link")) > 0
    await _harmless(scene, meters, start)


async def test_what_comes_twice_is_delivered_once(wired: Wired) -> None:
    """Every publication reaches two of the nodes twice, and no client."""
    scene, start = wired.scene, time.monotonic()
    await scene.moving()
    meters = await Meters.begin(wired.behind)
    double = Rule(way="down", only=PUBSUB, double=publications("load:"))
    with wired.proxy.rule(double):
        await scene.crowd.until(lambda: double.hits > 100, 20.0, "publications to be doubled")
    verdict = await _harmless(scene, meters, start)
    assert min(await meters.rises("gateway_duplicates_dropped_total")) > 20
    assert verdict.repeats == 0


async def test_rubbish_in_a_channel_is_counted_and_dropped(scene: Scene) -> None:
    """Whatever somebody else publishes in our channels harms nobody and reaches nobody."""
    await scene.moving()
    meters, start = await Meters.begin(scene.nodes), time.monotonic()
    channel = next(it for it, nodes in wanted(scene).items() if nodes == len(scene.nodes))
    alien = [  # no head, half a head, no text, no offset, another version, no blob of ours, too large an offset
        b"",
        b"hello",
        b"1:2",
        b"\xff" * 100,
        b"1:-1:e:\x90",
        b"9:1:e:\x90",
        b"1:1:e:\xc1",
        b"1:" + b"9" * 40 + b":e:",
    ]
    async with operator(scene.valkey) as redis:
        for payload in alien:
            assert await redis.publish(f"gateway.client.{{53t}}.{channel}", payload) == len(scene.nodes)
    await scene.moving()
    assert [len(alien)] * len(scene.nodes) == await meters.rises("gateway_redis_foreign_payloads_total")
    assert [0] * len(scene.nodes) == await meters.rises("gateway_errors_total")
    await _harmless(scene, meters, start)


async def test_a_slow_way_to_the_server_costs_time_alone(wired: Wired) -> None:
    """A fifth of a second more, with jitter, each way: deliveries take longer by that, and nothing is lost."""
    scene, start = wired.scene, time.monotonic()
    await scene.crowd.until(lambda: scene.crowd.records.deliveries(start) > 200, 20.0, "quiet deliveries")
    quiet = scene.crowd.records.latency(0.99, start)
    meters = await Meters.begin(wired.behind)
    delays = [Rule(way=way, delay=0.2, jitter=0.1) for way in ("up", "down")]
    with wired.proxy.rule(*delays):
        await asyncio.sleep(1.0)
        since = time.monotonic()
        await scene.crowd.until(lambda: scene.crowd.records.deliveries(since) > 500, 20.0, "slow deliveries")
        slow = scene.crowd.records.latency(0.99, since)
    told(f"p99 {quiet * 1000:.0f} ms, slowed down {slow * 1000:.0f} ms")
    assert 0.2 < slow <= quiet + SLOWER
    assert [0, 0] == await meters.rises("gateway_redis_reconnects_total")
    await _harmless(scene, meters, start)


async def test_a_node_that_does_not_read_is_dropped_and_recovers(scene: Scene) -> None:
    """A node stands still while the server has megabytes for it: its link is dropped, and what it lost is mended."""
    stalled, publisher = scene.nodes[2], scene.nodes[0]
    await scene.moving()
    meters, start = await Meters.begin([stalled]), time.monotonic()
    async with guests([stalled], [BULK]), operator(scene.valkey) as redis:
        await redis.config_set("client-output-buffer-limit", f"pubsub {LIMIT} {LIMIT // 2} 5")
        before, least = await _dropped(redis), await _memory(redis)
        most = 0
        async with scene.stalled(stalled):
            while time.monotonic() - start < STALL or await _dropped(redis) == before:
                assert time.monotonic() - start < LONGEST, "megabytes wait, and the server keeps the link"
                body = {"channel": BULK, "data": PIECE}
                assert (200, {"result": {}}) == await scene.crowd.api.call(publisher.url, "publish", body)
                most = max(most, await _memory(redis) - least)
        assert await _dropped(redis) == before + 1
        await redis.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")

        async def rebuilt() -> bool:
            return [1] == await meters.rises("gateway_redis_reconnects_total", role="pubsub")

        await until(rebuilt, DETECTED, "another pub/sub link")
    told(f"the server took {most / 2**20:.2f} MiB more at most")
    assert most <= LIMIT * len(scene.nodes) * 1.1
    await scene.moving()
    # What the stalled node had asked its server before is late when it wakes, whatever has arrived by then.
    await _harmless(scene, meters, start, doubtful=len(scene.crowd.channels))


async def _dropped(redis: Redis) -> int:
    return int((await redis.info("stats"))["client_output_buffer_limit_disconnections"])


async def _memory(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])
