"""The faults of a soak. Each asserts that it happened, says what it did, and returns when it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from random import Random
from typing import Final, TypeAlias

from loadtests.soak.gang import attack
from loadtests.soak.stage import PRESENT, Stage
from tests.support.faultproxy import PUBSUB, Pipe, Rule, first, publications
from tests.support.fleet import Node
from tests.support.valkey import Valkey

MOMENT: Final = 3.0  # seconds of a short stall
WHILE: Final = 15.0  # ... of a long one: nearly twice as long as a lease
AWAY: Final = 1.0  # seconds without a Valkey
LOST: Final = 50  # publications that pub/sub loses
WITHIN: Final = 10.0  # seconds for a fault to have happened
DRAIN: Final = 40.0  # seconds that a drain may take: window, delay, and what follows them

Fault: TypeAlias = Callable[[Stage], Awaitable[str]]


async def kill_node(stage: Stage) -> str:
    """SIGKILL a node, and run it again at once."""
    node, clients = stage.mortal, stage.on(stage.mortal)
    assert clients, f"nobody is on {node.name}"
    node.kill()
    node.restart()
    await node.ready()
    return f"{node.name} with {clients} clients"


async def drain_node(stage: Stage) -> str:
    """SIGTERM a node that has left the load balancer's list, and run it again when it has ended."""
    node, clients = stage.mortal, stage.on(stage.mortal)
    assert clients, f"nobody is on {node.name}"
    async with stage.unlisted(node):
        ended = await node.terminate(DRAIN)
        assert ended.code == 0, f"{node.name} ended with {ended.code}"
        node.restart()
        await node.ready()
    return f"{node.name} with {clients} clients, empty after {ended.seconds:.1f} s"


async def stall_node(stage: Stage, seconds: float) -> str:
    """SIGSTOP any node for so long."""
    node = stage.dice.choice(stage.nodes)
    clients = stage.on(node)
    await _stalled(node, seconds)
    return f"{node.name} with {clients} clients"


async def stall_valkey(stage: Stage) -> str:
    """SIGSTOP the Valkey for a moment."""
    await _stalled(stage.valkey, MOMENT)
    return ""


async def kill_valkey(stage: Stage) -> str:
    """SIGKILL the Valkey; it comes back empty."""
    stage.valkey.stop()
    assert not stage.valkey.answers(), "somebody else answers on its port"
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(stage.valkey.start)
    return f"{AWAY:g} s away"


async def flush_valkey(stage: Stage) -> str:
    """Let the Valkey forget everything, and stay."""
    keys = stage.valkey.command("DBSIZE")
    assert keys, "there was nothing to forget"
    stage.valkey.command("FLUSHALL")
    return f"{keys:,} keys"


async def end_pubsub_links(stage: Stage) -> str:
    """Let the Valkey close the pub/sub links of all nodes; over when each node has a new one."""
    pipes = stage.proxy.chosen(PUBSUB)
    ended = stage.valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
    assert ended >= len(stage.nodes), f"{ended} links"
    await _until(lambda: stage.proxy.count(PUBSUB) - len(_standing(pipes)) >= len(stage.nodes), "new links")
    return f"{ended} links"


async def stall_pubsub_links(stage: Stage) -> str:
    """Let the pub/sub links of all nodes carry nothing more towards them, until they have been given up."""
    pipes = stage.proxy.chosen(PUBSUB)
    assert len(pipes) >= len(stage.nodes), f"{len(pipes)} links"
    began = time.monotonic()
    with stage.proxy.stalled("down", only=PUBSUB, pipes=pipes):
        await _until(lambda: not _standing(pipes), "the end of links that carry nothing")
    return f"{len(pipes)} links, given up within {time.monotonic() - began:.1f} s"


async def lose_publications(stage: Stage) -> str:
    """Lose publications on their way from the Valkey to the nodes."""
    namespace = stage.dice.choice(("load", PRESENT))
    rule = Rule(way="down", only=PUBSUB, drop=first(LOST, publications(f"{namespace}:")))
    with stage.proxy.rule(rule):
        await _until(lambda: rule.hits >= LOST, f"{LOST} publications on their way")
    return f"{rule.hits} of {namespace}"


async def send_gang(stage: Stage) -> str:
    """Let attackers loose on any node."""
    return await attack(stage.dice.choice(stage.nodes), stage.crowds[0].api)


def _standing(pipes: Iterable[Pipe]) -> list[Pipe]:
    return [it for it in pipes if not it.over]


async def _until(condition: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < WITHIN, f"{what} did not come within {WITHIN:g} s"
        await asyncio.sleep(0.02)


async def _stalled(what: Node | Valkey, seconds: float) -> None:
    what.stall()
    try:
        await asyncio.sleep(seconds)
    finally:
        what.go_on()


FAULTS: Final[Mapping[str, Fault]] = {
    "node killed": kill_node,
    "node drained": drain_node,
    "node stalled 3 s": partial(stall_node, seconds=MOMENT),
    "node stalled 15 s": partial(stall_node, seconds=WHILE),
    "Valkey stalled 3 s": stall_valkey,
    "Valkey killed, back empty": kill_valkey,
    "Valkey flushed": flush_valkey,
    "pub/sub links closed": end_pubsub_links,
    "pub/sub links mute": stall_pubsub_links,
    "publications lost": lose_publications,
    "attackers": send_gang,
}


def rounds(names: Sequence[str], dice: Random) -> Iterator[str]:
    """Return faults without end: these in turn, or without any all kinds, round after round in a random order."""
    if names:
        return chain.from_iterable(repeat(names))
    return chain.from_iterable(dice.sample(sorted(FAULTS), len(FAULTS)) for _ in repeat(None))
