"""A cluster is changed and harmed under load: slots are handed over, a primary steps down, another one dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from gateway.engines.redis.slots import slot
from gateway.engines.redis.topology import TAGS, fnv1a
from loadtests.oracle import Verdict
from tests.cluster.takeover import LOST, by_channel, crewed, lose, ours, publish, silence, some_away
from tests.cluster.witness import Meters, caught_up, clean, gauges, tells, told, until
from tests.support.crowd_life import Load
from tests.support.exactness import within
from tests.support.rediscluster import Member, RedisCluster
from tests.support.scene import Scene

NODE_TIMEOUT = 2.0  # seconds until a silent server is taken for dead
BACK = within(5.0, otherwise=2.0)  # seconds from the change until everything concerned is delivered again
PROMOTED = within(10.0, otherwise=3.0)  # seconds that the cluster itself may take for it
LEFT = 15.0  # seconds until no link is on a replica any more
MENDED = within(10.0, otherwise=2.0)  # seconds until everybody has everything, or was told
MOVED = 4  # slots
LINGERS = 0.3  # seconds that each of them lies half here, half there

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(name="members", scope="module")
def _members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    servers = RedisCluster(tmp_path_factory.mktemp("members"), replicas=True, timeout=NODE_TIMEOUT)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@pytest_asyncio.fixture(name="scene", scope="module", loop_scope="module")
async def _scene(members: RedisCluster, tmp_path_factory: pytest.TempPathFactory, load: Load) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("slots")
    async with crewed(folder, load, members.servers[0], members.url) as scene:
        yield scene


async def _begin(scene: Scene, members: RedisCluster) -> dict[Member, list[str]]:
    """Return the channels that lie on each primary, once nothing is wrong and all of them are busy."""
    await asyncio.to_thread(members.settle)
    lie: dict[Member, list[str]] = {}
    for channel in scene.crowd.channels:
        lie.setdefault(members.owner(_slot(channel)), []).append(channel)
    assert len(lie) == 3, "not every primary has a channel"
    numbers = [(it, it.number) for it in scene.crowd.publishers]
    await scene.crowd.until(lambda: all(it.number > number + 2 for it, number in numbers), 30.0, "publications")
    return lie


def _slot(channel: str) -> int:
    return slot(TAGS[fnv1a(channel) % len(TAGS)])


async def _ends_well(scene: Scene, start: float) -> Verdict:
    """Nobody was cut off, unless to be told, and nobody lacks anything in silence."""
    await caught_up(scene, MENDED)
    verdict = await clean(scene)
    assert scene.crowd.records.codes(start).keys() <= {3010}, scene.crowd.records.codes(start)
    assert verdict.repeats == 0
    assert all(node.alive for node in scene.nodes)
    return verdict


def _told_in(scene: Scene, before: dict[tuple[str, str], int]) -> set[str]:
    """Return the channels in which somebody was told since."""
    return {channel for (client, channel), count in tells(scene).items() if count > before[client, channel]}


async def test_slots_that_are_handed_over_take_all_along(scene: Scene, members: RedisCluster) -> None:
    """Under publishing, one after the other: nobody is told of anything, and each channel pauses for 5 s at most."""
    lie = await _begin(scene, members)
    source, target = sorted(lie, key=lambda it: len(lie[it]))[::-2]
    slots = list(dict.fromkeys(map(_slot, lie[source])))[:MOVED]
    moving = [it for it in lie[source] if _slot(it) in slots]
    before, start, meters = tells(scene), time.monotonic(), await Meters.begin(scene.nodes)
    async with silence(by_channel(scene, moving)) as quiet:
        for number in slots:
            keys = source.server.command("CLUSTER", "COUNTKEYSINSLOT", number)
            assert keys >= 2, "nothing is in the slot"
            await asyncio.to_thread(members.hand_over, number, target, LINGERS)
            assert members.owner(number) is target
        moved = time.monotonic()
        await scene.crowd.until(lambda: quiet.heard_since(moved), BACK, "deliveries of all that moved")
    failed = scene.crowd.records.outcomes(start)["doubtful"]
    told(f"{len(slots)} slots, {len(moving)} channels: silence {quiet.worst:.2f} s, {failed} publications refused")
    assert quiet.worst <= BACK
    await _ends_well(scene, start)
    assert not _told_in(scene, before)
    assert [0] * len(scene.nodes) == await meters.rises("gateway_redis_epochs_begun_total")


async def test_a_primary_that_steps_down_is_followed(scene: Scene, members: RedisCluster) -> None:
    """A planned failover: its channels pause for 5 s at most, those of others hear nothing of it, all links leave."""
    lie = await _begin(scene, members)
    old = max(lie, key=lambda it: len(lie[it]))
    new = members.replica_of(old)
    before, start = tells(scene), time.monotonic()
    async with silence(by_channel(scene, lie[old])) as quiet:
        new.server.command("CLUSTER", "FAILOVER")
        await _leads(new)
        promoted = time.monotonic()
        await scene.crowd.until(lambda: quiet.heard_since(promoted), BACK, "deliveries of all that moved")

        free = await _is_left(old)
    told(f"planned: {len(lie[old])} channels, silence {quiet.worst:.2f} s, the old one left after {free:.1f} s more")
    assert quiet.worst <= BACK
    await _ends_well(scene, start)
    assert _told_in(scene, before) <= set(lie[old])


async def test_a_primary_that_dies_is_replaced(scene: Scene, members: RedisCluster) -> None:
    """Within 5 s of its replica's lead its channels are back, everybody there was told, and others heard nothing."""
    lie = await _begin(scene, members)
    old = max(lie, key=lambda it: len(lie[it]))
    new = members.replica_of(old)
    others = [it for member, channels in lie.items() if member is not old for it in channels]
    before, start = tells(scene), time.monotonic()
    async with silence(by_channel(scene, others)) as undisturbed, silence(by_channel(scene, lie[old])) as quiet:
        old.server.stop()
        assert not old.server.answers()
        await _leads(new)
        promoted = time.monotonic()
        await scene.crowd.until(lambda: quiet.heard_since(promoted), BACK, "deliveries of all that was lost")
        back = time.monotonic() - promoted
    told(
        f"killed: led after {promoted - start:.2f} s, all {len(lie[old])} channels back {back:.2f} s later; "
        f"silence there {quiet.worst:.2f} s, elsewhere {undisturbed.worst:.2f} s"
    )
    await asyncio.to_thread(old.server.start)
    await _ends_well(scene, start)
    assert _told_in(scene, before) == set(lie[old])
    await _is_left(old)  # a node whose map is of before looks in, and finds a replica


async def _is_left(member: Member) -> float:
    """Return how long it took until no link was there."""

    async def left() -> bool:
        return not ours(member.server)

    return await until(left, LEFT, "links to leave the old primary")


async def _leads(member: Member) -> None:
    async def does() -> bool:
        return bool(member.server.command("ROLE")[0] == b"master")

    await until(does, PROMOTED, "a replica to lead")


async def test_a_successor_that_lacks_acknowledged_writes_misleads_nobody(scene: Scene, members: RedisCluster) -> None:
    """As many others come after what it has of the same streams: nobody who saw what is lost takes these for it."""
    crowd = scene.crowd
    lie = await _begin(scene, members)
    old = max(lie, key=lambda it: len(lie[it]))
    new = members.replica_of(old)
    before, start = tells(scene), time.monotonic()
    await crowd.hush()
    concerned = [it for it in crowd.publishers if it.channel in lie[old]]
    await lose(scene, concerned, old.server, new.server)
    async with some_away(scene) as away:
        await _leads(new)
        await until(lambda: _well(scene), MENDED, "all links to stand")
        await publish(concerned)
    await asyncio.to_thread(old.server.start)
    crowd.speak()
    await clean(scene)
    codes = crowd.records.codes(start)
    assert codes.pop(1006) == len(away)
    assert codes.keys() <= {3010}
    now = tells(scene)
    assert {it for it in before if it[1] in lie[old]} == {it for it in before if now[it] > before[it]}
    told(f"{LOST} lost in each of {len(concerned)} channels, and all listeners there told")


async def _well(scene: Scene) -> bool:
    return [2.0] * len(scene.nodes) == await gauges(scene.nodes, "gateway_redis_up")
