"""Every engine's control bus keeps `contracts.control.ControlBus`."""

from __future__ import annotations

from gateway.protocol.messages import DisconnectClients, Survey
from gateway.protocol.values import NodeInfo
from tests.support.engines import Node, good


async def test_a_command_reaches_its_sender(node: Node) -> None:
    """Whoever sends a command carries it out too, with every field as sent."""
    command = DisconnectClients(id="1", user="alice", session_id="s", whitelist=("c1", "c2"), code=3001, reason="bye")
    assert await good(node.engine.control.send, command) is None
    await node.sink.until(lambda: node.sink.of("commanded"))
    assert [(command,)] == node.sink.of("commanded")


async def test_a_command_is_carried_out_once(node: Node) -> None:
    """A command sent again under its id changes nothing."""
    again, end = DisconnectClients(id="again", user="a"), DisconnectClients(id="end", user="b")
    for command in (again, again, end):
        await good(node.engine.control.send, command)
    await node.sink.until(lambda: (end,) in node.sink.of("commanded"))
    assert [(again,), (end,)] == node.sink.of("commanded")


async def test_a_node_knows_itself(node: Node) -> None:
    """The table of nodes holds this one, described as it is now."""
    expected = {node.engine.node: NodeInfo(node.engine.node, "test", "0", num_clients=7)}
    assert expected == node.engine.control.nodes()


async def test_a_survey_asks_the_asker_too(node: Node) -> None:
    """The own answer is among the answers, computed from the question as asked."""
    node.sink.answer = lambda question: question.op.encode() + question.payload
    answers = await good(node.engine.control.ask, Survey(id="1", op="count", payload=b"\x00\xff"), 5.0)
    assert {node.engine.node: b"count\x00\xff"} == answers


async def test_a_new_engine_is_ready(node: Node) -> None:
    """Nothing is wrong with an engine that was waited for."""
    assert [] == list(node.engine.faults())
