"""What tests of primaries that change need: links that stay behind, how long nobody hears anything, lost writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from redis.exceptions import ConnectionError as Unreachable

from gateway.engines.redis.topology import TAGS, fnv1a
from loadtests.oracle import Log
from tests.cluster.witness import caught_up, operator, until
from tests.support.crowd import crowd
from tests.support.crowd_life import Client, Load
from tests.support.crowd_publish import Publisher
from tests.support.fleet import API_KEY, SECRET, fleet
from tests.support.ports import free_port
from tests.support.scene import Scene
from tests.support.valkey import Valkey

NODES: Final = 3
LOST: Final = 5  # publications in each channel
SETTLED: Final = 10.0  # seconds until all is quiet, at most
LOOK: Final = 0.02  # seconds between two looks at what arrived


@asynccontextmanager
async def crewed(folder: Path, load: Load, first: Valkey, url: str, **settings: str) -> AsyncIterator[Scene]:
    """Set a scene on servers that run already; `first` is one of them, `url` names them all."""
    async with (
        fleet(folder, [url], NODES, **settings) as ships,
        crowd(load, nodes=ships.urls, secret=SECRET, api_key=API_KEY) as people,
    ):
        yield Scene(first, ships, people)


def ours(server: Valkey) -> list[str]:
    """Return the names of the gateway's links on a server."""
    words = str(server.command("CLIENT", "LIST").decode()).split()
    return [word.removeprefix("name=") for word in words if word.startswith("name=gateway-")]


def left(server: Valkey) -> bool:
    """Whether a server has become a replica, and nothing of ours is on it."""
    try:  # sentinels end all connections of a server whose role they change, ours too
        return bool(server.command("ROLE")[0] == b"slave") and not ours(server)
    except Unreachable:
        return False


def stayers(scene: Scene) -> list[Client]:
    """Return who does not come and go."""
    return [it for it in scene.crowd.clients if not it.churns]


def by_node(scene: Scene) -> dict[str, list[Log]]:
    """Return what those hear who stay, node by node."""
    found: dict[str, list[Log]] = {node.url: [] for node in scene.nodes}
    for client in stayers(scene):
        if client.link is not None:
            found[client.link.node].extend(client.logs.values())
    return found


def by_channel(scene: Scene, channels: Iterable[str]) -> dict[str, list[Log]]:
    """Return what those hear who stay, for some channels."""
    return {it: [client.logs[it] for client in stayers(scene) if it in client.logs] for it in channels}


@dataclass(slots=True)
class Silence:
    """How long nothing arrived, in each of some groups of listeners."""

    groups: Mapping[str, Sequence[Log]]
    last: dict[str, float] = field(default_factory=dict)  # when something arrived
    longest: dict[str, float] = field(default_factory=dict)  # seconds; what lasts is counted in

    @property
    def worst(self) -> float:
        """The longest of all, in seconds."""
        return max(self.longest.values())

    def heard_since(self, moment: float) -> bool:
        """Whether something has arrived since in every group."""
        return all(at > moment for at in self.last.values())

    async def listen(self) -> None:
        """Look until cancelled."""
        assert all(self.groups.values()), "somewhere nobody listens"
        counts = {name: _count(logs) for name, logs in self.groups.items()}
        self.last = dict.fromkeys(counts, time.monotonic())
        self.longest = dict.fromkeys(counts, 0.0)
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            for name, logs in self.groups.items():
                self.longest[name] = max(self.longest[name], now - self.last[name])
                if (count := _count(logs)) > counts[name]:
                    counts[name], self.last[name] = count, now


def _count(logs: Sequence[Log]) -> int:
    return sum(it.deliveries for it in logs)


@asynccontextmanager
async def silence(groups: Mapping[str, Sequence[Log]]) -> AsyncIterator[Silence]:
    """Measure silence while the body runs."""
    found = Silence(groups)
    task = asyncio.create_task(found.listen())
    await asyncio.sleep(0)
    try:
        yield found
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def outage(scene: Scene, since: float) -> float:
    """Return the longest time since then without an acknowledged publication, in seconds."""
    ends = sorted(it.at + it.took for it in scene.crowd.records.attempts if it.outcome == "acknowledged")
    times = [since, *(it for it in ends if it > since), time.monotonic()]
    return max(after - before for before, after in pairwise(times))


# --- writes that are lost


async def lose(scene: Scene, publishers: Sequence[Publisher], old: Valkey, new: Valkey) -> None:
    """Kill a primary after publications that everybody got and its replica did not; nobody else may publish there."""
    channels = [it.channel for it in publishers]

    async def even() -> bool:
        return await _offsets(old, channels) == await _offsets(new, channels)

    await until(even, SETTLED, "the replica to have everything")
    # What is on its way to a replica that is stopped would still reach it: this one is sent away.
    old.command("ACL", "SETUSER", "default", "-psync", "-sync")
    assert old.command("CLIENT", "KILL", "TYPE", "replica") == 1
    kept = await _offsets(new, channels)
    await publish(publishers)
    assert {it: top + LOST for it, top in kept.items()} == await _offsets(old, channels)
    await caught_up(scene, SETTLED)
    old.stop()
    assert kept == await _offsets(new, channels), "the replica has what was to be lost"


async def publish(publishers: Iterable[Publisher]) -> None:
    """Publish so many in each channel as `lose` loses; all must be taken."""
    for _ in range(LOST):
        sent = await asyncio.gather(*(it.publish() for it in publishers))
        assert [] == [it for it in sent if it.ending != "acknowledged"]


async def _offsets(server: Valkey, channels: Sequence[str]) -> dict[str, int]:
    """Read on a server itself where each stream stands: no node would say it of a replica."""
    async with operator(server) as redis:
        sharded = bool((await redis.info("cluster"))["cluster_enabled"])
        await (redis.readonly() if sharded else redis.ping())
        tags = {it: TAGS[fnv1a(it) % len(TAGS)] if sharded else TAGS[0] for it in channels}
        return {it: int(await redis.hget(f"gateway.meta.{{{tag}}}.{it}", "s") or 0) for it, tag in tags.items()}


@asynccontextmanager
async def some_away(scene: Scene) -> AsyncIterator[list[Client]]:
    """Keep a fifth of those who stay away while the body runs: they find nobody to connect to."""
    away = stayers(scene)[::5]
    for client in away:
        client.nodes = [f"http://127.0.0.1:{free_port()}"]
        assert client.link is not None
        client.link.cut()
    try:
        await scene.crowd.until(lambda: not any(it.link for it in away), SETTLED, "some to be away")
        yield away
    finally:
        for client in away:
            client.nodes = []
