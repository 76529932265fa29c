"""Every engine's presence store keeps `contracts.presence.PresenceStore`."""

from __future__ import annotations

import pytest

from gateway.contracts.presence import PresenceStore
from gateway.protocol.values import PresenceStats
from gateway.types import Channel, ClientInfo, ConnectionId, UserId
from tests.support.engines import Node, client, good

ROOM = Channel("chat:lobby")


@pytest.fixture(name="presence")
async def _presence(node: Node) -> PresenceStore:
    """Return the store of a node that hears the room."""
    assert node.engine.presence is not None
    await good(node.engine.broker.subscribe, ROOM)
    return node.engine.presence


async def test_a_client_is_there_as_it_was_entered(presence: PresenceStore) -> None:
    """Members holds every field of everyone in the channel and nobody else."""
    alice = ClientInfo(UserId("älice: 1"), ConnectionId("c1"), b'{"a":"\xc3\x84:1"}', b"[1]")
    nobody = ClientInfo(UserId(""), ConnectionId("c2"))
    for who in (alice, nobody):
        await good(presence.add, ROOM, who, True)
    await good(presence.add, Channel("other"), client(), True)
    assert {"c1": alice, "c2": nobody} == await good(presence.members, ROOM)
    assert PresenceStats(2, 2) == await good(presence.stats, ROOM)


async def test_an_empty_channel(presence: PresenceStore) -> None:
    """Nobody is in a channel that nobody entered, and removing somebody from it succeeds."""
    assert {} == await good(presence.members, Channel("empty"))
    assert PresenceStats(0, 0) == await good(presence.stats, Channel("empty"))
    assert await good(presence.remove, Channel("empty"), ConnectionId("x"), True) is None


async def test_first_and_last_count_the_connections_of_a_user(node: Node, presence: PresenceStore) -> None:
    """Three connections of one user: all join and leave, the first joined first, the last left last."""
    tabs = [client("alice") for _ in range(3)]
    bob = client("bob")
    for who in (tabs[0], bob, tabs[1], tabs[2]):
        await good(presence.add, ROOM, who, True)
    assert PresenceStats(4, 2) == await good(presence.stats, ROOM)
    for who in (tabs[1], tabs[0], tabs[2]):
        await good(presence.remove, ROOM, who.client, True)
    await node.sink.until(lambda: len(node.sink.log) == 7)
    expected = [
        ("joined", ROOM, tabs[0].client, True),
        ("joined", ROOM, bob.client, True),
        ("joined", ROOM, tabs[1].client, False),
        ("joined", ROOM, tabs[2].client, False),
        ("left", ROOM, tabs[1].client, False),
        ("left", ROOM, tabs[0].client, False),
        ("left", ROOM, tabs[2].client, True),
    ]
    assert expected == node.sink.log
    assert PresenceStats(1, 1) == await good(presence.stats, ROOM)


async def test_adding_and_removing_twice_changes_nothing(node: Node, presence: PresenceStore) -> None:
    """Both calls are idempotent: one join, one leave, counts right in between."""
    who = client()
    await good(presence.add, ROOM, who, True)
    await good(presence.add, ROOM, who, True)
    assert PresenceStats(1, 1) == await good(presence.stats, ROOM)
    await good(presence.remove, ROOM, who.client, True)
    await good(presence.remove, ROOM, who.client, True)
    assert PresenceStats(0, 0) == await good(presence.stats, ROOM)
    end = client("end")
    await good(presence.add, ROOM, end, True)
    await node.sink.until(lambda: (ROOM, end.client, True) in node.sink.of("joined"))
    expected = [
        ("joined", ROOM, who.client, True),
        ("left", ROOM, who.client, True),
        ("joined", ROOM, end.client, True),
    ]
    assert expected == node.sink.log


async def test_adding_again_renews_the_info(presence: PresenceStore) -> None:
    """The last info counts; a changed user is counted under the new name."""
    old = ClientInfo(UserId("a"), ConnectionId("c"), b"1")
    new = ClientInfo(UserId("b"), ConnectionId("c"), b"2")
    await good(presence.add, ROOM, old, True)
    await good(presence.add, ROOM, new, True)
    assert {"c": new} == await good(presence.members, ROOM)
    assert PresenceStats(1, 1) == await good(presence.stats, ROOM)
    await good(presence.remove, ROOM, new.client, True)
    assert PresenceStats(0, 0) == await good(presence.stats, ROOM)


async def test_silent_moves_are_not_announced(node: Node, presence: PresenceStore) -> None:
    """Without `announce` the entry changes and nobody is told."""
    quiet, loud = client("quiet"), client("loud")
    await good(presence.add, ROOM, quiet, False)
    assert PresenceStats(1, 1) == await good(presence.stats, ROOM)
    await good(presence.remove, ROOM, quiet.client, False)
    await good(presence.add, ROOM, loud, True)
    await node.sink.until(lambda: node.sink.log)
    assert [("joined", ROOM, loud.client, True)] == node.sink.log


async def test_calls_for_one_client_take_effect_in_order(presence: PresenceStore) -> None:
    """Add and remove in flight together end as the last call says."""
    who = client()
    for _ in range(20):
        presence.add(ROOM, who, True, _ignore)
        presence.remove(ROOM, who.client, True, _ignore)
    assert PresenceStats(0, 0) == await good(presence.stats, ROOM)
    presence.remove(ROOM, who.client, True, _ignore)
    presence.add(ROOM, who, True, _ignore)
    assert PresenceStats(1, 1) == await good(presence.stats, ROOM)


def _ignore(_outcome: object) -> None:
    """Take an outcome that does not matter."""
