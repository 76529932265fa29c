from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest

from gateway.disconnects import SHUTDOWN
from gateway.draining import DrainRules
from gateway.node import Node
from gateway.protocol.messages import DisconnectClients, Survey
from gateway.timers import CHUNK
from gateway.types import Identity, UserId
from tests.support.node import PLAIN, ROOM, Client, World, running_node


def order(**fields: Any) -> DisconnectClients:
    """Return a disconnect command."""
    return DisconnectClients(id="1", **fields)


# --- disconnects from anywhere in the cluster


async def test_disconnect_by_user_spares_the_whitelist_and_other_users() -> None:
    """All connections of the user but those named are closed, with the code and reason that were given."""
    async with running_node() as world:
        one, two, other = await world.opened("alice"), await world.opened("alice"), await world.opened("bob")
        world.node.commanded(order(user="alice", whitelist=(two.connection.id,), code=4001, reason="go"))
        await world.settled()
        assert [4001, None, None] == [it.link.code for it in (one, two, other)]
        assert "go" == one.link.closings[0].reason


async def test_disconnect_by_connection_and_by_session() -> None:
    """One connection by its id, all connections of a login by its `sid`; fields are anded."""
    async with running_node() as world:
        for token, session in (("a1", "s1"), ("a2", "s2")):
            world.tokens.identities[token] = Identity(UserId("alice"), session_id=session)
        one, two, third = await world.opened("a1"), await world.opened("a2"), await world.opened("bob")
        waiting = world.client()
        world.node.commanded(order(client=one.connection.id, user="bob"))
        world.node.commanded(order(client="nobody"))
        world.node.commanded(order(user="carol"))
        await world.settled()
        assert [None] * 3 == [it.link.code for it in (one, two, third)]
        world.node.commanded(order(session_id="s2"))
        await world.settled()
        assert [None, 3503, None, None] == [it.link.code for it in (one, two, third, waiting)]
        world.node.commanded(order(client=one.connection.id))
        await world.settled()
        assert [3503, 3503, None] == [it.link.code for it in (one, two, third)]


async def test_a_repeated_command_closes_nothing_twice() -> None:
    """Commands come at least once."""
    async with running_node() as world:
        client = await world.opened("alice")
        for _ in range(2):
            world.node.commanded(order(user="alice"))
            await world.settled()
        assert 1 == len(client.link.closings)


async def test_what_is_no_command_of_ours_is_passed_over() -> None:
    """A newer node may send commands we do not know, and ask what we cannot answer."""
    async with running_node() as world:
        client = await world.opened("alice")
        unknown: Any = object()
        world.node.commanded(unknown)
        assert not client.link.closed
        assert b"" == world.node.surveyed(Survey(id="1", op="?"))


# --- numbers


async def test_a_node_describes_itself_and_counts_by_state() -> None:
    """Connections, users, subscriptions, channels, and how far connections have come."""
    async with running_node() as world:
        await world.opened("alice", ROOM, PLAIN)
        closing = await world.opened("alice", ROOM)
        await world.opened("bob")
        stranger = world.client()
        unknown = world.client()
        world.clock.advance(7.5)
        info = world.node.described()
        assert (5, 2, 3, 2, 7) == (info.num_clients, info.num_users, info.num_subs, info.num_channels, info.uptime)
        assert (world.node.id, "node-1", "0") == (info.uid, info.name, info.version)
        closing.connection.close(SHUTDOWN)
        stranger.connection.close(SHUTDOWN)
        assert {"unauthenticated": 1, "open": 2, "closing": 2} == world.node.connections_by_state()
        assert unknown.connection.user == ""


async def test_one_group_for_each_codec_and_framing() -> None:
    """Connections that share their bytes share their group."""
    async with running_node(anonymous=True) as world:
        clients = [world.client(), world.client(), world.client("echo", anonymous=True)]
        groups = [it.connection.group for it in clients]
        assert groups[0] is groups[1]
        assert groups[0] is not groups[2]


# --- faults


async def test_a_node_is_ready_while_it_runs_and_not_before_or_while_draining() -> None:
    """What `/health/ready` says."""
    async with running_node() as world:
        assert [] == world.node.faults()
        fresh = Node(options=world.node.options, verifier=world.tokens, clock=world.clock, recorder=world.recorder)
        assert ["starting"] == fresh.faults()
        world.node.drain.begin()
        assert ["draining"] == world.node.faults()


async def test_dead_timers_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose timers have stopped must not get clients."""
    async with running_node() as world:
        turning = world.node._turning
        assert turning is not None
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
        assert ["the timers have stopped"] == world.node.faults()
        monkeypatch.undo()


async def test_a_broken_deadline_is_counted_and_the_timers_go_on() -> None:
    """An entry of the wheel that raises costs neither the wheel nor the node."""
    looked = asyncio.Event()

    class Broken:
        timer_tick = 0
        looks = 0

        def due(self, now: float) -> float:
            """Raise the first time, be seen the second."""
            self.looks += 1
            if self.looks == 1:
                world.node.wheel.schedule(now, self)
                raise ZeroDivisionError
            looked.set()
            return now + 1000

    async with running_node() as world:
        world.node.wheel.schedule(0.0, Broken())
        for _ in range(100):
            world.clock.advance(0.1)
            if looked.is_set():
                break
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await looked.wait()
        assert 1 == world.recorder.counts["errors", "task"]
        assert [] == world.node.faults()


async def test_thousands_of_deadlines_at_once_let_others_work() -> None:
    """A turn ends soon after its time is over, however many are due; all are looked at, without waiting for a tick."""
    looks: list[float] = []

    class Due:
        timer_tick = 0

        def due(self, now: float) -> float:
            """Take a while."""
            looks.append(now)
            world.clock.advance(0.001)
            return inf

    async with running_node() as world:
        entries = [Due() for _ in range(2_000)]
        for entry in entries:
            world.node.wheel.schedule(0.0, entry)
        world.clock.advance(0.1)
        most = turns = 0
        async with asyncio.timeout(10):
            while len(looks) < len(entries):
                before = len(looks)
                await asyncio.sleep(0)
                most, turns = max(most, len(looks) - before), turns + (len(looks) > before)
        assert most <= CHUNK
        assert turns >= len(entries) / CHUNK
        assert {0} == {entry.timer_tick for entry in entries}


# --- the end


def answer_closes(world: World, clients: list[Client]) -> None:
    """Let each client's link go as soon as it is closed."""
    del world
    for client in clients:
        link = client.link
        close = link.close

        def closing(disconnect: Any, grace: float, link: Any = link, close: Any = close) -> None:
            close(disconnect, grace)
            asyncio.get_running_loop().call_soon(link.hang_up, disconnect.code, "server")

        link.close = closing  # type: ignore[method-assign] # the client answers


async def test_drain_moves_everybody_away_and_lets_their_traces_be_removed() -> None:
    """All get 3001, presence and broker forget them, and it returns as soon as the last one is gone."""
    async with running_node() as world:
        clients = [await world.opened(user, ROOM) for user in ("alice", "bob", "carol")]
        answer_closes(world, clients)
        world.node.drain.begin()
        assert await asyncio.wait_for(world.node.drain.ended(), 5.0)
        assert [SHUTDOWN] * 3 == [it.link.closings[0] for it in clients]
        await world.assert_nothing_left()
        world.node.drain.begin()  # nothing left to do
        assert await world.node.drain.ended()


async def test_before_the_delay_is_over_newcomers_are_let_in() -> None:
    """The node is not ready any more; whoever comes all the same is served, and moved away with the others."""
    async with running_node(drain=DrainRules(delay=3600.0)) as world:
        world.node.drain.begin()
        client = await world.opened("alice", ROOM)
        assert (["draining"], 1) == (world.node.faults(), world.node.drain.remaining)
        assert client.link.code is None
        answer_closes(world, [client])
        world.node.drain.hurry()
        assert await asyncio.wait_for(world.node.drain.ended(), 5.0)
        assert 3001 == client.link.code
        await world.assert_nothing_left()


async def test_who_comes_while_draining_is_sent_on() -> None:
    """A handshake that was under way ends with 3001 as well."""
    async with running_node() as world:
        await world.node.drain.at_once()
        client = world.client()
        assert 3001 == client.link.code
        client.link.hang_up()
        await world.assert_nothing_left()


async def test_who_does_not_answer_the_close_is_aborted() -> None:
    """The drain is bounded in time."""
    async with running_node(drain=DrainRules(timeout=0.05)) as world:
        client = await world.opened("alice", ROOM)
        await world.node.drain.at_once()
        assert client.link.aborted
        client.link.hang_up(None, "server")
        await world.assert_nothing_left()


async def test_the_end_waits_for_work_under_way_and_then_cancels_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token check that never ends does not keep the process alive; what is cancelled gives everything back."""
    monkeypatch.setattr("gateway.node.DEPARTURE_SECONDS", 0.05)
    async with running_node() as world:
        client = await world.opened("alice")
        never = asyncio.Event()

        async def hold(name: str, _: str) -> None:
            if name == "read":
                await never.wait()

        world.node.shell.tools.checkpoint = hold
        client.subscribe(ROOM)
        await world.settled()
        assert 1 == len(world.node.tasks)
        client.link.hang_up()
        assert {ROOM} == world.node.hub.interests.keys()
    await world.settled()
    assert set() == world.node.tasks
    assert {} == world.node.hub.interests


async def test_latency_and_deliveries_are_counted_per_turn() -> None:
    """One publication to two clients: two sent, one latency."""
    async with running_node() as world:
        await world.opened("alice", ROOM)
        await world.opened("bob", ROOM)
        await world.publish('"x"')
        await world.settled()
        assert 2 == world.recorder.counts["messages_sent", "publication"]
        assert 1 == len([name for name, _ in world.recorder.observations if name == "delivery_latency"])


async def test_there_is_no_shell_outside_running() -> None:
    """Attaching to a node that does not run is a bug of ours, and said so."""
    async with running_node() as world:
        fresh = Node(options=world.node.options, verifier=world.tokens, clock=world.clock, recorder=world.recorder)
        with pytest.raises(AssertionError, match="not running"):
            _ = fresh.engine
