"""The Redis engine in front of servers that refuse it, are not what they were, or are not where they were."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.address import Address
from gateway.engines.redis.library import Library
from gateway.engines.redis.link import Role
from gateway.engines.redis.server import ROLE_EVERY, Server
from gateway.errors import EngineFault, OperatorError
from gateway.protocol.values import HistoryQuery, PublishOptions
from gateway.types import Channel, NodeId, Position
from tests.support.engines import GENEROUS, Node, RealClock, SkippingClock, client, eventually, good, outcome, running
from tests.support.exactness import within
from tests.support.ports import free_port
from tests.support.recorder import MemoryRecorder
from tests.support.valkey import Valkey

ROOM, LEFT = Channel("chat:lobby"), Channel("chat:left")
PLAIN = PublishOptions()
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)
ONCE = PublishOptions(idempotency_key="k")
KEPT_ONCE = PublishOptions(idempotency_key="k", history_size=10, history_ttl=60.0, history_meta_ttl=600.0)
EVERYTHING = HistoryQuery(-1, meta_ttl=600.0)
SALT = "gateway.salt.{53t}"


@pytest.fixture(name="own_valkey")
def _own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Return a server that the test may do anything to."""
    yield from _server(tmp_path / "one")


@pytest.fixture(name="other_valkey")
def _other_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Return another."""
    yield from _server(tmp_path / "two")


def _server(folder: Path) -> Iterator[Valkey]:
    folder.mkdir()
    server = Valkey(folder)
    server.start()
    yield server
    server.stop()


async def until(condition: Callable[[], object], seconds: float) -> None:
    """Wait for a condition that nobody announces, so long at most: as promised, or some times of it."""

    async def holds() -> object:
        return condition()

    async with asyncio.timeout(within(seconds, otherwise=5.0)):
        await eventually(holds)


async def kind(node: Node, options: PublishOptions) -> str:
    """Publish; return the kind of the fault, or nothing."""
    came = await outcome(node.engine.broker.publish, ROOM, b"{}", options)
    return came.kind if isinstance(came, EngineFault) else ""


def probes(node: Node) -> int:
    """Return how many probes have come in."""
    return [name for name, _ in node.recorder.observations].count("redis_pubsub_probe_rtt")


def said(server: Valkey, field: str) -> str:
    """Return one line of what a server says about itself."""
    with Redis(port=server.port) as operator:
        return str(operator.info()[field])


def named(server: Valkey, name: str) -> list[int]:
    """Return the clients of a server that have this name."""
    listed = server.command("CLIENT", "LIST")
    lines = (listed.decode() if isinstance(listed, bytes) else str(listed)).splitlines()
    clients = [dict(part.split("=", 1) for part in line.split()) for line in lines]
    return [int(client["id"]) for client in clients if client["name"] == name]


async def test_a_demoted_primary_is_left_by_both_links(own_valkey: Valkey) -> None:
    """Nothing is stored there from the first moment, nothing published after 3 s, and nobody listens there any more."""
    async with running(own_valkey.url) as node:
        await good(node.engine.broker.publish, ROOM, b"1", KEPT)
        own_valkey.command("REPLICAOF", "127.0.0.1", free_port())
        demoted = time.monotonic()
        assert "readonly" == await kind(node, KEPT)
        await until(lambda: not named(own_valkey, "gateway-pubsub"), demoted + 3.0 - time.monotonic())
        for _ in range(50):
            assert "down" == await kind(node, PLAIN)
            assert "down" == await kind(node, KEPT)
        await until(lambda: any("is a replica" in line for line in node.engine.outages()), 3.0)


async def test_a_demotion_that_nobody_runs_into_is_noticed(own_valkey: Valkey) -> None:
    """Without a single call the salt's write finds out; a publication without history would have gone to nobody."""
    async with running(own_valkey.url) as node:
        await until(lambda: probes(node) == 1, 3.0)  # its role has been asked for once
        own_valkey.command("REPLICAOF", "127.0.0.1", free_port())
        await until(lambda: any("is a replica" in line for line in node.engine.outages()), 3.0)
        assert "down" == await kind(node, PLAIN)


async def test_a_replica_that_may_be_written_to_is_noticed_too(own_valkey: Valkey) -> None:
    """It does not answer READONLY; its role is asked for every ten seconds."""
    own_valkey.command("CONFIG", "SET", "replica-read-only", "no")
    clock = SkippingClock()
    async with running(own_valkey.url, clock=clock) as node:
        await until(lambda: probes(node) == 1, 3.0)  # with the first its role was asked for, too
        own_valkey.command("REPLICAOF", "127.0.0.1", free_port())
        await until(lambda: probes(node) >= 2, 3.0)
        assert [] == list(node.engine.outages()), "it is noticed without its role, too"
        clock.skip(ROLE_EVERY)
        await until(lambda: any("is a replica" in line for line in node.engine.outages()), 3.0)
        await until(lambda: not named(own_valkey, "gateway-pubsub"), 3.0)


@pytest.mark.parametrize(("cut", "follows"), [("command", "pubsub"), ("pubsub", "command")])
async def test_both_links_of_a_server_lead_to_one_process(
    own_valkey: Valkey, other_valkey: Valkey, cut: Role, follows: Role
) -> None:
    """When one link is led elsewhere, the other is built again: what one says, the other would never hear."""
    ports = [own_valkey.port]

    async def locate() -> Address:
        return Address("127.0.0.1", ports[-1])

    recorder = MemoryRecorder()
    options = EngineOptions(node=NodeId("n"), recorder=recorder)
    server = Server("moving", locate, library=Library(), clock=RealClock(), options=options)
    life = asyncio.create_task(server.run())
    await asyncio.wait_for(server.stands(), GENEROUS)
    ports.append(other_valkey.port)
    (client,) = named(own_valkey, f"gateway-{cut}")
    assert 1 == own_valkey.command("CLIENT", "KILL", "ID", client)
    await until(lambda: 1 == recorder.counts["redis_reconnects", follows], 3.0)
    await asyncio.wait_for(server.stands(), GENEROUS)
    assert 1 == recorder.counts["redis_reconnects", cut]
    assert [1, 1] == [len(named(other_valkey, f"gateway-{role}")) for role in ("command", "pubsub")]
    assert [0, 0] == [len(named(own_valkey, f"gateway-{role}")) for role in ("command", "pubsub")]
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


async def test_a_server_that_runs_a_script_without_end_is_busy(own_valkey: Valkey) -> None:
    """Busy is an answer: no link is lost, and all is well when the script is killed.

    What was to be subscribed and unsubscribed meanwhile, is then.
    """
    own_valkey.command("CONFIG", "SET", "busy-reply-threshold", 50)
    async with running(own_valkey.url) as node:
        await good(node.engine.broker.subscribe, LEFT)
        with Redis(port=own_valkey.port, single_connection_client=True) as operator:
            script = asyncio.create_task(asyncio.to_thread(_run, operator, "while true do end"))
            answers: list[str] = []

            async def busy() -> bool:
                answers.append(await kind(node, KEPT))
                return "busy" == answers[-1]

            await eventually(busy)
            assert "busy" == await kind(node, PLAIN)
            node.engine.broker.unsubscribe(LEFT)
            subscribing = asyncio.create_task(outcome(node.engine.broker.subscribe, ROOM))
            refused = node.recorder.counts["redis_errors", "busy"]
            await until(lambda: node.recorder.counts["redis_errors", "busy"] >= refused + 8, 5.0)
            own_valkey.command("SCRIPT", "KILL")
            assert "killed" in await script
        assert None is await subscribing
        await until(lambda: not node.engine.outages(), 5.0)
        assert not await kind(node, KEPT)
        await node.sink.until(lambda: node.sink.data(ROOM))
        await until(lambda: not any(b"left" in it for it in listened(own_valkey)), 5.0)
        assert {0} == {node.recorder.counts["redis_reconnects", role] for role in ("command", "pubsub")}


def listened(server: Valkey) -> list[bytes]:
    """Return the pub/sub channels that somebody listens to."""
    with Redis(port=server.port) as operator:
        return list(operator.pubsub_channels())


def _run(operator: Redis, script: str) -> str:
    try:
        operator.eval(script, 0)
    except Exception as error:  # noqa: BLE001 - whatever the client library makes of the answer is the answer
        return str(error)
    return ""


async def test_a_server_that_loads_its_data_is_waited_for(own_valkey: Valkey, tmp_path: Path) -> None:
    """It is asked again at intervals, the fault says why, and within 5 s of its being done all works."""
    with Redis(port=own_valkey.port) as operator:
        operator.mset({f"k{n}": "x" for n in range(3000)})
    own_valkey.command("SAVE")
    own_valkey.stop()
    slow = Valkey(tmp_path / "one", "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    async with running(slow.url, wait_ready=False) as node:
        start = asyncio.create_task(asyncio.to_thread(slow.start))
        try:
            await until(lambda: any("LOADING" in line for line in node.engine.outages()), 8.0)
            assert node.engine.faults(), "a node that was never connected is unfit"
            await start
            await until(lambda: not node.engine.outages(), 5.0)
            assert not await kind(node, KEPT)
        finally:
            await start
            slow.stop()


async def test_a_server_without_enough_replicas_takes_no_writes(own_valkey: Valkey) -> None:
    """NOREPLICAS refuses what would be stored, and nothing else; links that are built meanwhile stand."""
    async with running(own_valkey.url) as node:
        own_valkey.command("CONFIG", "SET", "min-replicas-to-write", 1)
        assert "readonly" == await kind(node, KEPT)
        own_valkey.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: 1 == node.recorder.counts["redis_reconnects", "command"], 3.0)
        assert not await kind(node, PLAIN)
        own_valkey.command("CONFIG", "SET", "min-replicas-to-write", 0)
        assert not await kind(node, KEPT)


@pytest.mark.parametrize(("setting", "refused"), [("maxmemory", "oom"), ("min-replicas-to-write", "readonly")])
@pytest.mark.parametrize("options", [ONCE, KEPT_ONCE], ids=["in passing", "kept"])
async def test_what_was_refused_was_not_delivered(
    own_valkey: Valkey, options: PublishOptions, setting: str, refused: str
) -> None:
    """A publication with an idempotency key is an error and nobody has it, until it is taken; then it comes once."""
    async with running(own_valkey.url) as node:
        await good(node.engine.broker.subscribe, ROOM)
        own_valkey.command("CONFIG", "SET", setting, 1)
        assert [refused] * 2 == [await kind(node, options) for _ in range(2)]
        own_valkey.command("CONFIG", "SET", setting, 0)
        assert [""] * 2 == [await kind(node, options) for _ in range(2)]
        await good(node.engine.broker.publish, ROOM, b"last", PLAIN)
        await node.sink.until(lambda: b"last" in node.sink.data(ROOM))
        assert [b"{}", b"last"] == node.sink.data(ROOM)


async def test_what_is_kept_can_be_read_where_nothing_can_be_written(own_valkey: Valkey) -> None:
    """NOREPLICAS refuses to prolong the life of a stream's identity, and that is no reason not to read; READONLY is."""
    async with running(own_valkey.url) as node:
        position = (await good(node.engine.broker.publish, ROOM, b"1", KEPT)).position
        own_valkey.command("CONFIG", "SET", "min-replicas-to-write", 1)
        assert node.engine.history is not None
        page = await good(node.engine.history.read, ROOM, EVERYTHING)
        assert ([b"1"], position) == ([it.data for it in page.publications], page.top)
        own_valkey.command("REPLICAOF", "127.0.0.1", free_port())
        assert "readonly" == (await outcome(node.engine.history.read, ROOM, EVERYTHING)).kind


async def test_a_promoted_server_without_replicas_is_worked_with(own_valkey: Valkey) -> None:
    """What needs no write goes on there at once; streams wait until it is noted that another server wrote them."""
    async with running(own_valkey.url) as node:
        before = (await good(node.engine.broker.publish, ROOM, b"1", KEPT)).position
        await good(node.engine.broker.subscribe, ROOM)
        own_valkey.command("HSET", SALT, "r", "another")
        own_valkey.command("CONFIG", "SET", "min-replicas-to-write", 1)
        own_valkey.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: 1 == node.recorder.counts["redis_reconnects", "command"], 3.0)
        assert not await kind(node, PLAIN)
        await node.sink.until(lambda: b"{}" in node.sink.data(ROOM))
        assert "readonly" == await kind(node, KEPT)
        assert node.engine.history is not None
        assert "readonly" == (await outcome(node.engine.history.read, ROOM, EVERYTHING)).kind
        own_valkey.command("CONFIG", "SET", "min-replicas-to-write", 0)
        taken: list[Position] = []

        async def gone_on() -> bool:
            came = await outcome(node.engine.broker.publish, ROOM, b"2", KEPT)
            taken.extend([] if isinstance(came, EngineFault) else [came.position])
            return bool(taken)

        await eventually(gone_on)
        assert (1, True) == (taken[0].offset, taken[0].epoch != before.epoch)
        assert 1 == node.recorder.counts["redis_epochs_begun", ""]
        assert 1 == node.recorder.counts["redis_reconnects", "command"]


async def test_who_is_present_outlasts_a_time_without_writes(own_valkey: Valkey) -> None:
    """Nobody can renew a lease then, all run out alike: no link is built again, and nobody is announced as gone."""
    alice = client("alice")
    async with running(own_valkey.url, presence_ttl=2.0) as node, running(own_valkey.url, presence_ttl=2.0) as ears:
        assert node.engine.presence is not None
        await good(ears.engine.broker.subscribe, ROOM)
        await good(node.engine.presence.add, ROOM, alice, True)
        node.sink.entries.append((ROOM, alice, True))
        own_valkey.command("CONFIG", "SET", "min-replicas-to-write", 1)
        refused = node.recorder.counts["redis_errors", "readonly"]
        await until(lambda: node.recorder.counts["redis_errors", "readonly"] >= refused + 6, 5.0)  # four in a lease
        assert not node.engine.faults()
        own_valkey.command("CONFIG", "SET", "min-replicas-to-write", 0)
        renewed = probes(node)
        await until(lambda: probes(node) >= renewed + 2, 5.0)
        assert [alice.client] == list(await good(node.engine.presence.members, ROOM))
        assert [] == ears.sink.of("left")
        for one in (node, ears):
            assert {0} == {one.recorder.counts["redis_reconnects", role] for role in ("command", "pubsub")}
            assert 0 == one.recorder.counts["presence_refresh_failures", ""]


async def test_a_server_that_cannot_save_takes_no_writes(own_valkey: Valkey, tmp_path: Path) -> None:
    """MISCONF refuses what would be stored, and nothing else."""
    async with running(own_valkey.url) as node:
        await good(node.engine.broker.publish, ROOM, b"1", KEPT)
        own_valkey.command("CONFIG", "SET", "save", "3600 1000000")
        shutil.rmtree(tmp_path / "one")
        own_valkey.command("BGSAVE")
        await until(lambda: "err" == said(own_valkey, "rdb_last_bgsave_status"), 3.0)
        assert "readonly" == await kind(node, KEPT)
        assert not await kind(node, PLAIN)
        own_valkey.command("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        assert not await kind(node, KEPT)
        assert 0 == node.recorder.counts["redis_reconnects", "command"]


async def test_a_server_that_is_full_of_clients_is_not_pressed(own_valkey: Valkey) -> None:
    """Refused at the door, a node tries at most once a second over both links, and is back when there is room."""
    async with running(own_valkey.url) as node:
        with Redis(port=own_valkey.port, single_connection_client=True) as operator:
            operator.config_set("maxclients", 1)
            before = operator.info()["rejected_connections"]
            links = [*named_by(operator, "gateway-command"), *named_by(operator, "gateway-pubsub")]
            assert 2 == len(links)
            for client in links:
                operator.client_kill_filter(_id=client)
            await until(lambda: operator.info()["rejected_connections"] >= before + 2, 3.0)
            began, first = time.monotonic(), operator.info()["rejected_connections"]
            await until(lambda: time.monotonic() - began >= 5.0, 6.0)
            assert first < operator.info()["rejected_connections"] <= first + 6  # 5 s, both ends included
            assert any("max number of clients" in line for line in node.engine.outages())
            operator.config_set("maxclients", 100)
            await until(lambda: not node.engine.outages(), 5.0)
        assert not await kind(node, KEPT)


def named_by(operator: Redis, name: str) -> list[int]:
    """Return the clients of this name, asked over a connection that stands."""
    return [int(client["id"]) for client in operator.client_list() if client["name"] == name]


async def test_a_wrong_password_is_not_waited_for(own_valkey: Valkey) -> None:
    """A refusal that only the operator can mend ends the start at once."""
    own_valkey.command("ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all")
    began = time.monotonic()
    with pytest.raises(OperatorError, match="WRONGPASS"):
        async with running(f"redis://gate:wrong@127.0.0.1:{own_valkey.port}/0"):
            pytest.fail("entered")
    assert time.monotonic() - began < within(1.5, otherwise=4.0)
