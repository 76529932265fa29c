"""Nodes that stand still, for a moment or for long, and go on as if nothing had been: they may mislead nobody."""

from __future__ import annotations

import asyncio
import time

from tests.cluster.conftest import Standing
from tests.support.crowd_client import CUT
from tests.support.crowd_life import STANDARD, Load
from tests.support.exactness import within
from tests.support.fleet import Node
from tests.support.scene import Scene
from tests.support.watcher import watching

MOMENT = 2.0  # seconds
LAG = "gateway_event_loop_lag_seconds"


async def stand_still(scene: Scene, node: Node) -> None:
    """Stop a node for a moment: its clients and its metrics notice, and nobody goes."""
    before = (await node.metrics()).value(f"{LAG}_sum")
    closes = len(scene.crowd.records.closes)
    async with scene.stalled(node):
        await asyncio.sleep(MOMENT)
    await scene.moving()
    samples = await node.metrics()
    assert samples.value(f"{LAG}_count") - samples.value(f"{LAG}_bucket", le="1.0") >= 1, "no lag beyond a second"
    assert samples.value(f"{LAG}_sum") - before >= 1.5
    assert closes == len(scene.crowd.records.closes)


def be_patient(scene: Scene, node: Node) -> set[str]:
    """Let every second client of a node wait for pings for ever; return who they are."""
    patient = scene.crowd.on(node.url)[::2]
    for client in patient:
        assert client.link is not None
        client.link.ping = 0.0
    return {client.name for client in patient}


def lose_links(scene: Scene, node: Node) -> None:
    """Let the Valkey end the links of a node, as it does with one that does not read."""
    ended = [
        scene.valkey.command("CLIENT", "KILL", "ADDR", f"127.0.0.1:{port}") for port in node.ports_to(scene.valkey.port)
    ]
    assert len(ended) >= 2, f"{node.name} had no links to the Valkey"


async def test_nodes_that_stood_still_do_not_serve_what_is_old(standing: Standing, load: Load) -> None:
    """Two nodes miss their leases, one its links too: who waited for them gets everything, in order, and is present.

    Before that, one of them stands still for a moment only, and nobody notices but its metrics.
    """
    long = load == STANDARD
    stall, away, ping, pong = (60.0, 45.0, "25s", "8s") if long else (20.0, within(16.0, otherwise=2.0), "8s", "3s")
    pings = {"CLIENT__PING_INTERVAL": ping, "CLIENT__PONG_TIMEOUT": pong}
    async with standing(namespace="present", churn=0.0, ping_delay=10.0 if long else 4.0, **pings) as scene:
        crowd, (witness, dropped, kept) = scene.crowd, scene.nodes
        await stand_still(scene, kept)
        async with watching(witness.centrifuge_url, crowd.channels) as watcher:
            patient = be_patient(scene, dropped) | be_patient(scene, kept)
            assert patient, "nobody waits for the stalled nodes"
            crowd.nodes[:] = [witness.url]  # as a load balancer that asks for their health
            async with scene.stalled(dropped), scene.stalled(kept):
                at = time.monotonic()
                lose_links(scene, dropped)
                await crowd.until(lambda: len(crowd.on(witness.url)) + len(patient) == load.clients, away, "the move")
                moved = time.monotonic() - at
                await asyncio.sleep(at + stall - time.monotonic())
                ghosts = {it.user for it in watcher.left(at).values()}
            await crowd.until(lambda: crowd.records.newest_sent > at + stall, 30.0, "a delivery")
            for node in (dropped, kept):
                await node.ready(within(10.0, otherwise=3.0))
            crowd.nodes.extend((dropped.url, kept.url))
            verdict = await scene.verdict()
            present = sorted((await scene.present(kept)).values())
        stayed = {client.name for client in [*crowd.on(dropped.url), *crowd.on(kept.url)]}
    scene.note(f"{len(patient)} waited, the others were away after {moved:.1f} s, {len(ghosts)} were seen to leave")
    assert patient <= ghosts, "the leases did not run out: nothing is proven"
    assert patient <= stayed, "those who waited lost their connections"
    assert sorted(client.name for client in crowd.clients) == present
    assert {CUT} == set(crowd.records.codes())
    assert verdict.clean, verdict
