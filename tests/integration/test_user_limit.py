"""The limit of a user's connections over three nodes and one real Valkey."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Literal
from uuid import uuid4

import pytest

from gateway.contracts.engine import Engine, EngineOptions, EngineSink
from gateway.node import Node, NodeOptions
from gateway.protocol.messages import DisconnectClients
from gateway.protocol.policy import Policy
from gateway.protocol.values import Hello, PresenceStats
from gateway.resolver import all_codecs, engine_for
from gateway.types import Channel, NodeId
from gateway.users import UserRules
from tests.support.engines import RealClock, eventually, good
from tests.support.exactness import within
from tests.support.node import Client, StrictRecorder, TokenTable
from tests.support.transport import RecordingTransport
from tests.support.valkey import Valkey

LIMIT = 20
ENTRIES = Channel("\x00user:alice")
CODEC = all_codecs()["centrifuge_json"]


class Nodes:
    """Some nodes of one cluster in one process, and the clients of all."""

    def __init__(self, nodes: list[Node], recorder: StrictRecorder) -> None:
        self.nodes = nodes
        self.recorder = recorder
        self.clients: list[Client] = []

    def open(self, count: int, user: str = "alice") -> list[Client]:
        """Connect so many at once, to all nodes in turn."""
        opened = []
        for number in range(count):
            link = RecordingTransport()
            connection = self.nodes[number % len(self.nodes)].attach(link, CODEC, Hello(link.peer))
            link.receiver = connection
            opened.append(Client(link, connection))
        for client in opened:
            client.connect(user)
        self.clients += opened
        return opened

    def live(self) -> list[Client]:
        """Return Alice's connections that were not closed; the links of the others go now."""
        for client in self.clients:
            if client.link.closed and client.link.receiver is not None:
                client.link.hang_up(client.link.code, "server")
        alive = [it for it in self.clients if not it.link.closed and it.link.receiver is not None]
        return [client for client in alive if client.connection.user == "alice"]

    async def settled_at(self, count: int) -> None:
        """Wait until so many are live and the store agrees."""

        async def settled() -> bool:
            return len(self.live()) == count == (await entries(self.nodes[0]))

        await eventually(settled)

    async def asked(self) -> None:
        """Wait until nobody asks any more who is there, and every order that came of it was carried out."""

        async def quiet() -> bool:
            return not any(node.user_limit._asking for node in self.nodes)

        await eventually(quiet)
        marker = self.open(1, "marker")[0].connection.id
        await good(self.nodes[0].engine.control.send, DisconnectClients(id=str(uuid4()), client=marker))

        async def carried_out() -> bool:
            return self.clients[-1].link.closed

        await eventually(carried_out)


async def entries(node: Node) -> int:
    """Return how many connections of Alice the store knows."""
    assert node.engine.presence is not None
    stats: PresenceStats = await good(node.engine.presence.stats, ENTRIES)
    return stats.num_clients


@asynccontextmanager
async def running_nodes(
    valkey: Valkey, prefix: str, closes: Literal["oldest", "newest"] = "oldest"
) -> AsyncIterator[Nodes]:
    """Run three nodes that know each other."""
    clock, recorder = RealClock(), StrictRecorder()
    policies = dict.fromkeys(all_codecs(), Policy(ping_interval=0.0))

    def open_engine(sink: EngineSink, node: NodeId) -> AbstractAsyncContextManager[Engine]:
        options = EngineOptions(node=node, recorder=recorder, prefix=prefix, wait_ready=True)
        return engine_for(valkey.url)(valkey.url, sink=sink, clock=clock, options=options)

    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(3):
            rules = NodeOptions(name=f"node-{number}", version="0", policies=policies, users=UserRules(LIMIT, closes))
            node = Node(options=rules, verifier=TokenTable(), clock=clock, recorder=recorder)
            nodes.append(await stack.enter_async_context(node.running(open_engine)))

        async def acquainted() -> bool:
            return all(len(node.engine.control.nodes()) == len(nodes) for node in nodes)

        await eventually(acquainted)
        cluster = Nodes(nodes, recorder)
        try:
            yield cluster
        finally:
            for client in cluster.clients:
                if client.link.receiver is not None:
                    client.link.hang_up()


@pytest.mark.parametrize("closes", ["oldest", "newest"])
async def test_exactly_so_many_stay(valkey: Valkey, engine_prefix: str, closes: Literal["oldest", "newest"]) -> None:
    """Of 25 that connect at once to three nodes 20 stay, within two seconds; so it is after the next 25, too.

    Whoever ends does so with 3504 and is counted once, however many nodes noticed.
    """
    async with running_nodes(valkey, engine_prefix, closes) as cluster:
        other = cluster.open(3, "bob")
        began = time.monotonic()
        first = cluster.open(25)
        await cluster.settled_at(LIMIT)
        assert time.monotonic() - began < within(2.0, otherwise=4.0)

        second = cluster.open(25)
        await cluster.settled_at(LIMIT)
        kept, lost = (second, first) if closes == "oldest" else (first, second)
        await cluster.asked()
        assert LIMIT == len(cluster.live())
        assert 5 == sum(client.link.closed for client in kept)
        assert all(client.link.closed for client in lost)
        ended = [client for client in (*first, *second) if client.link.closed]
        assert {3504} == {client.link.code for client in ended}
        assert {1} == {len(client.link.closings) for client in ended}
        assert len(ended) == cluster.recorder.counts["handshakes", "limit_user"]
        assert all(not client.link.closed for client in other)


async def test_a_place_that_is_given_back_is_free(valkey: Valkey, engine_prefix: str) -> None:
    """Who leaves makes room on every node; at the end the store holds nothing."""
    async with running_nodes(valkey, engine_prefix) as cluster:
        gone = cluster.open(LIMIT)
        await cluster.settled_at(LIMIT)
        for client in gone[:5]:
            client.link.hang_up()
        await cluster.settled_at(LIMIT - 5)
        cluster.open(5)
        await cluster.settled_at(LIMIT)
        assert 0 == cluster.recorder.counts["handshakes", "limit_user"]
        for client in cluster.live():
            client.link.hang_up()
        await cluster.settled_at(0)


async def test_connections_of_a_dead_node_cost_nobody_a_place(valkey: Valkey, engine_prefix: str) -> None:
    """Entries that a killed node has left behind are counted and not believed: its clients come back, all stay."""
    async with running_nodes(valkey, engine_prefix) as cluster:
        ghosts = cluster.open(LIMIT)
        await cluster.settled_at(LIMIT)
        for client in ghosts:  # as if their node had been killed: gone without a call
            for node in cluster.nodes:
                node.users.clear()
                node.connections.pop(client.connection.id, None)
            client.link.receiver = None
        again = cluster.open(LIMIT)

        async def counted() -> bool:
            return await entries(cluster.nodes[0]) == 2 * LIMIT

        await eventually(counted)
        await cluster.asked()
        assert [] == [client.link.code for client in again if client.link.closed]
