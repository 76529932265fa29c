"""How much of what a client asks for is done in one turn of the loop, and in which order the rest is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import orjson
import pytest

from gateway.disconnects import BAD_REQUEST
from gateway.types import Identity, UserId
from gateway.waiting import AT_ONCE
from tests.support.node import PLAIN, ROOM, World, running_node

MANY = 5 * AT_ONCE


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    async with running_node() as world:
        yield world


def rpcs() -> list[dict[str, Any]]:
    """Return commands that are answered at once."""
    return [{"id": 10 + number, "rpc": {}} for number in range(MANY)]


async def test_a_frame_full_of_commands_is_done_in_slices(world: World) -> None:
    """So many in a turn, and nothing more is read until the last of them had its turn; answers keep the order."""
    client = await world.opened()
    before = len(client.link.messages())
    client.link.send_together(rpcs())
    counts = []
    while client.link.reading_held:
        await asyncio.sleep(0)
        counts.append(world.recorder.counts["messages_received", "rpc"])
    await world.settled()
    assert max(after - earlier for earlier, after in pairwise(counts)) <= AT_ONCE
    assert [10 + number for number in range(MANY)] == [it["id"] for it in client.link.messages()[before:]]


async def test_so_many_frames_are_one_slice_too(world: World) -> None:
    """One read may bring thousands of frames, and holding the link leaves the others where they are."""
    client = await world.opened()
    world.client()
    for number in range(AT_ONCE):
        assert not client.link.reading_held, number
        client.ask(rpc={})
    assert client.link.reading_held
    await world.settled()
    assert not client.link.reading_held


async def test_what_cannot_be_read_comes_after_what_could(world: World) -> None:
    """A frame that is broken at its end does what stood before, though in later turns, and then ends it all."""
    client = await world.opened()
    before = len(client.link.messages())
    client.link.send(b"\n".join((*map(orjson.dumps, rpcs()), b"{")))
    assert not client.link.closed
    await world.settled()
    assert MANY == len([it for it in client.link.messages()[before:] if "id" in it])
    assert BAD_REQUEST.code == client.link.code


async def test_what_waited_for_a_join_goes_ahead_of_what_was_put_off(world: World) -> None:
    """Publications behind a subscribe, in the same frame and in several turns, arrive in the order they were sent."""
    client = await world.opened()
    publishes = ({"id": 10 + number, "publish": {"channel": ROOM, "data": number}} for number in range(MANY))
    client.link.send_together([{"id": 2, "subscribe": {"channel": ROOM}}, *publishes])
    await world.settled()
    assert list(range(MANY)) == client.published()
    assert not client.link.reading_held


async def test_behind_a_connect_that_is_refused_nothing_is_done(world: World) -> None:
    """Not the commands of the same turn, nor those of the next ones; the client keeps its link, to try again."""
    world.tokens.identities["old"] = Identity(UserId("old"), expires_at=1.0)
    client = world.client()
    client.link.send_together([{"id": 1, "connect": {"token": "old"}}, *rpcs()])
    await world.settled()
    assert [110] == [it["error"]["code"] for it in client.link.messages()]
    assert not client.link.closed
    assert not client.link.reading_held


async def test_who_is_gone_is_not_heard_out(world: World) -> None:
    """What was put off is dropped with the link."""
    client = await world.opened("alice", PLAIN)
    client.link.send_together(rpcs())
    client.link.hang_up()
    await world.settled()
    assert AT_ONCE == world.recorder.counts["messages_received", "rpc"]
