"""The Redis engine over a cluster: partitions follow their slots, wherever these go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.engines.redis import RedisEngine, cluster
from gateway.engines.redis.slots import slot
from gateway.engines.redis.topology import TAGS, fnv1a
from gateway.errors import OperatorError
from gateway.protocol.values import HistoryQuery
from gateway.types import Channel
from tests.support.engines import Node, client, eventually, good, running
from tests.support.exactness import within
from tests.support.ports import free_port
from tests.support.rediscluster import Member, RedisCluster
from tests.support.sentinel import wait_until
from tests.support.talk import KEPT, gaps, heard, talking
from tests.support.valkey import Valkey

SLOTS = [slot(tag) for tag in TAGS]
# One channel in each of a few partitions.
ROOMS = {fnv1a(name) % len(TAGS): Channel(name) for name in (f"room:{n}" for n in range(1000))}


@pytest.fixture(scope="module", name="nodes")
def _nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    servers = RedisCluster(tmp_path_factory.mktemp("cluster"), replicas=True, timeout=2.0)
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture(name="url")
def _url(nodes: RedisCluster) -> str:
    """Return where the cluster is, once all is well again."""
    for server in nodes.servers:
        if not server.answers():
            server.start()
    nodes.settle()
    return nodes.url


async def stands(node: Node) -> None:
    """Wait until nothing is wrong."""

    async def well() -> bool:
        return not node.engine.outages() and not node.engine.faults()

    await eventually(well)


async def subscribed(node: Node, channels: list[Channel]) -> None:
    """Subscribe."""
    for channel in channels:
        await good(node.engine.broker.subscribe, channel)


def rooms_of(nodes: RedisCluster, member: Member, count: int) -> list[Channel]:
    """Return some channels whose slots this member serves."""
    return [ROOMS[n] for n, number in enumerate(SLOTS) if nodes.owner(number) is member][:count]


def another(nodes: RedisCluster, member: Member) -> Member:
    """Return another primary that serves one of our slots."""
    return next(owner for owner in map(nodes.owner, SLOTS) if owner is not member)


def slot_of(channel: Channel) -> int:
    """Return the slot of a channel's partition."""
    return SLOTS[fnv1a(channel) % len(TAGS)]


def primaries_of(node: Node) -> set[str]:
    """Return the servers that an engine uses."""
    assert isinstance(node.engine, RedisEngine)
    return {server.name for server in node.engine.layout.servers}


def gateway_links(server: Valkey) -> list[str]:
    """Return the names of our links on a server."""
    words = str(server.command("CLIENT", "LIST").decode()).split()
    return [word for word in words if word in ("name=gateway-command", "name=gateway-pubsub")]


async def epoch_of(node: Node, channel: Channel) -> str:
    """Return the name of a channel's stream."""
    assert node.engine.history is not None
    page = await good(node.engine.history.read, channel, HistoryQuery())
    return str(page.top.epoch)


def suspected(node: Node) -> set[Channel]:
    """Return all channels that were said to be suspect."""
    return {channel for channels, _ in node.sink.of("suspect") for channel in channels}


async def test_partitions_lie_on_all_primaries(nodes: RedisCluster, url: str, engine_prefix: str) -> None:
    """A seed that is a replica leads to all primaries, and to nothing else; each channel works."""
    seed = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{nodes.replica_of(nodes.owner(0)).port}"
    assert url != seed
    async with running(seed, prefix=engine_prefix) as node:
        expected = {f"127.0.0.1:{nodes.owner(number).port}" for number in SLOTS}
        assert 3 == len(expected)
        assert expected == primaries_of(node)
        await subscribed(node, list(ROOMS.values()))
        for channel in ROOMS.values():
            await good(node.engine.broker.publish, channel, b"{}", KEPT)
        await node.sink.until_count("published", len(TAGS))
        assert set(ROOMS.values()) == {channel for channel, _ in node.sink.of("published")}
        assert 0 == node.recorder.counts["redis_errors", "moved"]
        assert 0 == node.recorder.counts["redis_errors", "refused"]


async def test_a_user_with_few_rights_suffices(nodes: RedisCluster, url: str, engine_prefix: str) -> None:
    """The login of the URL is used on each node, to read the map and for all else; names stay within the prefix."""
    names = (f"~{engine_prefix}.*", f"&{engine_prefix}.*")
    for server in nodes.servers:
        server.command("ACL", "SETUSER", "gate", "on", ">s3cret", *names, "+@all", "-@dangerous", "+role", "+info")
    async with running(url.replace("://", "://gate:s3cret@"), prefix=engine_prefix) as node:
        assert node.engine.presence is not None
        for channel in ROOMS.values():
            await good(node.engine.broker.subscribe, channel)
            await good(node.engine.broker.publish, channel, b"1", KEPT)
            await good(node.engine.presence.add, channel, client(), True)
            await good(node.engine.broker.claim, channel, 1.0)
        await node.sink.until_count("joined", len(TAGS))
        assert 0 == node.recorder.counts["redis_errors", "refused"]
    with pytest.raises(OperatorError, match="WRONGPASS") as caught:
        async with running(url.replace("://", "://gate:wr0ng@")):
            pytest.fail("entered")
    assert "wr0ng" not in str(caught.value)


async def test_a_slot_that_is_handed_over_is_followed(nodes: RedisCluster, url: str, engine_prefix: str) -> None:
    """Under publishing: history moves along, nothing is missed in silence, and nobody else is disturbed."""
    source = nodes.owner(SLOTS[0])
    target = another(nodes, source)
    moving, staying = rooms_of(nodes, source, 4)[:3], rooms_of(nodes, source, 4)[3]
    channels = [*moving, staying, *rooms_of(nodes, target, 1)]
    async with running(url, prefix=engine_prefix) as mouth, running(url, prefix=engine_prefix) as ears:
        await subscribed(ears, channels)
        async with talking(mouth, channels) as talk:
            await talk.succeeds(5)
            for channel in moving:
                await asyncio.to_thread(nodes.hand_over, slot_of(channel), target)
            moved_at = time.monotonic()
            await ears.sink.until(lambda: set(moving) <= suspected(ears))
            await talk.succeeds(5)
            for channel in moving:
                assert target is nodes.owner(slot_of(channel))
        await heard(talk, ears, channels)
        assert time.monotonic() - moved_at <= within(5.0, otherwise=3.0)
        assert set(moving) == suspected(ears)
        for channel in channels:
            assert [] == gaps(ears, channel)
            assert mouth.engine.history is not None
            page = await good(mouth.engine.history.read, channel, HistoryQuery(-1))
            # All that was acknowledged is there, once, in one stream: nothing was sent again, nothing lost.
            assert talk.successes(channel) == len(page.publications) == page.top.offset
        assert 0 == mouth.recorder.counts["redis_epochs_begun", ""] == ears.recorder.counts["redis_epochs_begun", ""]
        assert {"moved"} >= {fault.kind for _, _, fault in talk.faults}
        assert 3 == len(primaries_of(ears))


async def test_a_slot_that_moves_unnoticed_is_found(
    nodes: RedisCluster, url: str, engine_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first subscription in a slot that is served elsewhere leads there; its subscriber only waits a little."""
    monkeypatch.setattr(cluster, "LOOKED_AT_EVERY", 3600.0)
    target = another(nodes, nodes.owner(SLOTS[1]))
    async with running(url, prefix=engine_prefix) as node:
        nodes.hand_over(SLOTS[1], target)
        nodes.hand_over(SLOTS[2], target)
        await subscribed(node, [ROOMS[1], ROOMS[2]])
        await good(node.engine.broker.publish, ROOMS[1], b"{}", KEPT)
        await node.sink.until_count("published", 1)
        assert node.recorder.counts["redis_errors", "moved"]
        assert 0 == node.recorder.counts["redis_reconnects", "pubsub"]


async def test_a_primary_that_steps_down_is_left(nodes: RedisCluster, url: str, engine_prefix: str) -> None:
    """A planned failover: its replica takes over with all partitions, and nothing of ours stays on the old one."""
    old = nodes.owner(SLOTS[0])
    new = nodes.replica_of(old)
    channels = [*rooms_of(nodes, old, 3), *rooms_of(nodes, another(nodes, old), 1)]
    async with running(url, prefix=engine_prefix) as mouth, running(url, prefix=engine_prefix) as ears:
        await subscribed(ears, channels)
        async with talking(mouth, channels) as talk:
            new.server.command("CLUSTER", "FAILOVER")
            await ears.sink.until(lambda: set(channels[:3]) <= suspected(ears))
            await talk.succeeds(10)
            assert new is nodes.owner(SLOTS[0])
        await heard(talk, ears, channels)
        assert [[]] * 4 == [gaps(ears, channel) for channel in channels]
        assert channels[3] not in suspected(ears)
        assert talk.silence(channels[0]) <= within(2.0, otherwise=3.0)
        for node in (mouth, ears):
            await stands(node)
            assert 3 == len(primaries_of(node))
            assert f"127.0.0.1:{new.port}" in primaries_of(node)
        await asyncio.to_thread(wait_until, lambda: not gateway_links(old.server), "links stay on the old primary")


async def test_a_killed_primary_is_replaced(nodes: RedisCluster, url: str, engine_prefix: str) -> None:
    """Its replica takes over: its channels are back within 5 s of that, the others never stopped."""
    old = nodes.owner(SLOTS[0])
    new = nodes.replica_of(old)
    lost, kept = rooms_of(nodes, old, 3), rooms_of(nodes, another(nodes, old), 1)
    async with running(url, prefix=engine_prefix) as mouth, running(url, prefix=engine_prefix) as ears:
        await subscribed(ears, [*lost, *kept])
        assert mouth.engine.presence is not None
        who = client()
        await good(mouth.engine.presence.add, lost[0], who, True)
        mouth.sink.entries.append((lost[0], who, True))
        before = [await epoch_of(mouth, channel) for channel in (lost[0], kept[0])]
        async with talking(mouth, lost) as talk, talking(mouth, kept) as undisturbed:
            old.server.stop()
            await named(mouth, f"127.0.0.1:{old.port}")
            await asyncio.to_thread(wait_until, lambda: leads(new), "no failover")
            promoted_at = time.monotonic()
            await talk.succeeds(5)
            await ears.sink.until(lambda: set(lost) <= suspected(ears))
            await heard(talk, ears, lost)
            assert time.monotonic() - promoted_at <= within(5.0, otherwise=3.0)
            await undisturbed.succeeds(1)
        assert [[]] * 4 == [gaps(ears, channel) for channel in (*lost, *kept)]
        assert [] == undisturbed.faults
        assert set(kept).isdisjoint(suspected(ears))
        after = [await epoch_of(mouth, channel) for channel in (lost[0], kept[0])]
        assert before[0] != after[0], "a replica may lack the last writes"
        assert before[1] == after[1]
        for node in (mouth, ears):
            await stands(node)
            assert f"127.0.0.1:{old.port}" not in primaries_of(node)

        async def entered() -> bool:
            members = await good(mouth.engine.presence.members, lost[0])  # type: ignore[union-attr] # looked at above
            return who.client in members

        await eventually(entered)


async def test_a_node_starts_without_its_cluster(tmp_path: Path) -> None:
    """It says what it lacks, and uses the cluster when it is there."""
    nodes = RedisCluster(tmp_path)
    seeds = nodes.url.removeprefix("redis+cluster://").split(",")
    with pytest.raises(OperatorError, match=f"no node of the cluster answers .*{seeds[0]}.*connection refused"):
        async with running(nodes.url):
            pytest.fail("entered")
    async with running(nodes.url, wait_ready=False) as node:
        assert {"command": False, "pubsub": False} == node.engine.up  # type: ignore[attr-defined] # it is Linked
        assert [f"redis: connecting to the cluster at {', '.join(seeds)}"] == list(node.engine.faults())
        try:
            await asyncio.to_thread(nodes.start)
            await stands(node)
            await subscribed(node, [ROOMS[0]])
            assert 3 == len(primaries_of(node))
        finally:
            nodes.stop()


async def test_a_server_that_is_no_cluster_is_named(valkey: Valkey) -> None:
    """One clear line."""
    with pytest.raises(OperatorError, match="cluster support disabled"):
        async with running(f"redis+cluster://127.0.0.1:{valkey.port}"):
            pytest.fail("entered")


async def named(node: Node, server: str) -> None:
    """Wait until an outage names this server, and it alone."""

    async def told() -> bool:
        outages = node.engine.outages()
        return bool(outages) and all(server in line for line in outages)

    await eventually(told)


def leads(member: Member) -> bool:
    """Whether it is a primary."""
    return bool(member.server.command("ROLE")[0] == b"master")
