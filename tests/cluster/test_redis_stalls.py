"""The server of all nodes stands still, is slow, or is busy with itself; its links stand all the while."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio
from redis.exceptions import ResponseError

from tests.cluster.witness import (
    LOBBY,
    WITH_LOBBY,
    Guest,
    Meters,
    clean,
    gauges,
    guests,
    lagged,
    operator,
    present,
    told,
    until,
)
from tests.support import scene as scenes
from tests.support.crowd_life import STANDARD, Load
from tests.support.crowd_records import percentile
from tests.support.exactness import within
from tests.support.fleet import Node
from tests.support.scene import Scene

SHORT = 3.0  # seconds
OPENED = 2.0  # ... until nobody waits for the server any more
FAST = within(0.1, otherwise=10.0)  # ... for an error then
BACK = within(5.0, otherwise=2.0)  # ... from the moment it goes on until all is well

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(name="scene", scope="module", loop_scope="module")
async def _scene(tmp_path_factory: pytest.TempPathFactory, load: Load) -> AsyncIterator[Scene]:
    """Set a scene whose publishers repeat what was not acknowledged, with idempotency keys."""
    folder = tmp_path_factory.mktemp("stalls")
    async with scenes.standing(folder, _repeating(load), CHANNEL__NAMESPACES=WITH_LOBBY) as scene:
        yield scene


def _repeating(load: Load) -> Load:
    return dataclasses.replace(load, retry=True)


@pytest_asyncio.fixture(name="sitters", scope="module", loop_scope="module")
async def _sitters(scene: Scene) -> AsyncIterator[list[Guest]]:
    """Seat one guest on each node."""
    async with guests(scene.nodes, [LOBBY]) as people:
        yield people


async def test_a_short_stall_doubles_nothing(scene: Scene) -> None:
    """Three seconds: no link is given up, nobody is cut off, and what was sent twice is published once."""
    await scene.moving()
    meters, start = await Meters.begin(scene.nodes), time.monotonic()
    async with scene.stalled(scene.valkey):
        await asyncio.sleep(SHORT)
    await scene.moving(BACK)
    verdict = await clean(scene)
    outcomes = scene.crowd.records.outcomes(start)
    assert outcomes["doubtful"] > 0, f"no publication was in doubt: {outcomes}"
    assert verdict.doubtful == verdict.refused == verdict.repeats == 0
    assert not scene.crowd.records.codes(start)
    for role in ("command", "pubsub"):
        assert [0] * len(scene.nodes) == await meters.rises("gateway_redis_reconnects_total", role=role)
    assert not verdict.tells, "a stall loses nothing"


async def test_a_long_stall_is_met_with_fast_errors(scene: Scene, sitters: list[Guest], load: Load) -> None:
    """Nodes stop asking, answer at once with errors, keep their clients, and announce nobody as gone."""
    crowd, nodes, stall = scene.crowd, scene.nodes, 30.0 if load is STANDARD else 12.0
    goers = sum(it.churns for it in crowd.clients)
    await scene.moving()
    meters, start = await Meters.begin(nodes), time.monotonic()
    entered = [_times_entered(node) for node in nodes]
    async with scene.stalled(scene.valkey):
        await asyncio.sleep(OPENED)
        opened = time.monotonic()
        await asyncio.sleep(start + stall - opened)
        late = await lagged(meters, load)
        assert [True] * len(nodes) == [await node.is_ready() for node in nodes]
    ended = time.monotonic()
    errors = [it.took for it in crowd.records.attempts if opened <= it.at < ended - FAST and it.outcome == "doubtful"]
    moved = await scene.moving(BACK)
    told(f"{stall:g} s: {len(errors)} errors, p99 {percentile(errors, 0.99):.3f} s; back {moved:.2f} s")
    await clean(scene)
    # The leases ran out meanwhile, which nobody outside is told: each node enters its presence anew, over new links.
    await crowd.until(
        lambda: all(_times_entered(node) > before for node, before in zip(nodes, entered, strict=True)),
        BACK,
        "presence",
    )
    await until(partial(_all_up, scene), BACK, "all links")
    assert len(errors) > 20
    assert percentile(errors, 0.99) <= FAST
    assert not late
    # Who came meanwhile to a channel that nobody listened to may have been sent away; who was here stays.
    assert crowd.records.codes(start).keys() <= {3004}, crowd.records.codes(start)
    assert sum(crowd.records.codes(start).values()) <= goers
    assert [len(sitters)] * len(nodes) == await present(scene)
    assert [0] * len(sitters) == [it.leaves for it in sitters], "somebody was announced as gone"
    assert [0] * len(nodes) == await meters.rises("gateway_presence_expired_total")


async def _all_up(scene: Scene) -> bool:
    return [2.0] * len(scene.nodes) == await gauges(scene.nodes, "gateway_redis_up")


def _times_entered(node: Node) -> int:
    return node.log.count("redis.presence_entered")


async def test_a_script_without_end_is_waited_for(scene: Scene) -> None:
    """Whoever asks a busy server is told at once that it is; no link is built again, and nobody is cut off."""
    await scene.moving()
    meters, start = await Meters.begin(scene.nodes), time.monotonic()
    async with operator(scene.valkey) as victim, operator(scene.valkey) as redis:
        await redis.config_set("busy-reply-threshold", 50)
        endless = asyncio.ensure_future(victim.eval("while true do end", 0))
        await scene.crowd.until(lambda: scene.crowd.records.outcomes(start)["doubtful"] > 20, 30.0, "errors")
        await asyncio.sleep(start + SHORT - time.monotonic())
        await redis.script_kill()
        with pytest.raises(ResponseError, match="killed"):
            await endless
    await scene.moving(BACK)
    await clean(scene)
    assert scene.crowd.records.publish_time(0.99, start) <= within(OPENED, otherwise=2.0)
    assert sum(await meters.rises("gateway_redis_errors_total", kind="busy")) > 0
    assert [0] * len(scene.nodes) == await meters.rises("gateway_redis_reconnects_total")
    assert not scene.crowd.records.codes(start)
