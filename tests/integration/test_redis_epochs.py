"""A server that may have lost writes it acknowledged does not use their offsets again under the same epoch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.protocol.values import HistoryQuery, PublishOptions
from gateway.types import Channel, Position
from tests.support.engines import Node, eventually, good, outcome, running
from tests.support.faultproxy import Rule, faultproxy
from tests.support.valkey import Valkey

ROOM = Channel("chat:lobby")
PLAIN = PublishOptions()
KEPT = PublishOptions(history_size=100, history_ttl=600.0, history_meta_ttl=600.0)
SALT = "gateway.salt.{53t}"
META = f"gateway.meta.{{53t}}.{ROOM}"


@pytest.fixture(name="own_valkey")
def _own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Return a server that the test may do anything to."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="aof")
def _aof(tmp_path: Path) -> Iterator[Valkey]:
    """Return a server that writes a log of its writes, each before its answer: a slow disk delays others by seconds."""
    server = Valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.stop()


async def publish(node: Node, *words: bytes) -> Position:
    """Publish with history; return the last position."""
    position: Position | None = None
    for word in words:
        position = (await good(node.engine.broker.publish, ROOM, word, KEPT)).position
    assert position is not None
    return position


def kept(server: Valkey) -> str:
    """Return the top offset as it lies on a server."""
    top = server.command("HGET", META, "s")
    return top.decode() if isinstance(top, bytes) else ""


async def back(node: Node) -> None:
    """Wait until the command link was built again and all is well."""

    async def stands() -> bool:
        return 1 == node.recorder.counts["redis_reconnects", "command"] and not node.engine.outages()

    await eventually(stands)


def probes(node: Node) -> int:
    """Return how many probes have come back."""
    return sum(name == "redis_pubsub_probe_rtt" for name, _ in node.recorder.observations)


async def missed(node: Node, since: Position) -> tuple[Position, list[bytes]]:
    """Return the top, and what a client at this offset would be given if it did not look at the epoch."""
    assert node.engine.history is not None
    page = await good(node.engine.history.read, ROOM, HistoryQuery(-1, since))
    return page.top, [publication.data for publication in page.publications]


async def lose_the_tail(
    primary: Valkey, replica: Valkey, *, epoch_salt: bool
) -> tuple[Position, Position, list[bytes]]:
    """Promote a replica that lacks the last writes; return where clients stood, the top, and what they would get."""
    async with faultproxy(primary.port) as proxy, running(primary.url, epoch_salt=epoch_salt) as node:
        await publish(node, b"1", b"2", b"3")
        primary.command("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        replica.command("REPLICAOF", "127.0.0.1", proxy.port)

        async def copied() -> bool:
            return "3" == kept(replica)

        await eventually(copied)
        delay = Rule(way="down", stall=True)

        async def delayed() -> bool:
            return delay.hits > 0

        with proxy.rule(delay):
            seen = await publish(node, b"4", b"5")
            await eventually(delayed)
            primary.stop()
            proxy.cut()
        assert "3" == kept(replica), "the replica has what it should have missed"
    replica.command("REPLICAOF", "NO", "ONE")
    async with running(replica.url, epoch_salt=epoch_salt) as node:
        await publish(node, b"four", b"five")
        return seen, *await missed(node, seen)


@pytest.fixture(name="replica")
def _replica(tmp_path: Path) -> Iterator[Valkey]:
    """Return a second server."""
    folder = tmp_path / "replica"
    folder.mkdir()
    server = Valkey(folder)
    server.start()
    yield server
    server.stop()


async def test_a_promoted_replica_begins_another_epoch(own_valkey: Valkey, replica: Valkey) -> None:
    """Clients that saw what the replica never got are not told that they are current."""
    seen, top, _ = await lose_the_tail(own_valkey, replica, epoch_salt=True)
    assert 5 == seen.offset
    assert seen.epoch != top.epoch
    assert 2 == top.offset


async def test_without_salt_a_promoted_replica_misleads(own_valkey: Valkey, replica: Valkey) -> None:
    """The fault that the salt is for: the same position, other publications, nothing to be recovered."""
    seen, top, rest = await lose_the_tail(own_valkey, replica, epoch_salt=False)
    assert 5 == seen.offset
    assert (seen, []) == (top, rest)


@pytest.mark.parametrize("epoch_salt", [True, False])
async def test_a_log_without_its_end_begins_another_epoch(aof: Valkey, tmp_path: Path, epoch_salt: bool) -> None:
    """As after a power cut with appendfsync everysec: acknowledged writes are gone, their offsets free again."""
    log = tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof"
    async with running(aof.url, epoch_salt=epoch_salt) as node:
        await publish(node, b"1", b"2", b"3")
        written = log.stat().st_size
        seen = await publish(node, b"4", b"5")
        aof.stop()
        with log.open("r+b") as file:
            file.truncate(written)
        aof.start()
        assert "3" == kept(aof), "nothing was lost"
        await back(node)
        await publish(node, b"four", b"five")
        top, rest = await missed(node, seen)
        if epoch_salt:
            assert (2, True) == (top.offset, top.epoch != seen.epoch)
            assert 1 == node.recorder.counts["redis_epochs_begun", ""]
        else:
            assert (seen, []) == (top, rest), "the fault that the salt is for"


async def test_the_same_server_goes_on_with_its_epochs(own_valkey: Valkey) -> None:
    """Neither a new link nor another node is a reason to begin anew."""
    async with running(own_valkey.url) as node:
        before = await publish(node, b"1")
        own_valkey.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await back(node)
        async with running(own_valkey.url) as other:
            after = await publish(other, b"2")
        assert (before.epoch, 2) == (after.epoch, after.offset)
        assert 0 == node.recorder.counts["redis_epochs_begun", ""]


async def test_a_salt_that_changes_under_way_is_noticed(own_valkey: Valkey) -> None:
    """Data of another server under a standing link, as after a resynchronisation, are found within a second or so."""
    async with running(own_valkey.url) as node:
        before = await publish(node, b"1")
        own_valkey.command("HSET", SALT, "r", "another")

        async def begun() -> bool:
            return 1 == node.recorder.counts["redis_epochs_begun", ""]

        await eventually(begun)
        after = await publish(node, b"1")
        assert before.epoch != after.epoch
        assert 1 == after.offset
        assert 0 == node.recorder.counts["redis_reconnects", "command"]


async def test_a_full_server_is_not_gone_on_with_either(own_valkey: Valkey) -> None:
    """Too full to take a salt, it still fans out; once there is room, what another server wrote is begun anew."""
    async with running(own_valkey.url) as node:
        before = await publish(node, b"1")
        own_valkey.command("HSET", SALT, "r", "another")
        own_valkey.command("CONFIG", "SET", "maxmemory", 1)

        async def dropped() -> bool:
            return 0 == int(own_valkey.command("EXISTS", SALT))

        await eventually(dropped)
        await good(node.engine.broker.publish, ROOM, b"{}", PLAIN)
        assert "oom" == (await outcome(node.engine.broker.publish, ROOM, b"{}", KEPT)).kind
        own_valkey.command("CONFIG", "SET", "maxmemory", 0)
        assert before.epoch != (await publish(node, b"1")).epoch
        assert 0 == node.recorder.counts["redis_reconnects", "command"]


async def test_what_begins_after_a_flush_is_not_begun_twice(own_valkey: Valkey) -> None:
    """The first publication makes the salt that the flush took; the next probes find it and leave the stream alone."""
    async with running(own_valkey.url) as node:
        before = await publish(node, b"1")
        own_valkey.command("FLUSHALL")
        anew = await publish(node, b"1")
        assert before.epoch != anew.epoch
        probed = probes(node)

        async def probed_again() -> bool:
            return probes(node) >= probed + 2

        await eventually(probed_again)
        assert Position(2, anew.epoch) == await publish(node, b"2")
        assert 0 == node.recorder.counts["redis_epochs_begun", ""]
