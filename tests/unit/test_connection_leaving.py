"""A connection whose turn to be moved away is near: what it has asked for is answered, and nothing more is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.draining import DrainRules
from tests.support.node import PLAIN, ROOM, World, running_node


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    async with running_node() as world:
        yield world


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the node does by itself."""
    async with asyncio.timeout(5.0):
        while not condition():  # noqa: ASYNC110 - a drain tells nobody who is next
            await asyncio.sleep(0.01)


async def test_who_is_about_to_leave_is_not_read_again(world: World) -> None:
    """Not even if its calls had stopped the reading before, and are answered now."""
    client = await world.opened("alice", PLAIN)
    for number in range(257):
        client.publish(number, PLAIN)
    assert client.link.reading_held
    client.connection.read_no_more()
    assert client.connection.unanswered
    await world.settled()
    assert not client.connection.unanswered
    assert client.link.reading_held


async def test_a_subscribe_and_what_waits_behind_it_are_unanswered(world: World) -> None:
    """A join is no call in flight, and yet its client waits for a reply."""
    client = await world.opened("alice")
    ref = client.subscribe(ROOM)
    behind = client.publish("x", ROOM)
    assert (0, True) == (client.connection.in_flight, client.connection.unanswered)
    await world.settled()
    assert not client.connection.unanswered
    assert client.reply(ref)
    assert client.reply(behind)


async def test_a_drain_lets_a_subscribe_have_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has just asked for a channel is told before the close; others go meanwhile."""
    monkeypatch.setattr("gateway.draining.ANSWER_SECONDS", 3600.0)  # however late this test looks, the drain waits
    async with running_node(drain=DrainRules(window=0.1, timeout=5.0)) as world:
        busy, idle = await world.opened("alice"), await world.opened("bob")
        history: Any = world.node.engine.history
        read, asked = history.read, list[tuple[Any, ...]]()
        monkeypatch.setattr(history, "read", lambda *args: asked.append(args))
        ref = busy.subscribe(ROOM)
        await world.settled()
        world.node.drain.begin()
        await until(lambda: idle.link.closed)
        await until(lambda: busy.link.reading_held)
        assert not busy.link.closed
        read(*asked[0])
        await until(lambda: busy.link.closed)
        assert busy.reply(ref)
        for client in (busy, idle):
            client.link.hang_up(None, "server")
        assert await asyncio.wait_for(world.node.drain.ended(), 5.0)
