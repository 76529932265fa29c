"""The primary that sentinels watch is replaced, killed, stopped or demoted under load; its last writes may be lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import pytest
import pytest_asyncio

from tests.cluster.takeover import LOST, by_node, crewed, left, lose, ours, outage, publish, silence, some_away
from tests.cluster.witness import caught_up, clean, gauges, tells, told, told_since, until
from tests.support.crowd_life import Load
from tests.support.exactness import within
from tests.support.scene import Scene
from tests.support.sentinel import SERVICE, Watched
from tests.support.valkey import Valkey

DOWN_AFTER = 2.0  # seconds
PAUSE = within(1.0, otherwise=4.0)  # seconds of a planned failover without deliveries, and with writes that are lost
OUTAGE = within(10.0, otherwise=3.0)  # seconds without writes that a dead primary may cost
LEFT = within(15.0, otherwise=2.0)  # seconds until nothing of ours is on a replica
NOTICED = within(3.0, otherwise=3.0)  # seconds until nodes have left a replica, or found the new primary
MENDED = within(10.0, otherwise=2.0)  # seconds until everybody has everything, or was told

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(name="watched", scope="module")
def _watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    servers = Watched(tmp_path_factory.mktemp("watched"), down_after=DOWN_AFTER)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@pytest_asyncio.fixture(name="scene", scope="module", loop_scope="module")
async def _scene(watched: Watched, tmp_path_factory: pytest.TempPathFactory, load: Load) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("sentinels")
    async with crewed(folder, load, watched.servers[0], watched.url) as scene:
        yield scene


async def _begin(scene: Scene, watched: Watched) -> tuple[Valkey, Valkey]:
    """Mend what the last test broke; return the primary and its replica, once nothing is wrong."""
    old, new = watched.primary(), watched.replica()
    new.command("REPLICAOF", "127.0.0.1", old.port)  # the sentinels would do it too, 8 s later
    await asyncio.to_thread(watched.settle)
    await scene.moving()
    await until(lambda: _well(scene), MENDED, "all links to stand")
    return old, new


async def _well(scene: Scene) -> bool:
    return [2.0] * len(scene.nodes) == await gauges(scene.nodes, "gateway_redis_up")


async def _taken_over(watched: Watched, old: Valkey, within: float = OUTAGE) -> float:
    """Wait until the sentinels name another; return when they did."""

    async def named() -> bool:
        return watched.primary() is not old

    await until(named, within, "a failover")
    return time.monotonic()


async def _ends_well(scene: Scene, start: float) -> None:
    """Nobody was cut off, unless to be told, and nobody lacks anything in silence."""
    await caught_up(scene, MENDED)
    verdict = await clean(scene)
    assert scene.crowd.records.codes(start).keys() <= {3010}, scene.crowd.records.codes(start)
    assert verdict.repeats == 0
    assert all(node.alive for node in scene.nodes)


async def _left(server: Valkey, since: float) -> float:
    """Wait until nothing of ours is on a server that is a replica; return the seconds."""

    async def free() -> bool:
        return left(server)

    await until(free, LEFT - (time.monotonic() - since), "links to leave a replica")
    return time.monotonic() - since


async def test_a_planned_failover_is_a_short_pause(scene: Scene, watched: Watched) -> None:
    """The old primary still takes writes, and is left within a second; no node goes without deliveries for so long."""
    old, new = await _begin(scene, watched)
    assert len(ours(old)) == 2 * len(scene.nodes)
    async with silence(by_node(scene)) as quiet:
        start = time.monotonic()
        watched.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
        named = await _taken_over(watched, old)
        took = await until(lambda: _all_on(scene, new), PAUSE, "every link to be on the new primary")
        free = await _left(old, start)
        since = time.monotonic()
        await scene.crowd.until(lambda: quiet.heard_since(since), 30.0, "deliveries on each node")
    told(f"planned: named after {named - start:.2f} s, moved {took:.2f} s later, a free replica {free:.1f} s")
    told(f"silence {quiet.worst:.2f} s, no write {outage(scene, start):.2f} s")
    assert quiet.worst <= PAUSE
    await _ends_well(scene, start)


async def test_a_demoted_primary_takes_nothing(scene: Scene, watched: Watched) -> None:
    """Somebody makes it a replica: nothing is acknowledged from then on, and its successor is found at once."""
    old, new = await _begin(scene, watched)
    start = time.monotonic()
    old.command("REPLICAOF", "127.0.0.1", new.port)
    demoted = time.monotonic()
    took = await until(lambda: _free(old), NOTICED, "every node to leave it")
    await scene.crowd.until(lambda: scene.crowd.records.outcomes(demoted)["doubtful"] > 20, 30.0, "failures")
    assert scene.crowd.records.outcomes(demoted)["acknowledged"] == 0
    assert watched.primary() is old, "the sentinels were faster"
    watched.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
    named = await _taken_over(watched, old)
    moved = await scene.moving(NOTICED)
    told(f"demoted: left after {took:.2f} s, {moved:.2f} s from the successor to the first delivery")
    assert scene.crowd.records.first_delivery(named) - named <= NOTICED
    await _ends_well(scene, start)


async def _all_on(scene: Scene, server: Valkey) -> bool:
    return len(ours(server)) == 2 * len(scene.nodes)


async def _free(server: Valkey) -> bool:
    return not ours(server)


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_primary_that_is_lost_is_replaced(
    scene: Scene, watched: Watched, how: Literal["killed", "stopped"]
) -> None:
    """Its replica leads; once back it takes itself for the primary, and nothing of ours is on it when it is demoted."""
    old, new = await _begin(scene, watched)
    before, start = tells(scene), time.monotonic()
    if how == "killed":
        old.stop()
        assert not old.answers()
    else:
        old.stall()
    named = await _taken_over(watched, old)
    await scene.crowd.until(
        lambda: scene.crowd.records.first_delivery(named) < float("inf"), OUTAGE - (named - start), "a delivery"
    )
    lasted = outage(scene, start)
    if how == "killed":
        await asyncio.to_thread(old.start)
    else:
        old.go_on()
    returned = time.monotonic()
    assert old.command("ROLE")[0] == b"master", "it knows already"
    free = await _left(old, returned)
    told(f"{how}: no write {lasted:.2f} s, named after {named - start:.2f} s, a free replica {free:.1f} s")
    assert DOWN_AFTER <= lasted <= OUTAGE
    assert len(ours(new)) == 2 * len(scene.nodes)
    await _ends_well(scene, start)
    assert told_since(scene, before) == 1.0, "not everybody was told that the streams are others"


async def test_a_successor_that_lacks_acknowledged_writes_misleads_nobody(scene: Scene, watched: Watched) -> None:
    """As many others come after what it has of the same streams: nobody who saw what is lost takes these for it."""
    crowd = scene.crowd
    old, new = await _begin(scene, watched)
    before, start = tells(scene), time.monotonic()
    await crowd.hush()
    await lose(scene, crowd.publishers, old, new)
    async with some_away(scene) as away:
        await _taken_over(watched, old)
        await until(lambda: _well(scene), MENDED, "all links to stand")
        await publish(crowd.publishers)
    await asyncio.to_thread(old.start)
    crowd.speak()
    await clean(scene)
    codes = crowd.records.codes(start)
    assert codes.pop(1006) == len(away)
    assert codes.keys() <= {3010}
    assert told_since(scene, before) == 1.0, "not everybody was told"
    told(f"{LOST} lost in each of {len(crowd.channels)} channels, and all {len(before)} listeners told")
