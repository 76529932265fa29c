"""What only the Redis engine has: logins, databases, leases, commands missed and made up for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.engines.redis import RedisEngine
from gateway.errors import EngineFault, OperatorError
from gateway.protocol.messages import DisconnectClients, Survey
from gateway.protocol.values import PublishOptions
from gateway.types import Channel
from tests.support.clock import ManualClock
from tests.support.engines import Node, client, eventually, good, outcome, running
from tests.support.tlsredis import TlsRedis
from tests.support.valkey import Valkey

ROOM = Channel("chat:lobby")
PLAIN = PublishOptions()
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)


@pytest.fixture(scope="module", name="guarded")
def _guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Return a server whose user may do only what the engine needs, under the prefix only."""
    server = Valkey(tmp_path_factory.mktemp("guarded"))
    server.start()
    rules = ("on", ">s:cr@t", "~gateway.*", "&gateway.*", "+@all", "-@dangerous", "+role", "+info")
    server.command("ACL", "SETUSER", "gate", *rules)
    yield server
    server.stop()


async def test_a_user_with_few_rights_suffices(guarded: Valkey) -> None:
    """User and password come from the URL, percent-encoded; keys and channels stay within the prefix."""
    async with running(f"redis://gate:s%3Acr%40t@127.0.0.1:{guarded.port}/0") as node:
        assert node.engine.presence is not None
        await good(node.engine.broker.subscribe, ROOM)
        await good(node.engine.broker.publish, ROOM, b"1", KEPT)
        await good(node.engine.presence.add, ROOM, client(), True)
        await good(node.engine.broker.claim, "k", 1.0)
        await good(node.engine.control.send, DisconnectClients(id="1"))
        await node.sink.until(lambda: len(node.sink.log) == 3)
        assert 0 == node.recorder.counts["redis_errors", "refused"]


async def test_a_wrong_password_is_one_clear_line_without_it(guarded: Valkey) -> None:
    """The line names the server and its answer, never the password."""
    with pytest.raises(OperatorError) as caught:
        async with running(f"redis://gate:wr0ng@127.0.0.1:{guarded.port}/0"):
            pytest.fail("entered")
    assert f"127.0.0.1:{guarded.port} refused us (WRONGPASS" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


async def test_a_prefix_that_is_not_allowed_is_named(guarded: Valkey) -> None:
    """A refused SUBSCRIBE shows in the faults: it would be silent loss."""
    url = f"redis://gate:s%3Acr%40t@127.0.0.1:{guarded.port}/0"
    with pytest.raises(OperatorError, match="NOPERM"):
        async with running(url, prefix="other"):
            pytest.fail("entered")


async def test_databases_do_not_meet(valkey: Valkey, engine_prefix: str) -> None:
    """Pub/sub ignores database numbers; the engine does not: neither keys nor publications cross."""
    base = valkey.url.removesuffix("/0")
    async with running(f"{base}/0", prefix=engine_prefix) as zero, running(f"{base}/3", prefix=engine_prefix) as three:
        for node in (zero, three):
            await good(node.engine.broker.subscribe, ROOM)
        await good(zero.engine.broker.publish, ROOM, b"0", KEPT)
        published = await good(three.engine.broker.publish, ROOM, b"3", KEPT)
        assert 1 == published.position.offset
        await zero.sink.until(lambda: zero.sink.data(ROOM))
        await three.sink.until(lambda: three.sink.data(ROOM))
        assert ([b"0"], [b"3"]) == (zero.sink.data(ROOM), three.sink.data(ROOM))


@pytest.mark.needs("redis-tls")
async def test_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    """Without its authority named, the server's certificate is not believed."""
    server = TlsRedis(tmp_path)
    server.start()
    try:
        with pytest.raises(OperatorError, match="certificate"):
            async with running(server.url.partition("?")[0]):
                pytest.fail("entered")
        async with running(server.url.partition("?")[0] + "?ssl_cert_reqs=none") as node:
            await good(node.engine.broker.publish, ROOM, b"{}", PLAIN)
    finally:
        server.stop()


async def test_not_waiting_enters_at_once_and_finds_the_server_later(tmp_path: Path) -> None:
    """Without `wait_ready` a node starts without its server, says so, and uses it when it is there."""
    server = Valkey(tmp_path)
    async with running(server.url, wait_ready=False) as node:
        assert isinstance(node.engine, RedisEngine)
        assert {"command": False, "pubsub": False} == node.engine.up
        assert [f"redis: connecting to 127.0.0.1:{server.port}"] == list(node.engine.faults())
        server.start()
        try:
            await ready(node)
            assert {"command": True, "pubsub": True} == node.engine.up
            await good(node.engine.broker.subscribe, ROOM)
        finally:
            server.stop()


async def test_a_node_holds_a_lease_and_gives_it_back(valkey: Valkey, engine_prefix: str) -> None:
    """Who has entered somebody has a lease of 8 s by the server's clock; a clean exit removes it at once."""
    leases = f"{engine_prefix}.nodes.{{53t}}"
    async with running(valkey.url, prefix=engine_prefix) as node:
        assert node.engine.presence is not None
        assert [] == valkey.command("ZRANGE", leases, 0, -1)
        who, asked = client(), now_at(valkey)
        await good(node.engine.presence.add, ROOM, who, True)
        ((incarnation, expiry),) = valkey.command("ZRANGE", leases, 0, -1, "WITHSCORES")
        assert f"{node.engine.node}.1".encode() == incarnation
        assert asked + 8_000 <= expiry + 1 <= now_at(valkey) + 8_001
        await good(node.engine.presence.remove, ROOM, who.client, True)
    assert [] == valkey.command("ZRANGE", leases, 0, -1)


async def test_a_lease_with_entries_is_left_to_run_out(valkey: Valkey, engine_prefix: str) -> None:
    """A node that leaves clients behind keeps its lease, so that they can be found and reaped."""
    async with running(valkey.url, prefix=engine_prefix) as node:
        assert node.engine.presence is not None
        await good(node.engine.presence.add, ROOM, client(), True)
    assert 1 == valkey.command("ZCARD", f"{engine_prefix}.nodes.{{53t}}")
    assert 1 == valkey.command("SCARD", f"{engine_prefix}.owned.{{53t}}.{node.engine.node}.1")


async def test_commands_missed_during_a_cut_are_made_up_for(valkey: Valkey, engine_prefix: str) -> None:
    """A command that the pub/sub link did not carry is read from history, once and in order."""
    async with running(valkey.url, prefix=engine_prefix) as one, running(valkey.url, prefix=engine_prefix) as two:
        commands = [DisconnectClients(id=str(n)) for n in range(4)]
        await good(one.engine.control.send, commands[0])
        await two.sink.until_count("commanded", 1)
        # What a lost message looks like: it is in the stream, and it was never published.
        store_unheard(valkey, engine_prefix, commands[1])
        store_unheard(valkey, engine_prefix, commands[2])
        await good(one.engine.control.send, commands[3])
        for node in (one, two):
            await node.sink.until_count("commanded", 4)
            assert {"0", "1", "2", "3"} == {command.id for (command,) in node.sink.of("commanded")}
        await good(one.engine.control.send, DisconnectClients(id="4"))
        await two.sink.until_count("commanded", 5)


async def test_commands_survive_a_new_stream(valkey: Valkey, engine_prefix: str) -> None:
    """When the stream of commands is lost, those in the new one are carried out, all of them."""
    async with running(valkey.url, prefix=engine_prefix) as node:
        await good(node.engine.control.send, DisconnectClients(id="old"))
        await node.sink.until_count("commanded", 1)
        valkey.command("DEL", f"{engine_prefix}.control.meta.{{53t}}.commands")
        store_unheard(valkey, engine_prefix, DisconnectClients(id="1"))
        await good(node.engine.control.send, DisconnectClients(id="2"))
        await node.sink.until_count("commanded", 3)
        assert {"old", "1", "2"} == {command.id for (command,) in node.sink.of("commanded")}


async def test_a_new_node_does_not_carry_out_old_commands(valkey: Valkey, engine_prefix: str) -> None:
    """Reading starts at the top: what was said before a node lived is not for it."""
    async with running(valkey.url, prefix=engine_prefix) as old:
        await good(old.engine.control.send, DisconnectClients(id="1"))
        async with running(valkey.url, prefix=engine_prefix) as new:
            await good(old.engine.control.send, DisconnectClients(id="2"))
            await new.sink.until_count("commanded", 1)
            assert ["2"] == [command.id for (command,) in new.sink.of("commanded")]


async def test_unknown_commands_and_words_are_counted(valkey: Valkey, engine_prefix: str) -> None:
    """What a newer release says is dropped and counted, the rest goes on."""
    async with running(valkey.url, prefix=engine_prefix) as node:
        store_unheard(valkey, engine_prefix, {"type": "fly", "id": "1"})
        payload = b"1:0::" + msgspec.msgpack.encode([b'{"type":"whisper"}', 0])
        valkey.command("PUBLISH", f"{engine_prefix}.control.client.{{53t}}.nodes", payload)
        await good(node.engine.control.send, DisconnectClients(id="2"))
        await node.sink.until_count("commanded", 1)

        async def counted() -> bool:
            return node.recorder.counts["redis_foreign_payloads", ""] == 2

        await eventually(counted)


async def test_a_node_that_leaves_is_forgotten_at_once(valkey: Valkey, engine_prefix: str) -> None:
    """A clean exit says goodbye."""
    async with running(valkey.url, prefix=engine_prefix) as one:
        async with running(valkey.url, prefix=engine_prefix) as two:
            await eventually_knows(one, {one.engine.node, two.engine.node})
        await eventually_knows(one, {one.engine.node})


async def test_a_node_that_falls_silent_is_forgotten(valkey: Valkey, engine_prefix: str) -> None:
    """Ten seconds after its last announcement a node is not listed any more."""
    clock = ManualClock()
    async with (
        running(valkey.url, prefix=engine_prefix, clock=clock) as one,
        running(valkey.url, prefix=engine_prefix) as two,
    ):
        await eventually_knows(one, {one.engine.node, two.engine.node})
        clock.advance(10.0)
        assert {one.engine.node} == set(one.engine.control.nodes())


async def test_what_waits_when_an_engine_closes_is_answered(valkey: Valkey, engine_prefix: str) -> None:
    """A survey, a subscription and a publication under way end in a fault; later calls fail at once."""
    outcomes: list[object] = []
    async with running(valkey.url, prefix=engine_prefix) as node, running(valkey.url, prefix=engine_prefix) as other:
        other.sink.answer = _silence
        await eventually_knows(node, {node.engine.node, other.engine.node})
        node.engine.control.ask(Survey(id="1", op="x"), 3600.0, outcomes.append)
        await other.sink.until_count("surveyed", 1)
    async with running(valkey.url, prefix=engine_prefix) as node:
        node.engine.broker.subscribe(ROOM, outcomes.append)
        node.engine.broker.publish(ROOM, b"{}", PLAIN, lambda _: None)
    await asyncio.sleep(0)
    assert ["down", "down"] == [fault.kind for fault in outcomes if isinstance(fault, EngineFault)]
    late = await outcome(node.engine.broker.publish, ROOM, b"{}", PLAIN)
    assert isinstance(late, EngineFault)
    assert "down" == late.kind


async def test_unheard_publications_are_counted(valkey: Valkey, engine_prefix: str) -> None:
    """A publication without any receiver, although this node listens, is the sign of a deaf link."""
    async with running(valkey.url, prefix=engine_prefix) as node:
        await good(node.engine.broker.publish, ROOM, b"{}", PLAIN)
        assert 0 == node.recorder.counts["redis_publish_zero_receivers", ""]
        await good(node.engine.broker.subscribe, ROOM)
        # Subscribed by the table's account, and not on the server: what a failover can leave behind.
        assert isinstance(node.engine, RedisEngine)
        node.engine.layout.servers[0].pubsub.tell(("UNSUBSCRIBE", f"{engine_prefix}.client.{{53t}}.{ROOM}"))

        async def unheard() -> bool:
            await good(node.engine.broker.publish, ROOM, b"{}", PLAIN)
            await good(node.engine.broker.publish, ROOM, b"{}", KEPT)
            return node.recorder.counts["redis_publish_zero_receivers", ""] >= 2

        await eventually(unheard)


def now_at(server: Valkey) -> float:
    """Return the time of a server in milliseconds."""
    seconds, micros = server.command("TIME")
    return float(seconds * 1000 + micros / 1000)


def store_unheard(server: Valkey, prefix: str, command: object) -> None:
    """Put a command into the stream without publishing it."""
    start = f"{prefix}.control"
    if not server.command("HEXISTS", f"{start}.meta.{{53t}}.commands", "e"):
        server.command("DEL", f"{start}.stream.{{53t}}.commands")
        salt = server.command("HGET", f"{start}.salt.{{53t}}", "n")
        server.command("HSET", f"{start}.meta.{{53t}}.commands", "e", "another", "r", salt)
    offset = server.command("HINCRBY", f"{start}.meta.{{53t}}.commands", "s", 1)
    blob = msgspec.msgpack.encode([msgspec.json.encode(command), 0])
    server.command("XADD", f"{start}.stream.{{53t}}.commands", f"{offset}-0", "d", blob)


async def eventually_knows(node: Node, expected: set[str]) -> None:
    """Wait until the node's table holds exactly these."""

    async def known() -> bool:
        return expected == set(node.engine.control.nodes())

    await eventually(known)


async def ready(node: Node) -> None:
    """Wait until nothing is wrong."""

    async def no_faults() -> bool:
        return not node.engine.faults() and not node.engine.outages()

    await eventually(no_faults)


def _silence(_question: Survey) -> bytes:
    raise RuntimeError("this node never answers")
