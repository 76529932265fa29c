"""The Redis engine behind Sentinel: the links follow the primary, whatever happens to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.engines.redis import RedisEngine, sentinel
from gateway.errors import OperatorError
from gateway.types import Channel
from tests.support.engines import Node, client, eventually, good, running
from tests.support.exactness import within
from tests.support.ports import free_port
from tests.support.sentinel import SERVICE, Sentinel, Watched, made, wait_until
from tests.support.talk import gaps, heard, talking
from tests.support.valkey import Valkey

ROOM = Channel("chat:lobby")
DOWN_AFTER = 2.0  # seconds


@pytest.fixture(scope="module", name="watched")
def _watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    servers = Watched(tmp_path_factory.mktemp("watched"), down_after=DOWN_AFTER)
    servers.start()
    yield servers
    servers.stop()


@pytest.fixture(name="url")
def _url(watched: Watched) -> str:
    """Return where the sentinels are, once all is well again."""
    for server in watched.servers:
        if not server.answers():
            server.start()
    # The sentinels would do it too, 8 s later.
    watched.replica().command("REPLICAOF", "127.0.0.1", watched.primary().port)
    watched.settle()
    return watched.url


async def works(node: Node, server: Valkey) -> None:
    """Wait until nothing is wrong, and both links are on this server."""
    assert isinstance(node.engine, RedisEngine)
    links = node.engine.layout.servers[0].links.values()

    async def there() -> bool:
        ports = {link.address.port for link in links if link.address is not None}
        return not node.engine.outages() and not node.engine.faults() and ports == {server.port}

    await eventually(there)


def gateway_links(server: Valkey) -> list[str]:
    """Return the names of our links on a server."""
    words = str(server.command("CLIENT", "LIST").decode()).split()
    return [word.removeprefix("name=") for word in words if word.startswith("name=gateway-")]


async def test_a_planned_failover_is_a_short_pause(watched: Watched, url: str, engine_prefix: str) -> None:
    """Publishing pauses for a second at most, both links move, and what may be missing is said."""
    async with running(url, prefix=engine_prefix) as mouth, running(url, prefix=engine_prefix) as ears:
        await good(ears.engine.broker.subscribe, ROOM)
        async with talking(mouth, [ROOM]) as talk:
            old = watched.primary()
            watched.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
            await ears.sink.until(lambda: any(ROOM in channels for channels, _ in ears.sink.of("suspect")))
            new = watched.primary()
            assert new is not old, "there was no failover"
            for node in (mouth, ears):
                await works(node, new)
            await talk.succeeds(20)
        await heard(talk, ears, [ROOM])
        assert [] == gaps(ears, ROOM)
        assert talk.silence(ROOM) <= within(1.0, otherwise=4.0)
        wait_until(lambda: not gateway_links(old), "links stay on the old primary")


async def test_a_killed_primary_is_replaced(watched: Watched, url: str, engine_prefix: str) -> None:
    """Its replica takes over; when the old one returns nothing of ours is on it."""
    async with running(url, prefix=engine_prefix) as mouth, running(url, prefix=engine_prefix) as ears:
        await good(ears.engine.broker.subscribe, ROOM)
        async with talking(mouth, [ROOM]) as talk:
            old = watched.primary()
            new = watched.replica()
            old.stop()
            await talk.succeeds(20)
            for node in (mouth, ears):
                await works(node, new)
            await talk.succeeds(20)
            assert talk.faults
            old.start()
            await asyncio.to_thread(watched.settle)
            assert new is watched.primary()
            await talk.succeeds(5)
        await heard(talk, ears, [ROOM])
        assert [] == gaps(ears, ROOM)
        assert DOWN_AFTER <= talk.silence(ROOM) <= within(10.0, otherwise=3.0)
        assert [] == gateway_links(old)


async def test_a_primary_that_nobody_names_any_more_is_left(
    watched: Watched, url: str, engine_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a server still takes writes nothing but the sentinels tells that it is not the one to write to."""
    monkeypatch.setattr(sentinel, "ASKED_EVERY", 0.2)
    async with running(url, prefix=engine_prefix) as node:
        await good(node.engine.broker.subscribe, ROOM)
        old, new = watched.primary(), watched.replica()
        for it in watched.sentinels:  # all of them first: one that still knew it would tell the others of the old one
            it.command("SENTINEL", "REMOVE", SERVICE)
        for it in watched.sentinels:  # the primary they named is alive and well: they were told of another
            it.command("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", new.port, 2)
        new.command("REPLICAOF", "NO", "ONE")
        await works(node, new)
        await node.sink.until(lambda: node.sink.of("suspect"))
        wait_until(lambda: not gateway_links(old), "links stay on the old primary")
        old.command("REPLICAOF", "127.0.0.1", new.port)
        for it in watched.sentinels:
            it.command("SENTINEL", "SET", SERVICE, "down-after-milliseconds", round(DOWN_AFTER * 1000))
            it.command("SENTINEL", "SET", SERVICE, "failover-timeout", 6000)


async def test_without_sentinels_all_goes_on(tmp_path: Path) -> None:
    """They are needed to find the primary, not to stay there."""
    server = Valkey(made(tmp_path / "server"))
    watcher = Sentinel(made(tmp_path / "sentinel"), server.port)
    server.start()
    watcher.start()
    try:
        async with running(f"redis+sentinel://127.0.0.1:{watcher.port}/{SERVICE}") as node:
            watcher.stop()
            assert isinstance(node.engine, RedisEngine)
            node.engine.layout.servers[0].commands.abort("for the test")
            line = (
                f"redis: cannot connect to {SERVICE} (cannot connect to 127.0.0.1:{watcher.port} (connection refused))"
            )

            async def named() -> bool:
                return [f"{line}; retrying"] == list(node.engine.outages())

            await eventually(named)
            assert {"command": False, "pubsub": True} == node.engine.up
            watcher.start()
            await works(node, server)
    finally:
        watcher.stop()
        server.stop()


async def test_a_service_that_nobody_knows_is_named(url: str) -> None:
    """One clear line says what to correct."""
    with pytest.raises(OperatorError, match="no sentinel knows the service 'gatte'"):
        async with running(url.replace(f"/{SERVICE}", "/gatte")):
            pytest.fail("entered")


async def test_one_sentinel_that_lives_is_enough(watched: Watched, url: str, engine_prefix: str) -> None:
    """Those that do not answer cost no time worth mentioning."""
    dead = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    async with running(url.replace("://", f"://{dead},"), prefix=engine_prefix) as node:
        assert time.monotonic() - began < within(1.0, otherwise=4.0)
        await works(node, watched.primary())


async def test_sentinels_have_a_login_of_their_own(tmp_path: Path) -> None:
    """Server and sentinel each get their own password; a wrong one is said, and never shown."""
    server = Valkey(made(tmp_path / "server"))
    watcher = Sentinel(made(tmp_path / "sentinel"), server.port)
    server.start()
    watcher.start()
    try:
        server.command("ACL", "SETUSER", "gate", "on", ">of-redis", "~*", "&*", "+@all")
        rights = ("+hello", "+client|setname", "+subscribe", "&*")
        asks = ("+sentinel|get-master-addr-by-name", "+sentinel|master")
        watcher.command("ACL", "SETUSER", "asker", "on", ">of-sentinel", *rights, *asks)
        base = f"redis+sentinel://gate:of-redis@127.0.0.1:{watcher.port}/{SERVICE}/3?sentinel_username=asker"
        async with running(f"{base}&sentinel_password=of-sentinel") as node:
            assert node.engine.presence is not None
            await good(node.engine.presence.add, ROOM, client(), True)
            assert 0 == node.recorder.counts["redis_errors", "refused"]
        with pytest.raises(OperatorError, match="WRONGPASS") as caught:
            async with running(f"{base}&sentinel_password=wr0ng"):
                pytest.fail("entered")
        assert "wr0ng" not in str(caught.value)
    finally:
        watcher.stop()
        server.stop()
