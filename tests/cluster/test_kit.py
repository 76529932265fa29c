"""The kit's own tests: a quiet run is clean, a broken gateway is found out, and every injection does what it says."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.cluster.conftest import Standing
from tests.support import withholding
from tests.support.crowd_life import Load
from tests.support.faultproxy import PUBSUB, Rule, faultproxy, publications
from tests.support.netns import namespace
from tests.support.valkey import Valkey
from tests.support.withholding import PUBLICATIONS as EVERY


async def test_a_quiet_run_is_clean(standing: Standing, load: Load) -> None:
    """Without a fault every client gets everything once and in order, those that come and go too."""
    async with standing(churn=0.2) as scene:
        wanted = 4 * load.publishes * load.clients / load.channels  # deliveries of four seconds
        await scene.crowd.until(lambda: scene.crowd.records.deliveries() > wanted, 30.0, "some deliveries")
        verdict = await scene.verdict()
    assert verdict.clean, verdict
    assert verdict.acknowledged > 2 * load.publishes
    assert verdict.refused + verdict.doubtful == 0
    assert load.clients == verdict.logs
    assert not scene.crowd.records.closes


async def test_a_gateway_that_loses_publications_is_found_out(standing: Standing) -> None:
    """Nodes that swallow a publication now and then do not get past the oracle, which names who missed what."""
    async with standing(program=withholding.program("publications"), nodes=1, churn=0.0) as scene:
        await scene.crowd.until(
            lambda: scene.crowd.publishers[0].number > withholding.PUBLICATIONS, 30.0, "the first loss"
        )
        verdict = await scene.verdict(within=3.0)
    assert not verdict.clean
    assert verdict.count("silent gap", "silent tail") >= len(scene.crowd.clients)
    assert re.search(rf"silent (gap|tail): client-\d+ in load:\d+, offset {EVERY}", str(verdict)), verdict


async def test_clients_of_a_killed_node_come_back_and_recover(standing: Standing) -> None:
    """A death is seen as 1006 by the clients of that node, and each of them returns without a loss."""
    async with standing(nodes=2, cap=2.0) as scene:
        node = scene.nodes[0]
        victims = len(scene.crowd.on(node.url))
        at = await scene.kill(node)
        scene.crowd.nodes.remove(node.url)
        await scene.crowd.back(1.0, 15.0)
        assert victims <= scene.crowd.records.codes(since=at)[1006]
        await scene.restart(node)
        scene.crowd.nodes.append(node.url)
        verdict = await scene.verdict()
    assert verdict.clean, verdict
    assert scene.crowd.records.returns
    assert not node.alive


async def test_a_drained_node_says_how_it_ended(standing: Standing) -> None:
    """SIGTERM ends a node with code 0; its clients are told where to go, and go there."""
    async with standing(nodes=2, cap=2.0, SHUTDOWN__WINDOW="2s") as scene:
        ended = await scene.nodes[1].terminate(within=30.0)
        scene.crowd.nodes.remove(scene.nodes[1].url)
        await scene.crowd.back(1.0, 15.0)
        verdict = await scene.verdict()
    assert ended.code == 0
    assert verdict.clean, verdict
    assert {3001} == set(scene.crowd.records.codes())


async def test_a_valkey_comes_back_on_its_port(standing: Standing) -> None:
    """While the Valkey is away nothing is acknowledged; when it is back, empty, publications flow again."""
    async with standing(nodes=2, publish_timeout=3.0) as scene:
        at = await scene.kill_valkey()
        failed = scene.crowd.records.outcomes
        await scene.crowd.until(lambda: failed(at)["doubtful"] + failed(at)["refused"] > 5, 15.0, "failures")
        assert scene.crowd.records.outcomes(at)["acknowledged"] == 0
        await scene.restart_valkey()
        await scene.moving()
        await scene.crowd.hush()
    assert not scene.crowd.records.failures


async def test_idempotent_publishers_repeat_until_they_are_heard(standing: Standing) -> None:
    """A stalled Valkey delays them; every message stands in the stream once though it was sent more than once."""
    async with standing(nodes=2, retry=True, publish_timeout=1.0) as scene:
        async with scene.stalled(scene.valkey):
            failed = scene.crowd.records.outcomes
            await scene.crowd.until(lambda: failed()["doubtful"] > 5, 15.0, "timeouts")
        verdict = await scene.verdict()
    assert verdict.clean, verdict
    assert verdict.doubtful == verdict.refused == 0


async def test_clients_may_publish_themselves(standing: Standing) -> None:
    """The other way to publish: a client's command, acknowledged without a position."""
    async with standing(nodes=1, by_command=True) as scene:
        await scene.crowd.until(lambda: scene.crowd.records.deliveries() > 200, 20.0, "deliveries")
        verdict = await scene.verdict()
    assert verdict.clean, verdict
    assert verdict.acknowledged > 10


async def test_a_proxy_between_nodes_and_valkey_harms_one_kind_of_link(standing: Standing, valkey: Valkey) -> None:
    """Pub/sub links stall while commands go on; what they carried comes when they go on, or by repair."""
    async with (
        faultproxy(valkey.port) as proxy,
        standing(nodes=2, engine_urls=[proxy.url], ENGINE__PREFIX="kit-proxy") as scene,
    ):
        assert len(scene.nodes) == proxy.count(PUBSUB)
        with proxy.stalled("down", only=PUBSUB):
            before = scene.crowd.records.outcomes()["acknowledged"]
            await scene.crowd.until(
                lambda: scene.crowd.records.outcomes()["acknowledged"] > before + 10, 30.0, "publishes"
            )
        await scene.moving()
        with proxy.rule(Rule(way="down", only=PUBSUB, double=publications("load:"))):
            await scene.moving()
        verdict = await scene.verdict()
    assert verdict.clean, verdict


async def test_a_node_is_looked_into(standing: Standing) -> None:
    """Metrics, memory, CPU and files of a node can be read, and a stall is one."""
    async with standing(nodes=1) as scene:
        (node,) = scene.nodes
        samples = await node.metrics()
        assert samples.value("gateway_connections") >= len(scene.crowd.on(node.url)) > 0
        assert samples.value("gateway_handshakes_total", result="ok") > 0
        assert samples.value("gateway_handshakes_total", result="origin") == 0
        assert 20 << 20 < node.resident < 1 << 30
        assert node.cpu > 0
        assert node.files > len(scene.crowd.on(node.url))
        async with scene.stalled(node):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(node.metrics(), 0.5)
        assert await node.is_ready()


@pytest.mark.needs("netns")
async def test_a_cable_is_pulled_silenced_and_narrowed(standing: Standing) -> None:
    """Clients behind a cable lose what comes while it is dead, notice nothing at once, and get it all in the end."""
    with namespace() as space:
        async with standing(nodes=1, padding=200) as scene:
            node = scene.fleet.start("node-2", host=space.outer)
            await node.ready()
            movers = scene.crowd.clients[-12:]
            scene.crowd.move(movers, node.url, space.make_socket)
            await scene.crowd.until(lambda: len(scene.crowd.on(node.url)) == len(movers), 30.0, "the move")
            before = len(scene.crowd.records.closes)
            with space.pulled():
                await asyncio.sleep(0.5)  # the fault's own length
            with space.silenced(outwards=False):
                await asyncio.sleep(0.5)
            with space.narrowed(64):
                await scene.moving()
                await asyncio.sleep(1.0)
            verdict = await scene.verdict()
            assert len(scene.crowd.records.closes) == before
    assert verdict.clean, verdict


async def test_a_condition_that_never_holds_fails_with_the_figures(standing: Standing) -> None:
    """Whoever waits in vain reads who was there."""
    async with standing(nodes=1, clients=4) as scene:
        with pytest.raises(AssertionError, match=r"never did not come true in 0\.1 s: 4 connected, 4 ready of 4"):
            await scene.crowd.until(lambda: False, 0.1, "never")
