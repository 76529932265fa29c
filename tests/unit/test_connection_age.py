"""How long a connection may be behind: what its client must take, and when its pong is due meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.disconnects import SLOW
from tests.support.node import World, running_node


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    async with running_node() as world:
        yield world


async def test_blocked_for_ten_seconds_without_progress_is_slow(world: World) -> None:
    """A client that takes nothing is closed by age, soon after the ten seconds."""
    client = await world.opened()
    client.link.stalled = 70_000
    client.connection.writable(False)
    world.wait(9.5)
    assert not client.link.closed
    world.wait(1.0)
    assert [SLOW] == client.link.closings
    assert 2.0 == client.link.grace
    assert 1 == world.recorder.counts["slow_consumers", "age"]


async def test_a_client_that_takes_something_now_and_then_stays(world: World) -> None:
    """A thin line is no reason to be closed, as long as it moves enough; when it stops, the ten seconds begin."""
    client = await world.opened()
    client.link.stalled = 200_000
    client.connection.writable(False)
    for _ in range(7):
        world.wait(8.0)
        client.link.stalled -= 20_000
    world.wait(9.0)
    assert not client.link.closed
    world.wait(2.0)
    assert [SLOW] == client.link.closings


async def test_a_thin_line_has_time_for_its_pong() -> None:
    """A ping waits behind what the client is still taking; the wait for the pong ends soon after that, not before."""
    async with running_node(ping_interval=25.0) as world:
        client = await world.opened()
        client.link.stalled = 1_000_000
        client.connection.writable(False)
        for _ in range(20):
            world.wait(2.0)
            client.link.stalled -= 20_000
        assert client.connection.session.pinged
        assert not client.link.closed
        client.connection.writable(True)
        world.wait(9.0)
        assert 3012 == client.link.code
