"""Nodes that are replaced in good order, under load: nobody is cut off, nobody misses anything, nobody is pushed."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.cluster.conftest import Standing
from tests.support.crowd_life import STANDARD, Load
from tests.support.exactness import within
from tests.support.fleet import Node
from tests.support.newcomers import newcomers
from tests.support.scene import Scene

DELAY = 5.0  # seconds until newcomers are refused
NOTICED = 0.5  # seconds until the load balancer of the test knows
GRACE = 25.0  # seconds from the hook to the end: window and delay come on top
GAP = 2.0  # seconds that a client may be without service


async def hook(node: Node, key: str, patience: float) -> float:
    """Do what a preStop hook does: drain and wait; return the seconds that took."""
    start = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=patience) as client:
        answer = await client.post(f"{node.url}/api/drain", json={"wait": True}, headers={"X-API-Key": key})
    assert answer.is_success, answer.text
    return time.monotonic() - start


async def balance(scene: Scene, node: Node) -> None:
    """Do what a load balancer does with a node that is not ready: see it late, and until then send it somebody."""
    assert not await node.is_ready(), f"{node.name} calls itself ready while it drains"
    await asyncio.sleep(NOTICED)
    with newcomers(node.url) as late:
        assert await late.knock() == 101, "a newcomer was turned away before the delay was over"
    scene.crowd.nodes.remove(node.url)
    assert not scene.crowd.records.closes, "somebody was moved before the delay was over"


async def test_a_node_is_emptied_by_its_hook_and_ends(standing: Standing, load: Load) -> None:
    """A whole crowd is moved at an even pace with 3001, nobody meets 1006 or 1012, and SIGTERM ends the empty node."""
    window, clients = (30.0, 2000) if load == STANDARD else (3.0, load.clients)
    settings = {"SHUTDOWN__WINDOW": f"{window:g}s", "SHUTDOWN__DELAY": f"{DELAY:g}s"}
    async with standing(nodes=1, clients=clients, churn=0.0, token_seconds=600, **settings) as scene:
        crowd, old = scene.crowd, scene.nodes[0]
        new = scene.fleet.start("node-2")
        await new.ready()
        crowd.nodes.append(new.url)
        assert clients == len(crowd.on(old.url))
        draining = asyncio.create_task(hook(old, crowd.api.key, window + DELAY + GRACE))
        await crowd.until(lambda: "node.draining" in old.log, 30.0, "the drain")
        await balance(scene, old)
        took = await draining
        ended = await old.terminate(within(5.0, otherwise=4.0))
        await crowd.back(1.0, 10.0)
        verdict = await scene.verdict()
    codes, busiest = crowd.records.codes(), crowd.records.busiest_second(3001)
    gaps = sorted(it.took for it in crowd.records.returns)
    scene.note(
        f"hook {took:.1f} s, end {ended.seconds:.2f} s, closes {codes}, busiest {busiest}, worst gap {gaps[-1]:.2f} s"
    )
    assert {3001: clients} == codes
    assert busiest <= within(2.0, otherwise=1.25) * clients / window
    assert ended.code == 0
    assert window / 2 < took < window + DELAY + GRACE
    assert gaps[-1] <= within(GAP + 1.0, otherwise=3.0)  # the clients wait for up to half a second before they try
    assert verdict.clean, verdict


async def test_a_rolling_update_moves_everybody_once_or_twice(standing: Standing, load: Load) -> None:
    """Three nodes replaced one after the other, each by a new one that is ready first: two moves a client at most."""
    window = 30.0 if load == STANDARD else 2.0
    async with standing(churn=0.0, SHUTDOWN__WINDOW=f"{window:g}s") as scene:
        crowd = scene.crowd
        for number, old in enumerate(tuple(scene.nodes), 4):
            new = scene.fleet.start(f"node-{number}")
            await new.ready()
            crowd.nodes.append(new.url)
            crowd.nodes.remove(old.url)
            assert crowd.on(old.url), f"nobody was on {old.name}"
            ended = await old.terminate(within=window + GRACE)
            assert ended.code == 0
        await crowd.back(1.0, 10.0)
        verdict = await scene.verdict()
    codes = crowd.records.codes()
    scene.note(f"moves per client {codes.total() / load.clients:.2f}")
    assert {3001} == set(codes)
    assert codes.total() <= 2.0 * load.clients
    assert verdict.clean, verdict
