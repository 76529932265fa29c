"""Presence in Redis when nodes, links or the server fail: ghosts go, the living stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from redis import Redis

from gateway.contracts.presence import PresenceStore
from gateway.engines.redis import RedisEngine
from gateway.engines.redis.presence import ENTERING, NOT_TAKEN
from gateway.errors import EngineFault
from gateway.protocol.values import PresenceStats
from gateway.types import Channel, ClientInfo, ConnectionId
from tests.support.engines import GENEROUS, Node, client, eventually, good, outcome, running
from tests.support.exactness import within
from tests.support.presence import LOUD, House, Seats
from tests.support.valkey import Valkey

ROOM = Channel("chat:lobby")
TTL = 3.0  # seconds
IN_TIME = 13 / 8 * TTL + 3.0  # the lease, until it is seen, and once more; then the sweeps' own rhythm, and the work
MANY = 5_000
AT_ONCE = 500


@pytest.fixture(name="own_valkey")
def _own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Return a server that the test may stop and stall."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="house")
async def _house(valkey: Valkey, engine_prefix: str) -> AsyncIterator[House]:
    """Return a server of which the test turns every link by hand."""
    with Redis(port=valkey.port) as redis:
        house = House(redis, engine_prefix)
        await house.open()
        yield house
        house.close()


def store(node: Node) -> PresenceStore:
    """Return a node's presence store."""
    assert node.engine.presence is not None
    return node.engine.presence


async def enter(node: Node, *users: str) -> list[ClientInfo]:
    """Enter clients, and let their node remember them as it would its connections."""
    clients = [client(user) for user in users]
    for who in clients:
        node.sink.entries.append((ROOM, who, True))
    await asyncio.gather(*(good(store(node).add, ROOM, who, True) for who in clients))
    return clients


async def die(node: Node) -> None:
    """End a node as SIGKILL would: it says nothing, its connections are gone."""
    assert isinstance(node.engine, RedisEngine)
    await node.engine._chores.aclose()


async def eventually_there(node: Node, expected: list[ClientInfo]) -> None:
    """Wait until exactly these are in the room."""
    ids = {who.client for who in expected}

    async def there() -> bool:
        came = await outcome(store(node).members, ROOM)
        return not isinstance(came, EngineFault) and set(came) == ids

    await eventually(there)


async def test_a_dead_node_leaves_in_time(valkey: Valkey, engine_prefix: str) -> None:
    """All entries of a dead node are announced as gone in time, once each, by several reapers."""

    def node() -> AbstractAsyncContextManager[Node]:
        return running(valkey.url, prefix=engine_prefix, presence_ttl=TTL)

    async with node() as dead, node() as one, node() as two:
        await good(one.engine.broker.subscribe, ROOM)
        await enter(one, "alice")
        for some in range(MANY // AT_ONCE):  # leases are renewed between: on a starved machine all at once take seconds
            await enter(dead, *["alice"] * (AT_ONCE // 2), *["bob"] * (AT_ONCE // 2))
            await one.sink.until_count("joined", 1 + (some + 1) * AT_ONCE)
        await die(dead)
        died = time.monotonic()
        await one.sink.until_count("left", MANY)
        assert time.monotonic() - died < within(IN_TIME, otherwise=2.5)
        assert PresenceStats(1, 1) == await good(store(one).stats, ROOM)
        left = one.sink.of("left")
        assert len({who for _, who, _ in left}) == len(left) == MANY
        assert 1 == sum(last for _, _, last in left), "the last of bob; alice is still there"
        assert MANY == sum(it.recorder.counts["presence_expired", ""] for it in (one, two))
        assert 1 == valkey.command("ZCARD", f"{engine_prefix}.nodes.{{53t}}")


async def test_an_empty_restart_is_made_up_for(own_valkey: Valkey) -> None:
    """After a restart without data everybody is there again, entered by their nodes, and joins anew; nobody leaves."""
    async with running(own_valkey.url) as one, running(own_valkey.url) as two:
        clients = [*await enter(one, "alice", "bob"), *await enter(two, "alice")]
        await good(one.engine.broker.subscribe, ROOM)
        one.sink.log.clear()
        own_valkey.stop()
        own_valkey.start()
        await eventually_there(two, clients)
        await one.sink.until(lambda: one.sink.of("suspect"))
        assert [] == one.sink.of("left")
        assert PresenceStats(3, 2) == await good(store(one).stats, ROOM)


async def test_a_flush_is_noticed_and_made_up_for(own_valkey: Valkey) -> None:
    """Nodes whose lease is gone enter all anew, with joins and without leaves; their channels become suspect."""
    url = own_valkey.url
    async with running(url, presence_ttl=TTL) as one, running(url, presence_ttl=TTL) as two, running(url) as ears:
        clients = [*await enter(one, *["alice"] * 600), *await enter(two, "bob")]
        for node in (one, ears):
            await good(node.engine.broker.subscribe, ROOM)
        own_valkey.command("FLUSHALL")
        await ears.sink.until_count("joined", 601)
        await one.sink.until(lambda: one.sink.of("suspect"))
        await eventually_there(ears, clients)
        assert [] == ears.sink.of("left")
        failures = [node.recorder.counts["presence_refresh_failures", ""] for node in (one, two, ears)]
        assert [1, 1, 0] == failures


async def test_a_stall_of_redis_kills_nobody(own_valkey: Valkey) -> None:
    """After a stall longer than the lease everybody looks dead; the living renew first, and nobody is announced."""
    async with running(own_valkey.url, presence_ttl=TTL) as one, running(own_valkey.url, presence_ttl=TTL) as two:
        clients = [*await enter(one, "alice", "bob"), *await enter(two, "carol")]
        await good(one.engine.broker.subscribe, ROOM)
        own_valkey.stall()
        await asyncio.sleep(TTL * 10 / 8)  # the fault itself: leases run out meanwhile
        own_valkey.go_on()

        async def anew() -> bool:
            incarnations = own_valkey.command("ZRANGE", "gateway.nodes.{53t}", 0, -1)
            return sorted(incarnations) == sorted(f"{node.engine.node}.2".encode() for node in (one, two))

        await eventually(anew)
        await asyncio.sleep(TTL)  # long enough for anybody to be reaped who would be
        await eventually_there(one, clients)
        assert [] == one.sink.of("left")
        assert 0 == one.recorder.counts["presence_expired", ""] + two.recorder.counts["presence_expired", ""]


async def test_a_leave_at_the_moment_of_a_cut_is_made_up_for(own_valkey: Valkey) -> None:
    """A removal that the server never got leaves no ghost: its entry goes, and is announced, within seconds."""
    async with running(own_valkey.url) as one, running(own_valkey.url) as two:
        stays, goes = await enter(one, "alice", "bob")
        await good(two.engine.broker.subscribe, ROOM)
        assert isinstance(one.engine, RedisEngine)
        one.engine.layout.servers[0].commands.abort("cut by the test")
        one.sink.entries = [(ROOM, stays, True)]
        store(one).remove(ROOM, goes.client, True, _ignore)
        cut = time.monotonic()
        await two.sink.until_count("left", 1)
        assert time.monotonic() - cut < within(5.0, otherwise=2.0)
        assert [(ROOM, goes.client, True)] == two.sink.of("left")
        await eventually_there(two, [stays])
        assert 0 == one.recorder.counts["presence_refresh_failures", ""], "a cut is no loss of the lease"


async def test_leases_are_renewed_on_a_full_server(own_valkey: Valkey) -> None:
    """A server without memory refuses new entries; those who are there stay."""
    async with running(own_valkey.url, presence_ttl=TTL) as one, running(own_valkey.url, presence_ttl=TTL) as idle:
        clients = await enter(one, "alice")
        own_valkey.command("CONFIG", "SET", "maxmemory", 1)
        before = own_valkey.command("ZSCORE", "gateway.nodes.{53t}", f"{one.engine.node}.1")

        async def renewed() -> bool:
            return bool(
                own_valkey.command("ZSCORE", "gateway.nodes.{53t}", f"{one.engine.node}.1") > before + TTL * 1000
            )

        await eventually(renewed)
        await eventually_there(idle, clients)
        assert 0 == idle.recorder.counts["presence_expired", ""]


async def test_late_commands_of_an_ended_connection_harm_nobody(house: House) -> None:
    """What an old connection still had in flight, an add and a removal, does not touch a later incarnation's entry."""
    node = house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    node.link.cut()
    node.link.build()
    node.presence.tick()
    node.link.serve(1)  # the second incarnation has begun
    assert 1 == len(node.link.queue), "the client is being entered anew"
    (channel, client_id), (who, _) = next(iter(node.held.items()))
    node.leave(channel, client_id)
    node.join(channel, 1)
    node.link.cut()  # all three: entering anew, removal, and the join that follows
    node.link.build()
    node.held[channel, client_id] = (who, object())  # it has come once more
    node.presence.tick()
    for _ in range(2):
        node.link.serve(1)  # the third incarnation has begun, and has entered the client
    holder = house.redis.hget(house.names.presence + LOUD, client_id)
    assert b"n0.3" in holder
    node.link.execute_late(9)
    assert holder == house.redis.hget(house.names.presence + LOUD, client_id)
    node.link.serve(9)
    assert {client_id: 1} == house.entries(LOUD)
    assert [("j", True, who.user, client_id)] == house.announced()


async def test_a_lost_lease_makes_a_node_unfit_until_all_is_entered_anew(house: House) -> None:
    """It says so from the moment it knows; a connection that was built again is no loss and takes nobody out."""
    node = house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    house.lose_everything()
    house.pass_time(2.0)
    node.presence.tick()
    node.link.serve(9)
    await asyncio.sleep(0)
    assert [ENTERING] == list(node.presence.faults())
    assert 1 == node.link.aborted, "publications may be missing too"
    node.link.serve(1)
    assert [ENTERING] == list(node.presence.faults())
    node.link.serve(1)
    assert [] == list(node.presence.faults())
    assert 1 == len(house.entries(LOUD))
    node.link.cut()
    node.link.build()
    node.presence.tick()
    assert [] == list(node.presence.faults())
    assert 1 == node.link.aborted


async def test_an_outage_while_entering_anew_makes_nobody_unfit(house: House) -> None:
    """All nodes share it: none could take over from another. When it is over this node says again what it does."""
    node = house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    house.lose_everything()
    house.pass_time(2.0)
    node.presence.tick()
    node.link.serve(9)
    await asyncio.sleep(0)
    assert [ENTERING] == list(node.presence.faults())
    node.link.cut()
    assert [] == list(node.presence.faults())
    node.link.build()
    node.presence.tick()
    assert [ENTERING] == list(node.presence.faults())
    await serve_all(node)
    assert [] == list(node.presence.faults())
    assert 1 == len(house.entries(LOUD))


async def test_a_refused_removal_leaves_no_ghost(house: House) -> None:
    """Its entry must not live as long as the node: the next renewal begins an incarnation that does not hold it."""
    node = house.add_node()
    node.join(LOUD, 0)
    node.join(LOUD, 2)
    node.link.serve(9)
    node.link.refusing = "readonly"
    node.leave(LOUD, ConnectionId("n0-0"))
    node.link.serve(1)
    assert {"n0-0", "n0-2"} == set(house.entries(LOUD)), "it was not refused"
    house.pass_time(2.0)
    node.presence.tick()
    await serve_all(node)
    assert {"n0-2": 1} == house.entries(LOUD)
    assert [("j", "n0-0"), ("j", "n0-2"), ("l", "n0-0")] == [(kind, who) for kind, _, _, who in house.announced()]
    assert [b"n0.2"] == house.redis.zrange(house.names.nodes, 0, -1)


async def test_a_lease_that_is_renewed_at_the_last_moment_is_not_reaped(house: House) -> None:
    """Another node has seen it overdue for long enough and asked for its end; when that is done it stands again."""
    node, other = house.add_node(), house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    house.pass_time(9.0)
    for seconds in (0.0, 2.0, 1.5):
        house.pass_time(seconds)
        other.presence.tick()
        other.link.serve(1)
    assert 1 == len(other.link.queue), "the end of the other is asked for"
    node.presence.tick()
    node.link.serve(1)
    other.link.serve(1)
    await serve_all(node)
    assert [("j", "n0-1")] == [(kind, who) for kind, _, _, who in house.announced()]
    assert {"n0-1": 1} == house.entries(LOUD)
    assert 0 == other.recorder.counts["presence_expired", ""]


async def test_while_a_node_enters_anew_nobody_of_its_is_announced_as_gone(house: House) -> None:
    """However long that takes: the former incarnation's lease is renewed until all have changed hands."""
    node, other = house.add_node(), house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    node.link.cut()
    node.link.build()
    node.presence.tick()
    node.link.serve(1)
    for _ in range(7):
        node.link.refusing = "oom"
        node.link.serve(1)
        house.pass_time(2.0)
        house.tick()
        node.link.serve(1)
        other.link.serve(9)
    await serve_all(node)
    assert [("j", "n0-1")] == [(kind, who) for kind, _, _, who in house.announced()]
    assert {"n0-1": 1} == house.entries(LOUD)
    assert [b"n0.2"] == house.redis.zrange(house.names.nodes, 0, -1)


async def test_what_is_refused_while_entering_anew_is_entered_later(house: House) -> None:
    """With the next renewal all are there but for who has left meanwhile; until then all nodes share an outage."""
    node = house.add_node()
    for number in range(3):
        node.join(LOUD, number)
    node.link.serve(9)
    house.lose_everything()
    house.pass_time(2.0)
    node.presence.tick()
    node.link.serve(1)
    await asyncio.sleep(0)
    node.link.serve(1)
    for _ in range(3):
        node.link.refusing = "oom"
        node.link.serve(1)
    assert 0 == len(node.link.queue), "tried again at once, a full server would be asked without end"
    assert [] == list(node.presence.faults()), "no other node could take over"
    assert [f"{NOT_TAKEN} (oom)"] == list(node.presence.outages())
    node.leave(LOUD, ConnectionId("n0-1"))
    house.pass_time(2.0)
    node.presence.tick()
    await serve_all(node)
    assert {"n0-0": 1, "n0-2": 1} == house.entries(LOUD)
    assert [] == list(node.presence.faults())
    assert [] == list(node.presence.outages())


@pytest.mark.parametrize("kind", ["oom", "readonly", "refused", "busy"])
async def test_a_server_that_takes_no_lease_makes_nobody_unfit(house: House, kind: str) -> None:
    """Full of data, or without a right to write, it answers all nodes alike; they go on trying, and say so."""
    node = house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    house.lose_everything()
    house.pass_time(2.0)
    node.presence.tick()
    node.link.serve(9)
    await asyncio.sleep(0)
    assert ([ENTERING], []) == (list(node.presence.faults()), list(node.presence.outages()))
    for _ in range(3):
        node.link.refusing = kind
        node.link.serve(1)
        assert ([], [f"{NOT_TAKEN} ({kind})"]) == (list(node.presence.faults()), list(node.presence.outages()))
        house.pass_time(2.0)
        node.presence.tick()
        assert 1 == len(node.link.queue)
        assert [] == list(node.presence.faults()), "until it has taken something, nothing has changed"
    await serve_all(node)
    assert ([], []) == (list(node.presence.faults()), list(node.presence.outages()))
    assert 1 == len(house.entries(LOUD))


async def refuse(house: House, node: Seats, kind: str, seconds: float) -> None:
    """Let time pass in which each renewal is answered with a refusal."""
    for _ in range(round(seconds / 2.0)):
        house.pass_time(2.0)
        node.presence.tick()
        await asyncio.sleep(0)
        for _ in range(len(node.link.queue)):
            node.link.refusing = kind
            node.link.serve(1)


@pytest.mark.parametrize("seconds", [6.0, 14.0])
@pytest.mark.parametrize("kind", ["readonly", "busy", "oom"])
async def test_a_lease_whose_renewal_was_refused_is_not_lost(house: House, kind: str, seconds: float) -> None:
    """A server that answers keeps its pub/sub link, however long it takes no writes, and all are still there."""
    node, other = house.add_node(), house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    await refuse(house, node, kind, seconds)
    assert [] == list(node.presence.faults())
    house.pass_time(2.0)
    for _ in range(2):
        house.tick()
        await serve_all(node)
        other.link.serve(9)
        house.pass_time(2.0)
    assert 0 == node.link.aborted
    assert 0 == node.recorder.counts["presence_refresh_failures", ""]
    assert [("j", "n0-1")] == [(said, who) for said, _, _, who in house.announced()]
    assert {"n0-1": 1} == house.entries(LOUD)
    assert ([], []) == (list(node.presence.faults()), list(node.presence.outages()))


async def test_a_stall_after_refusals_is_a_loss_all_the_same(house: House) -> None:
    """What was refused long ago excuses nobody who was away for the time of a lease since then."""
    node = house.add_node()
    node.join(LOUD, 1)
    node.link.serve(9)
    await refuse(house, node, "readonly", 2.0)
    house.pass_time(9.0)
    node.presence.tick()
    await asyncio.sleep(0)
    await serve_all(node)
    assert 1 == node.link.aborted
    assert 1 == node.recorder.counts["presence_refresh_failures", ""]


async def test_a_lease_that_begins_late_is_not_lost(house: House) -> None:
    """Its first renewal has no answer in time, and nothing had been there before: it begins once more."""
    node = house.add_node()
    node.join(LOUD, 1)
    node.link.give_up()
    node.join(LOUD, 3)
    await asyncio.sleep(0)
    await serve_all(node)
    assert 0 == node.link.aborted
    assert {"n0-3": 1} == house.entries(LOUD)


async def test_a_second_loss_while_entering_anew(house: House) -> None:
    """When data are lost again in the middle of it, everything is entered under the incarnation after that."""
    node = house.add_node()
    for number in range(3):
        node.join(LOUD, number)
    node.link.serve(9)
    for _ in range(2):
        house.lose_everything()
        house.pass_time(2.0)
        node.presence.tick()
        node.link.serve(1)
        await asyncio.sleep(0)
        node.link.serve(2)
    await serve_all(node)
    assert {"n0-0": 1, "n0-1": 1, "n0-2": 1} == house.entries(LOUD)
    assert [b"n0.3"] == house.redis.zrange(house.names.nodes, 0, -1)
    assert 2 == node.recorder.counts["presence_refresh_failures", ""]


async def serve_all(node: Seats) -> None:
    """Serve until nothing is under way."""
    async with asyncio.timeout(GENEROUS):
        while node.link.queue:
            node.link.serve(1)
            await asyncio.sleep(0)


async def test_what_is_not_ours_is_left_out_and_left_alone(valkey: Valkey, engine_prefix: str) -> None:
    """A foreign member is counted, not shown, and no removal touches it."""
    key = f"{engine_prefix}.presence.{{53t}}.{ROOM}"
    async with running(valkey.url, prefix=engine_prefix) as node:
        valkey.command("HSET", key, "stranger", "1:1:what?")
        (who,) = await enter(node, "alice")
        assert {who.client: who} == await good(store(node).members, ROOM)
        assert 1 == node.recorder.counts["redis_foreign_payloads", ""]
        valkey.command("HSET", key, who.client, "what?")
        await good(store(node).remove, ROOM, who.client, True)
        assert {b"stranger", who.client.encode()} == set(valkey.command("HKEYS", key))


async def test_chunks_are_bounded(house: House) -> None:
    """One call takes out 64 entries at most; the lease goes with the last of them."""
    dead, reaper = house.add_node(), house.add_node()
    for number in range(150):
        dead.join(LOUD, number)
    dead.link.serve(151)
    house.pass_time(9.0)
    left: list[int] = []
    for _ in range(2):
        reaper.presence.tick()
        reaper.link.serve(1)
        house.pass_time(2.0)
    reaper.presence.tick()
    reaper.link.serve(1)
    while reaper.link.queue:
        assert len(left) < 3, f"there is no end: {left}"
        left.append(house.redis.hlen(house.names.presence + LOUD))
        assert 1 == house.redis.zcard(house.names.nodes)
        reaper.link.serve(1)
    assert [150, 86, 22] == left
    assert 0 == house.redis.zcard(house.names.nodes)


def _ignore(_outcome: object) -> None:
    """Take an outcome that does not matter."""
