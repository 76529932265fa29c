"""What every engine that joins several nodes carries between them."""

from __future__ import annotations

from uuid import uuid4

from gateway.protocol.messages import DisconnectClients, Survey
from gateway.protocol.values import HistoryQuery, PresenceStats, Published, PublishOptions
from gateway.types import Channel
from tests.support.engines import Node, client, eventually, good

ROOM = Channel("chat:lobby")
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)

Pair = tuple[Node, Node]


async def test_a_publication_reaches_both_nodes(pair: Pair) -> None:
    """Both ears hear both mouths, in the same order, with the same positions."""
    for node in pair:
        await good(node.engine.broker.subscribe, ROOM)
    for n in range(20):
        await good(pair[n % 2].engine.broker.publish, ROOM, b"%d" % n, KEPT)
    for node in pair:
        await node.sink.until_count("published", 20)
        assert list(range(1, 21)) == [publication.offset for _, publication in node.sink.of("published")]
    assert pair[0].sink.log == pair[1].sink.log


async def test_history_is_one(pair: Pair) -> None:
    """What one node published the other reads, in the same epoch."""
    published = await good(pair[0].engine.broker.publish, ROOM, b"1", KEPT)
    history = pair[1].engine.history
    assert history is not None
    page = await good(history.read, ROOM, HistoryQuery(-1))
    assert (published.position, [b"1"]) == (page.top, [publication.data for publication in page.publications])


async def test_idempotency_and_claims_hold_over_nodes(pair: Pair) -> None:
    """A key used on one node is known on the other."""
    options = PublishOptions(idempotency_key="k")
    assert Published() == await good(pair[0].engine.broker.publish, ROOM, b"1", options)
    assert Published(duplicate=True) == await good(pair[1].engine.broker.publish, ROOM, b"1", options)
    assert [True, False] == [await good(node.engine.broker.claim, "ticket", 60.0) for node in pair]


async def test_presence_is_one(pair: Pair) -> None:
    """First and last count over both nodes, and both see everybody."""
    here, there = client("alice"), client("alice")
    one, two = (node.engine.presence for node in pair)
    assert one is not None
    assert two is not None
    await good(pair[1].engine.broker.subscribe, ROOM)
    await good(one.add, ROOM, here, True)
    await good(two.add, ROOM, there, True)
    assert {here.client: here, there.client: there} == await good(one.members, ROOM)
    await good(one.remove, ROOM, here.client, True)
    await good(two.remove, ROOM, there.client, True)
    await pair[1].sink.until(lambda: pair[1].sink.of("left")[1:])
    assert [("joined", True), ("joined", False), ("left", False), ("left", True)] == [
        (kind, edge) for kind, _, _, edge in pair[1].sink.log
    ]


async def test_a_removal_under_another_incarnation_does_nothing(pair: Pair) -> None:
    """A node cannot remove what another has entered; after the other entered it anew, nor can the first."""
    who = client()
    one, two = (node.engine.presence for node in pair)
    assert one is not None
    assert two is not None
    await good(pair[0].engine.broker.subscribe, ROOM)
    await good(one.add, ROOM, who, True)
    await good(two.remove, ROOM, who.client, True)
    assert PresenceStats(1, 1) == await good(two.stats, ROOM)
    await good(two.add, ROOM, who, True)  # the client came back on the other node
    await good(one.remove, ROOM, who.client, True)  # late
    assert PresenceStats(1, 1) == await good(one.stats, ROOM)
    await good(two.remove, ROOM, who.client, True)
    await pair[0].sink.until(lambda: pair[0].sink.of("left"))
    assert [("joined", ROOM, who.client, True), ("left", ROOM, who.client, True)] == pair[0].sink.log


async def test_a_command_reaches_every_node_once(pair: Pair) -> None:
    """Commands of both nodes are carried out on both, each once."""
    commands = [DisconnectClients(id=str(n), user="alice") for n in range(10)]
    for n, command in enumerate(commands):
        await good(pair[n % 2].engine.control.send, command)
    for node in pair:
        await node.sink.until_count("commanded", 10)
        assert [(command,) for command in commands] == node.sink.of("commanded")


async def test_a_survey_reaches_every_node(pair: Pair) -> None:
    """Both answer, and the asker does not wait for the deadline when all have."""
    pair[0].sink.answer = lambda _question: b"one"
    pair[1].sink.answer = lambda _question: b"two"
    await know_each_other(pair)
    answers = await good(pair[0].engine.control.ask, Survey(id="s", op="who"), 3600.0)
    assert {pair[0].engine.node: b"one", pair[1].engine.node: b"two"} == answers


async def test_a_node_that_cannot_answer_is_absent(pair: Pair) -> None:
    """The deadline ends a survey with the answers that came."""

    def broken(_question: Survey) -> bytes:
        raise RuntimeError("a sink that breaks its contract")

    await know_each_other(pair)
    pair[1].sink.answer = broken

    async def alone() -> bool:  # where the loop stands still, the deadline may come before the own answer
        answers = await good(pair[0].engine.control.ask, Survey(id=str(uuid4()), op="who"), 0.2)
        assert pair[1].engine.node not in answers
        return bool({pair[0].engine.node: b"yes"} == answers)

    await eventually(alone)


async def know_each_other(pair: Pair) -> None:
    """Wait until each node has heard of the other."""
    expected = {node.engine.node for node in pair}

    async def known() -> bool:
        return all(expected == set(node.engine.control.nodes()) for node in pair)

    await eventually(known)
