"""What tests of faults look at besides the oracle: metrics since a moment, subscriptions, presence."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from gateway.types import Position
from loadtests.oracle import Verdict
from tests.support.crowd_client import RESUBSCRIBE
from tests.support.crowd_life import STANDARD, Load
from tests.support.fleet import NAMESPACES, Node, Samples
from tests.support.newcomers import token
from tests.support.scene import Scene
from tests.support.valkey import Valkey

LOBBY: Final = "lobby:0"  # with presence and without history: nothing makes a client subscribe there again
AT_ONCE: Final = 20  # subscriptions of one guest that are not answered yet
ADDRESS: Final = "127.0.8.1"  # of the guests; that of the crowd has a limit
WITH_LOBBY: Final = json.dumps(
    [*NAMESPACES, {"name": "lobby", "allow_subscribe_for_client": True, "presence": True, "join_leave": True}]
)


# --- metrics


async def lagged(meters: Meters, load: Load) -> bool:
    """Whether the loop of a node was late more often than it may be, and say by how much.

    Of the small size, which runs on machines that do other things and for seconds only, one tick in ten may be.
    """
    share, most = (0.99, 0.05) if load is STANDARD else (0.9, 0.1)
    lag = await meters.percentile("gateway_event_loop_lag_seconds", share)
    told(f"lag of the loop: {lag:g} s at {share:.0%}")
    return lag > most


@dataclass(slots=True)
class Meters:
    """The metrics of some nodes since some moment."""

    nodes: Sequence[Node]
    start: Sequence[Samples]

    @classmethod
    async def begin(cls, nodes: Sequence[Node]) -> Meters:
        """Note what they show now."""
        return cls(list(nodes), await asyncio.gather(*(it.metrics() for it in nodes)))

    async def rises(self, name: str, **labels: str) -> list[float]:
        """Return by how much this has risen, node by node."""
        now = await asyncio.gather(*(it.metrics() for it in self.nodes))
        pairs = zip(now, self.start, strict=True)
        return [after.value(name, **labels) - before.value(name, **labels) for after, before in pairs]

    async def percentile(self, name: str, share: float) -> float:
        """Return the bound of the bucket that holds this share of what was observed since, on the worst node."""
        now = await asyncio.gather(*(it.metrics() for it in self.nodes))
        return max(_bound(before, after, name, share) for before, after in zip(self.start, now, strict=True))


def _bound(before: Samples, after: Samples, name: str, share: float) -> float:
    total = after.value(f"{name}_count") - before.value(f"{name}_count")
    edges = {
        float(dict(labels)["le"]): dict(labels)["le"] for found, labels in after.values if found == f"{name}_bucket"
    }
    for edge, label in sorted(edges.items()):
        if after.value(f"{name}_bucket", le=label) - before.value(f"{name}_bucket", le=label) >= share * total:
            return edge
    raise AssertionError(f"no histogram {name}")


async def gauges(nodes: Sequence[Node], name: str, **labels: str) -> list[float]:
    """Read this on every node."""
    return [it.value(name, **labels) for it in await asyncio.gather(*(node.metrics() for node in nodes))]


# --- waiting


async def until(condition: Callable[[], Awaitable[object]], within: float, what: str) -> float:
    """Wait for a condition that has to be asked for; return the seconds that took."""
    start = time.monotonic()
    while not await condition():
        assert time.monotonic() - start < within, f"{what} did not come true in {within:g} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - start


def told(figures: str) -> None:
    """Show figures with a failure, or with -s."""
    print(figures)  # noqa: T201 - pytest keeps it for the failure


async def clean(scene: Scene, within: float = 20.0) -> Verdict:
    """Ask for the verdict, which must be clean; publishers, and those who come and go, go on afterwards."""
    goers = [it for it in scene.crowd.clients if it.churns]
    verdict = await scene.verdict(within)
    assert verdict.clean, verdict
    assert not scene.crowd.records.failures, scene.crowd.records.failures
    for client in goers:
        client.churns = True
    scene.crowd.speak()
    return verdict


async def caught_up(scene: Scene, within: float) -> float:
    """Wait until all who stay have what the streams held a moment ago; return the seconds. The publishers go on."""

    def has(held: Position | None, top: Position | None) -> bool:
        return top is not None and held is not None and held.epoch == top.epoch and held.offset >= top.offset

    async def all_have() -> bool:
        tops = await scene.crowd.tops()
        stayers = [it for it in scene.crowd.clients if not it.churns]
        return all(
            log.listening and has(log.position, tops.get(log.channel)) for it in stayers for log in it.logs.values()
        )

    return await until(all_have, within, f"catching up ({scene.crowd})")


def tells(scene: Scene) -> dict[tuple[str, str], int]:
    """Return how often each client was told in each channel that something may be missing."""
    return {(log.client, log.channel): log.tells.total() for log in scene.crowd.logs}


def told_since(scene: Scene, before: dict[tuple[str, str], int]) -> float:
    """Return the share of logs that were told since."""
    now = tells(scene)
    return sum(now[it] > count for it, count in before.items()) / len(before)


# --- the server


@asynccontextmanager
async def operator(valkey: Valkey) -> AsyncIterator[Redis]:
    """Give a connection that stands, for what new ones cannot ask."""
    async with Redis(port=valkey.port, single_connection_client=True) as client:
        yield client


def wanted(scene: Scene) -> dict[str, int]:
    """Return how many nodes have somebody in each channel who stays there."""
    nodes: dict[str, set[str]] = {}
    for client in scene.crowd.clients:
        if client.link is not None and not client.churns:
            for channel in client.logs:
                nodes.setdefault(channel, set()).add(client.link.node)
    return {channel: len(found) for channel, found in nodes.items()}


async def subscribed(valkey: Valkey, channels: Collection[str], prefix: str = "gateway") -> dict[str, int]:
    """Ask the server how many nodes listen in each channel of ours."""
    names = [f"{prefix}.client.{{53t}}.{channel}" for channel in channels]
    async with operator(valkey) as redis:
        found = await redis.pubsub_numsub(*names)
    return dict(zip(channels, (count for _, count in found), strict=True))


async def resubscribed(scene: Scene, expected: dict[str, int], within: float) -> float:
    """Wait until at least so many nodes listen in each channel again; return the seconds."""

    async def stand() -> bool:
        found = await subscribed(scene.valkey, expected)
        return all(found[channel] >= count for channel, count in expected.items())

    return await until(stand, within, "subscribing again")


# --- guests


@dataclass(slots=True, eq=False)
class Guest:
    """One who sits in channels, does as told, and notes what a node says."""

    name: str
    node: Node
    channels: Sequence[str]
    epochs: dict[str, str] = field(default_factory=dict)  # of the subscriptions that stand; "" without history
    tells: int = 0
    joins: int = 0
    leaves: int = 0
    received: int = 0  # publications
    holding: bool = False  # who is told that something is missing stays away until `come_back`
    _wanted: list[str] = field(default_factory=list)
    _link: ClientConnection | None = None
    _asked: dict[int, str] = field(default_factory=dict)
    _ids: int = 1

    async def live(self) -> None:
        """Connect, subscribe and listen. Raises ConnectionError when the connection ends."""
        async with connect(
            self.node.centrifuge_url, proxy=None, compression=None, ping_interval=None, sock=_socket(self.node.port)
        ) as link:
            self._link = link
            await link.send(json.dumps({"id": 1, "connect": {"token": token(self.name)}}))
            self._wanted = list(self.channels)
            await self._go_on()
            async for message in link:
                for line in str(message).split("\n"):
                    await self._take(line)
        raise ConnectionError(f"{self.name} was closed: {link.close_code} {link.close_reason}")

    async def come_back(self) -> None:
        """Subscribe again where this guest was told that something is missing, and from now on at once."""
        self.holding = False
        await self._go_on()

    async def _go_on(self) -> None:
        """Subscribe to what is wanted, so many at a time: all guests at once would be a fault of their own."""
        assert self._link is not None
        while self._wanted and len(self._asked) < AT_ONCE:
            self._ids += 1
            channel = self._asked[self._ids] = self._wanted.pop()
            command = {"id": self._ids, "subscribe": {"channel": channel, "join_leave": True}}
            await self._link.send(json.dumps(command))

    async def _take(self, line: str) -> None:
        assert self._link is not None
        if line == "{}":
            await self._link.send("{}")
            return
        answer = json.loads(line)
        push = answer.get("push", {})
        self.joins += "join" in push
        self.leaves += "leave" in push
        self.received += "pub" in push
        if "unsubscribe" in push:
            await self._told(push["channel"], push["unsubscribe"]["code"])
        elif answer.get("id") in self._asked:
            channel = self._asked.pop(answer["id"])
            assert "error" not in answer, (channel, answer)
            self.epochs[channel] = answer["subscribe"].get("epoch", "")
            await self._go_on()

    async def _told(self, channel: str, code: int) -> None:
        assert code in RESUBSCRIBE, (channel, code)
        self.tells += 1
        del self.epochs[channel]
        self._wanted.append(channel)
        if not self.holding:
            await self._go_on()


def _socket(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), source_address=(ADDRESS, 0))
    made.setblocking(False)
    return made


@asynccontextmanager
async def guests(nodes: Iterable[Node], channels: Sequence[str], each: int = 0) -> AsyncIterator[list[Guest]]:
    """Seat guests on every node, so many channels to each (0: all to one); nobody of them may lose a connection."""
    size = each or len(channels)
    people = [
        Guest(f"guest-{node.name}-{start}", node, channels[start : start + size])
        for node in nodes
        for start in range(0, len(channels), size)
    ]
    lives = [asyncio.create_task(it.live()) for it in people]

    async def seated() -> bool:
        _all_well(lives)
        return all(len(it.epochs) == len(it.channels) for it in people)

    try:
        await until(seated, 60.0, "seating the guests")
        yield people
        _all_well(lives)
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


def _all_well(lives: Iterable[asyncio.Task[None]]) -> None:
    gone = [it.exception() for it in lives if it.done()]
    assert not gone, gone


async def present(scene: Scene, channel: str = LOBBY) -> list[int]:
    """Ask each node how many are in a channel; -1: it did not say."""

    async def ask(node: Node) -> int:
        status, answer = await scene.crowd.api.call(node.url, "presence_stats", {"channel": channel})
        return int(answer["result"]["num_clients"]) if status == 200 and "result" in answer else -1

    return await asyncio.gather(*map(ask, scene.nodes))
