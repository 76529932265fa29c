"""Two workers on one port beside one, the generator held to the same share of a core; what every process used.

On a machine with two cores the second worker shares its core with the generator and Valkey, so the factor says as much
about the machine as about the workers: deliveries per second of the nodes' own CPU time say what sharing a port costs.
"""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Final

from redis.asyncio import Redis

from gateway.demo.ports import free_port
from loadtests.bench.figures import Figure
from loadtests.bench.nodes import PLAIN, SERVE, audience, publication
from loadtests.bench.rig import Generator, Measured, Server, generator
from loadtests.bench.scenarios.contract import Bench, Scenario, busiest, rates, ratio
from loadtests.bench.slices import interleaved, joined
from loadtests.bench.throttle import throttled
from loadtests.bench.usage import family, usage

SUBSCRIBERS: Final = 1000
SHARE: Final = 0.4  # of a core, for the generator
PATIENCE: Final = 60.0  # seconds for a worker to start
LAST_PORT: Final = 65_535


@dataclass(slots=True)
class Group:
    """So many workers, their load, and the CPU time by process that slices took, in shares of a core."""

    workers: int
    node: Server
    load: Generator
    valkey: int
    shares: list[Mapping[str, float]] = field(default_factory=list)

    async def measure(self, *, seconds: float, window: int) -> Measured:
        """Measure one slice and note what each process used."""
        before, start = self._used(), time.monotonic()
        seen = await self.load.measure(seconds=seconds, window=window, channels=1, template=publication())
        took = time.monotonic() - start
        self.shares.append({name: (used - before.get(name, 0.0)) / took for name, used in self._used().items()})
        return seen

    def efficiency(self, runs: list[Measured]) -> float:
        """Return the deliveries of a second of the nodes' CPU time."""
        nodes = fmean(sum(used for name, used in it.items() if name.startswith("node")) for it in self.shares)
        return fmean(rates(runs)) / nodes

    def told(self) -> str:
        """Return what every process used on average."""
        names = list(self.shares[-1])
        return ", ".join(f"{it} {fmean(share.get(it, 0.0) for share in self.shares):.0%}" for it in names)

    def _used(self) -> dict[str, float]:
        first, *others = family(self.node.pid)
        nodes = {f"node {number}": pid for number, pid in enumerate(others, 1)}
        pids = {
            "node's parent" if others else "node": first,
            **nodes,
            "valkey": self.valkey,
            "generator": self.load.process.pid,
        }
        return {name: usage(pid).cpu for name, pid in pids.items()}


async def play(bench: Bench) -> list[Figure]:
    """Measure fan-out with one in flight, one worker and two in turn."""
    async with AsyncExitStack() as stack:
        groups = {f"{it} workers": await _group(bench, stack, it) for it in (1, 2)}
        means = {await stack.enter_async_context(throttled(it.load.process.pid, SHARE)) for it in groups.values()}
        kinds = {name: partial(group.measure, seconds=bench.amount.seconds, window=1) for name, group in groups.items()}
        found = {name: joined(it) for name, it in (await interleaved(bench.amount, kinds, bench.told)).items()}
    one, two = found["1 workers"], found["2 workers"]
    by = f"generator held to {SHARE:.0%} of a core by {' and '.join(means)}"
    per_cpu = groups["2 workers"].efficiency(two) / groups["1 workers"].efficiency(one)
    return [
        Figure("fan-out, 1 worker", rates(one), "deliveries/s", busy=busiest(one), note=groups["1 workers"].told()),
        Figure("fan-out, 2 workers", rates(two), "deliveries/s", busy=busiest(two), note=groups["2 workers"].told()),
        Figure("  2 workers / 1 worker", ratio(two, one), "times", goal=1.7, note=by),
        Figure("  deliveries per CPU time of the nodes, 2 / 1", [per_cpu], "times"),
    ]


async def _group(bench: Bench, stack: AsyncExitStack, workers: int) -> Group:
    internal = _row_of_ports(workers)
    program = (*SERVE, "--workers", str(workers))
    changes = {"http_server": {"connections_per_ip": 0, "internal_port": internal}}
    node = stack.enter_context(bench.node(program=program, changes=changes, pinned=False))
    for port in range(internal, internal + workers):
        await _ready(port)
    plan = audience(node.port, bench.issuer, bench.amount.clients(SUBSCRIBERS), lambda _: f"{PLAIN}:0")
    load = await stack.enter_async_context(generator(plan))
    async with Redis.from_url(bench.redis) as redis:
        valkey = int((await redis.info("server"))["process_id"])
    return Group(workers, node, load, valkey)


def _row_of_ports(number: int) -> int:
    """Return the first of so many ports in a row that nobody listens on."""
    while True:
        first = free_port()
        if first + number <= LAST_PORT and all(map(_is_free, range(first, first + number))):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def _ready(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/health/ready", timeout=2)
            except (OSError, urllib.error.HTTPError):
                await asyncio.sleep(0.1)
            else:
                return


SCENARIO: Final = Scenario("workers", "two workers beside one, and the CPU of every process", play)
