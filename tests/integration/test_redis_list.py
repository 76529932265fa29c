"""The Redis engine over several servers that stand in a row: each has its share, and answers for it alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.engines.redis import RedisEngine
from gateway.engines.redis.topology import TAGS, fnv1a, jump
from gateway.errors import EngineFault, OperatorError
from gateway.protocol.values import PublishOptions
from gateway.types import Channel
from tests.support.engines import Node, client, eventually, good, outcome, running
from tests.support.sentinel import made
from tests.support.valkey import Valkey

PLAIN = PublishOptions()
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)


@pytest.fixture(name="two")
def _two(tmp_path: Path) -> Iterator[tuple[Valkey, Valkey]]:
    one, two = Valkey(made(tmp_path / "one")), Valkey(made(tmp_path / "two"))
    one.start()
    two.start()
    yield one, two
    one.stop()
    two.stop()


def rooms_on(index: int, count: int) -> list[Channel]:
    """Return channels whose partition lies on this one of two servers."""
    shares = [jump(fnv1a(tag), 2) for tag in TAGS]
    names = (Channel(f"room:{n}") for n in range(1000))
    return [name for name in names if shares[fnv1a(name) % len(TAGS)] == index][:count]


async def test_each_server_has_its_share(two: tuple[Valkey, Valkey]) -> None:
    """Keys of a channel lie on one server, those of all channels on both, whichever node writes them."""
    urls = ",".join(server.url for server in two)
    async with running(urls) as node, running(urls) as other:
        for index, server in enumerate(two):
            for channel in rooms_on(index, 20):
                await good(other.engine.broker.subscribe, channel)
                await good(node.engine.broker.publish, channel, b"{}", KEPT)
            assert 20 == len(server.command("KEYS", "gateway.stream.*"))
        await other.sink.until_count("published", 40)


async def test_one_server_gone_is_half_an_outage(two: tuple[Valkey, Valkey]) -> None:
    """Channels on the other go on undisturbed; the outage names the server that is gone."""
    (lost,), (kept,) = rooms_on(0, 1), rooms_on(1, 1)
    async with running(",".join(server.url for server in two)) as node:
        assert isinstance(node.engine, RedisEngine)
        for channel in (lost, kept):
            await good(node.engine.broker.subscribe, channel)
        assert [] == list(node.engine.faults())
        two[0].stop()
        await names_alone(node, two[0])
        await both_down(node)
        assert [] == list(node.engine.faults()), "an outage that all nodes share makes none unfit"
        assert "down" == (await outcome(node.engine.broker.publish, lost, b"{}", PLAIN)).kind
        assert isinstance(await outcome(node.engine.presence.add, lost, client(), True), EngineFault)
        await good(node.engine.broker.publish, kept, b"{}", PLAIN)
        await good(node.engine.presence.add, kept, client(), True)
        await node.sink.until(lambda: node.sink.of("joined"))
        two[0].start()
        await node.sink.until(lambda: any(lost in channels for channels, _ in node.sink.of("suspect")))
        assert not any(kept in channels for channels, _ in node.sink.of("suspect"))
        await whole(node)
        await good(node.engine.broker.publish, lost, b"{}", PLAIN)
        await node.sink.until(lambda: node.sink.data(lost))


async def test_a_node_that_starts_in_half_an_outage_is_fit(two: tuple[Valkey, Valkey]) -> None:
    """Ready once the server of the control bus and so one of them stands; not while that one is away."""
    control = jump(fnv1a(TAGS[0]), 2)
    two[1 - control].stop()
    urls = ",".join(server.url for server in two)
    async with running(urls, wait_ready=False) as node:
        await fit(node)
        assert any(str(two[1 - control].port) in line for line in node.engine.outages())
    two[1 - control].start()
    two[control].stop()
    async with running(urls, wait_ready=False) as node:
        await names_alone(node, two[control])
        assert [] != list(node.engine.faults())
        two[control].start()
        await fit(node)


async def whole(node: Node) -> None:
    """Wait until both links of both servers stand: they come back one by one."""

    async def no_outages() -> bool:
        return not node.engine.outages()

    await eventually(no_outages)


async def both_down(node: Node) -> None:
    """Wait until both links of a server are known to be lost: they go one by one."""
    assert isinstance(node.engine, RedisEngine)

    async def down() -> bool:
        return {"command": False, "pubsub": False} == node.engine.up

    await eventually(down)


async def fit(node: Node) -> None:
    """Wait until the node is ready."""

    async def no_faults() -> bool:
        return not node.engine.faults()

    await eventually(no_faults)


async def test_all_must_answer_at_the_start(two: tuple[Valkey, Valkey]) -> None:
    """A server that is not there is named, without any password."""
    two[1].stop()
    with pytest.raises(OperatorError, match=f"127.0.0.1:{two[1].port}.*connection refused") as caught:
        async with running(f"{two[0].url},redis://:s3cret@127.0.0.1:{two[1].port}"):
            pytest.fail("entered")
    assert "s3cret" not in str(caught.value)


async def names_alone(node: Node, server: Valkey) -> None:
    """Wait until all outages are about this server."""

    async def named() -> bool:
        outages = node.engine.outages()
        return bool(outages) and all(f"127.0.0.1:{server.port}" in line for line in outages)

    await eventually(named)
