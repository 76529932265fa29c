"""Presence by lease, in any interleaving of what nodes, links and time can do: the scripts run on a real server.

Commands stand still on links that are turned by hand. So they can be executed late, in bits, after their connection
has ended, or not at all, while nodes stall, die, lose their lease or all their data, and others reap.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final
from uuid import uuid4

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.support.presence import LOUD, QUIET, House, Seats
from tests.support.valkey import Valkey

NODES: Final = 3
CLIENTS: Final = 3
Step = tuple[str, int, int]  # what, which node, how much


def _build(node: Seats) -> None:
    if not node.link.up:
        node.link.build()
        node.presence.tick()


def _flap(node: Seats, bits: int) -> None:
    """Lose the connection and build it again; the server may go on with a part of what was under way, now or later."""
    node.link.cut()
    _build(node)
    if bits & 1:
        node.link.serve(bits)
    node.link.execute_late(bits // 2)


def _continue(node: Seats) -> None:
    if node.stopped:
        node.stopped = False
        node.presence.tick()


def _die(node: Seats) -> None:
    node.alive = False
    node.link.cut()


DO: Final[dict[str, Callable[[Seats, int], None]]] = {
    "join": lambda node, n: node.join(LOUD, n % CLIENTS),
    "join quietly": lambda node, n: node.join(QUIET, n % CLIENTS),
    "leave": lambda node, n: node.leave(*list(node.held)[n % len(node.held)]) if node.held else None,
    "serve": lambda node, n: node.link.serve(n),
    "time out": lambda node, _: node.link.give_up(),
    "cut": lambda node, _: node.link.cut(),
    "build": lambda node, _: _build(node),
    "flap": _flap,
    "execute late": lambda node, n: node.link.execute_late(n),
    "refuse": lambda node, n: setattr(node.link, "refusing", ("oom", "readonly")[n % 2]),
    "stop": lambda node, _: setattr(node, "stopped", True),
    "continue": lambda node, _: _continue(node),
    "die": lambda node, _: _die(node),
}
OFTEN: Final = ("join", "leave", "serve", "serve", "serve", "pass")
WHAT: Final = st.sampled_from((*OFTEN, *OFTEN, "flap", "flap", "execute late", *DO))
STEPS: Final = st.lists(st.tuples(WHAT, st.integers(0, NODES - 1), st.integers(0, 12)), min_size=5, max_size=60)


@pytest.fixture(name="redis", scope="module")
def _redis(valkey: Valkey) -> Iterator[Redis]:
    with Redis(port=valkey.port) as redis:
        yield redis


@given(steps=STEPS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_presence_is_right_in_the_end(redis: Redis, steps: list[Step]) -> None:
    """Members and counts are what living nodes hold; joins and leaves alternate, first and last are true."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_play(redis, steps))


@given(steps=STEPS, when=st.lists(st.integers(0, 60), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_presence_is_right_after_a_loss_of_all_data(redis: Redis, steps: list[Step], when: list[int]) -> None:
    """Whatever was lost, nodes enter again what they hold; nobody leaves who had not joined."""
    for at in when:
        steps = [*steps[:at], ("lose", 0, 0), *steps[at:]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_play(redis, steps))


async def _play(redis: Redis, steps: list[Step]) -> None:
    house = House(redis, f"house-{uuid4().hex}")
    await house.open()
    try:
        for _ in range(NODES):
            house.add_node()
        for step in steps:
            _take(house, *step)
            await asyncio.sleep(0)
        await _settle(house)
        _check_state(house)
        _check_announced(house)
    finally:
        house.close()


def _take(house: House, what: str, index: int, amount: int) -> None:
    node = house.nodes[index]
    if what == "pass":
        house.pass_time(amount / 2)
        house.tick()
    elif what == "lose":
        house.lose_everything()
    elif what == "die" and sum(it.alive for it in house.nodes) == 1:
        return  # somebody has to be left who cleans up after the others
    elif what == "execute late" or (node.alive and (what == "continue" or not node.stopped)):
        DO[what](node, amount)


async def _settle(house: House) -> None:
    """Mend everything that can be mended, and wait out what cannot."""
    for node in house.nodes:
        node.link.execute_late(len(node.link.late))
        if node.alive:
            node.link.refusing = ""
            _build(node)
            _continue(node)
    for _ in range(40):
        house.pass_time(0.5)
        house.tick()
        for _ in range(50):
            await asyncio.sleep(0)
            for node in house.nodes:
                if node.alive:
                    node.link.serve(len(node.link.queue))
            if house.settled():
                break


def _check_state(house: House) -> None:
    living = [node for node in house.nodes if node.alive]
    for channel in (LOUD, QUIET):
        assert {1} >= set(house.entries(channel).values()), house.entries(channel)
        users = Counter(who.user for node in living for (where, _), (who, _) in node.held.items() if where == channel)
        assert dict(users) == house.users(channel)
    holders = {incarnation.decode().partition(".")[0] for incarnation in house.redis.zrange(house.names.nodes, 0, -1)}
    assert {node.name for node in living} >= holders, "a dead node still has a lease"
    owned = [key.decode().removeprefix(house.names.owned) for key in house.redis.keys(f"{house.names.owned}*")]
    assert sorted(node.name for node in living if node.held) == sorted(name.partition(".")[0] for name in owned)
    assert all(house.redis.zscore(house.names.nodes, name) for name in owned), "entries that nobody will ever reap"
    assert [] == [line for node in living for line in node.presence.faults()]


def _check_announced(house: House) -> None:
    there: dict[str, str] = {}  # client -> user
    for kind, edge, user, client in house.announced():
        others = [name for who, name in there.items() if who != client]
        if kind == "j":
            assert client not in there or house.began_again
            there[client] = user
        else:
            assert there.pop(client, None) == user, f"{client} left without having joined"
        assert edge == (user not in others) or house.began_again
    held = {client for node in house.nodes if node.alive for channel, client in node.held if channel == LOUD}
    assert held == set(there) or (house.began_again and held <= set(there))
