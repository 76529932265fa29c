"""Clients behind a bad cable: dead without a word, narrow, flapping; they miss nothing, and nothing of them stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.conftest import Standing
from tests.support.crowd_life import STANDARD, Client, Load
from tests.support.exactness import within
from tests.support.fleet import Node
from tests.support.netns import Namespace, namespace
from tests.support.scene import Scene
from tests.support.watcher import watching

pytestmark = pytest.mark.needs("netns")

MOVERS = 12  # one for each channel of the small load
KILOBITS = 256
MIB = 1 << 20
CLOSE_TIMEOUT = 2.0  # seconds that a close waits for its answer
QUIET = 1.5  # seconds without a word, and the impatient call their link dead


@dataclass(slots=True)
class Island:
    """The scene, with a second node that some clients reach over a cable of their own."""

    scene: Scene
    space: Namespace
    node: Node
    movers: list[Client]

    async def inhabited(self) -> None:
        """Wait until the movers are all there."""
        await self.scene.crowd.until(
            lambda: sum(client.ready for client in self.scene.crowd.on(self.node.url)) == MOVERS, 20.0, "the move"
        )

    async def ended(self) -> tuple[float, float]:
        """Count the connections that the node has lost or ended, and among these the ones it closed with 3012."""
        samples = await self.node.metrics()
        name = "gateway_disconnects_total"
        return samples.value(name), samples.value(name, code="3012")


@asynccontextmanager
async def island(standing: Standing, **wanted: Any) -> AsyncIterator[Island]:
    """Set the scene; nobody is behind the cable yet."""
    with namespace() as space:
        async with standing(nodes=1, churn=0.0, **wanted) as scene:
            node = scene.fleet.start("node-2", host=space.outer)
            await node.ready()
            yield Island(scene, space, node, scene.crowd.clients[-MOVERS:])


async def test_a_cable_goes_dead(standing: Standing, load: Load) -> None:
    """The node gives up who does not answer its pings, keeps nothing of them, and the others see them leave.

    With the usual pings the kernel may be first to give up: it has had no answer to publications for too long.
    """
    ping, pong, patience = (25.0, 8.0, 10.0) if load == STANDARD else (4.0, 3.0, 6.0)
    pings = {"CLIENT__PING_INTERVAL": f"{ping:g}s", "CLIENT__PONG_TIMEOUT": f"{pong:g}s"}
    async with island(standing, namespace="present", ping_delay=patience, **pings) as it:
        crowd, node = it.scene.crowd, it.node
        async with watching(it.scene.nodes[0].centrifuge_url, crowd.channels) as watcher:
            files, entries = node.files, len(await it.scene.present(node))
            crowd.move(it.movers, node.url, it.space.make_socket)
            await it.inhabited()
            assert node.files >= files + MOVERS
            assert entries == len(await it.scene.present(node))
            names = {client.name for client in it.movers}
            with it.space.silenced():
                at = time.monotonic()
                while (ended := await it.ended())[0] < MOVERS:
                    assert time.monotonic() - at < within(ping + pong + CLOSE_TIMEOUT + 1.0, otherwise=2.0), ended
                    await asyncio.sleep(0.1)
                took = time.monotonic() - at
                await crowd.until(
                    lambda: names <= {move.user for move in watcher.left(at).values()},
                    within(2.0, otherwise=5.0),
                    "the leaves",
                )
                gone = time.monotonic() - at
                freed = within(CLOSE_TIMEOUT + 1.0, otherwise=4.0)
                await crowd.until(lambda: node.files <= files, freed, "the files to be free")
                assert (await node.metrics()).value("gateway_connections") == 0
        await crowd.until(
            lambda: crowd.records.codes(at).total() == MOVERS, ping + patience + 5.0, "the clients to notice"
        )
        await crowd.back(1.0, 30.0)
        verdict = await it.scene.verdict()
        it.scene.note(f"{ended[1]:g} closed by ping, all after {took:.1f} s, seen to leave after {gone:.1f} s")
        assert entries == len(await it.scene.present(node))
    assert ended[1] == MOVERS or load == STANDARD
    assert verdict.clean, verdict


async def squeeze(it: Island, seconds: float) -> float:
    """Make the cable narrow for a while; return the most bytes that waited for one client."""
    most, until = 0.0, time.monotonic() + seconds
    with it.space.narrowed(KILOBITS):
        while time.monotonic() < until:
            most = max(most, (await it.node.metrics()).value("gateway_client_queue_max_bytes"))
            await asyncio.sleep(0.25)
    return most


async def flap(it: Island, down: float, up: float) -> int:
    """Pull the cable and put it back; every second client calls its link dead. Return how many did."""
    before = len(it.scene.crowd.records.closes)
    for client in it.movers[::2]:
        if client.link is not None and client.link.ping:
            client.link.ping = QUIET - it.scene.crowd.load.ping_delay
    with it.space.pulled():
        await asyncio.sleep(down)
    back = time.monotonic()
    await it.inhabited()
    await asyncio.sleep(back + up - time.monotonic())
    return len(it.scene.crowd.records.closes) - before


async def test_a_cable_is_narrow_and_flaps(standing: Standing, load: Load) -> None:
    """Over 256 kbit/s all comes in order and little waits; links outlive a flap or do not, and nothing is missing."""
    long = load == STANDARD
    narrow, cycles, up = (30.0, 30, 8.0) if long else (4.0, 2, 2.0)
    # The cap: who loses a link again and again waits longer each time, and is to be back before the next flap.
    async with island(standing, cap=4.0, padding=1300 if long else 700) as it:
        crowd = it.scene.crowd
        crowd.move(it.movers, it.node.url, it.space.make_socket)
        await it.inhabited()
        before = len(crowd.records.closes)
        most = await squeeze(it, narrow)
        assert before == len(crowd.records.closes)
        dead = [await flap(it, 2.0, up) for _ in range(cycles)]
        verdict = await it.scene.verdict()
    it.scene.note(f"{most / 1024:.0f} KiB waited at most; called dead: {dead}")
    assert most <= MIB
    assert all(dead), dead
    assert verdict.clean, verdict
