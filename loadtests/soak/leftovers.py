"""What is left when everybody has gone: in the nodes, in Redis, in the logs. It has to be nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.soak.stage import Stage
from tests.support.fleet import Node, Samples

PREFIX: Final = "gateway."
PATIENCE: Final = 60.0  # seconds
LOOK: Final = 0.5  # seconds
IDLE: Final = 6  # readings of an idle node, of which the highest is its baseline
EMPTY: Final = ("connections", "users", "subscriptions", "channels", "presence_entries", "client_queue_bytes")
AS_BEFORE: Final = ("tasks", "timers")
GONE: Final = ("presence", "users", "owned")  # kinds of keys; those of history have a time to live
LISTENED: Final = "client"  # the kind of a pub/sub channel that somebody listens to
VALKEY: Final = "Valkey"
OWN_CHANNELS: Final = "pub/sub channels of nodes"
LOUD: Final = frozenset({"error", "critical"})

Baseline = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Leftover:
    """So much of something was found in the end, and so much of it there may be."""

    where: str
    what: str
    found: float
    allowed: float = 0.0

    @property
    def offence(self) -> str:
        """What is wrong; empty: nothing."""
        return f"{self.where}: {self.what} {self.found:g}, not {self.allowed:g}" if self.found > self.allowed else ""


async def baselines(stage: Stage) -> dict[str, Baseline]:
    """Look at nodes and Valkey while nobody is there."""
    readings = []
    for _ in range(IDLE):
        readings.append({node.name: _uses(node, await node.metrics()) for node in stage.nodes})
        await asyncio.sleep(LOOK)
    own = len(stage.valkey.command("PUBSUB", "CHANNELS", f"{PREFIX}*"))
    return {VALKEY: {OWN_CHANNELS: own}} | {
        node.name: {what: max(it[node.name][what] for it in readings) for what in readings[0][node.name]}
        for node in stage.nodes
    }


async def left_over(stage: Stage, before: Mapping[str, Baseline]) -> list[Leftover]:
    """Wait until nothing is left over, or for a minute; return what was looked at."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [it async for it in _look(stage, before)]
        if not any(it.offence for it in found) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(LOOK)


async def _look(stage: Stage, before: Mapping[str, Baseline]) -> AsyncIterator[Leftover]:
    for node in stage.nodes:
        samples = await node.metrics()
        for what in EMPTY:
            yield Leftover(node.name, what, samples.value(f"gateway_{what}"))
        for what, value in _uses(node, samples).items():
            yield Leftover(node.name, what, value, before[node.name][what])
        yield Leftover(node.name, "errors", samples.value("gateway_errors_total"))
    for each in _in_valkey(stage, before[VALKEY][OWN_CHANNELS]):
        yield each


def _uses(node: Node, samples: Samples) -> Baseline:
    return {it: samples.value(f"gateway_{it}") for it in AS_BEFORE} | {"open files": node.files}


def _in_valkey(stage: Stage, own: float) -> Iterator[Leftover]:
    nodes = len(stage.nodes)
    keys = [it.decode() for it in stage.valkey.command("KEYS", f"{PREFIX}*")]
    kinds = Counter(map(kind, keys))
    for what in GONE:
        yield Leftover(VALKEY, f"keys of {what}", kinds[what])
    for key in (it for it in keys if kind(it) == "nodes"):
        yield Leftover(VALKEY, f"leases in {key}", stage.valkey.command("ZCARD", key), nodes)
    channels = Counter(kind(it.decode()) for it in stage.valkey.command("PUBSUB", "CHANNELS", f"{PREFIX}*"))
    yield Leftover(VALKEY, "pub/sub channels of clients", channels[LISTENED])
    yield Leftover(VALKEY, OWN_CHANNELS, channels.total() - channels[LISTENED], own)
    yield Leftover(VALKEY, "pub/sub patterns", stage.valkey.command("PUBSUB", "NUMPAT"))


def kind(name: str) -> str:
    """Return what a key or a pub/sub channel is for; `control` for all of the bus between nodes."""
    return name.removeprefix(PREFIX).partition(".")[0]


def complaints(node: str, log: str) -> list[str]:
    """Return the events in a node's log that no fault excuses: tracebacks, errors, lines that are no event."""
    return [f"{node}: {event}" for line in log.splitlines() if (event := _complaint(line))]


def _complaint(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return line
    return line if "exception" in event or event.get("level") in LOUD else ""


def summed(found: Iterable[Leftover]) -> Sequence[Leftover]:
    """Add up what the nodes have of the same kind."""
    sums: dict[tuple[str, str], tuple[float, float]] = {}
    for it in found:
        where = VALKEY if it.where == VALKEY else "nodes"
        held, allowed = sums.get((where, it.what), (0.0, 0.0))
        sums[where, it.what] = (held + it.found, allowed + it.allowed)
    return [Leftover(where, what, *values) for (where, what), values in sums.items()]
