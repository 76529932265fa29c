"""Rounds of the gate: a slice of each kind in turn, the server's CPU time divided by all that it delivered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from loadtests.bench.gate.record import C_LOOP, IN_FLIGHT, STOCK, Round
from loadtests.bench.nodes import PLAIN, SERVE, audience, our_server, publication
from loadtests.bench.rig import SERVER_CORE, Generator, Server, generator, valkey
from loadtests.bench.usage import stolen
from loadtests.identity import Issuer
from loadtests.peers import registry
from loadtests.peers.contract import Peer

CLIENTS: Final = 250  # of each kind
WINDOW: Final = 64  # in flight over all channels of 1:1
SLICE: Final = 0.25  # seconds
MOST_WAITED: Final = 0.25  # share of its time that a server may have waited for its core: else it had neighbours
MOST_STOLEN: Final = 0.05  # share of a round that the hypervisor may have kept the core


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of load: who serves it, and how it is made."""

    name: str
    server: Server
    load: Generator
    template: str
    window: int = 1
    channels: int = 1

    async def slice(self) -> tuple[float, float]:
        """Measure; return microseconds of CPU per delivery, and the share of its time that the server waited.

        All is counted: what was published before and delivered later cannot fall between two slices.
        """
        each = CLIENTS // self.channels
        _, before = await self.load.settle(each)
        began = self.server.usage()
        await self.load.measure(
            seconds=SLICE, window=self.window, channels=self.channels, template=self.template, warm_up=0
        )
        _, after = await self.load.settle(each)
        used = self.server.usage() - began
        return used.cpu / max(1, after - before) * 1e6, used.waited / max(used.cpu + used.waited, 1e-9)


@asynccontextmanager
async def kinds(program: Sequence[str] = SERVE) -> AsyncIterator[list[Kind]]:
    """Run all servers and connect their clients; `program` is our node."""
    issuer = Issuer()
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(valkey())
        node = stack.enter_context(our_server(stack.enter_context(issuer.serving()), redis, program=program))
        fan_out = audience(node.port, issuer, CLIENTS, lambda _: f"{PLAIN}:everybody")
        one_to_one = audience(node.port, issuer, CLIENTS, lambda it: f"{PLAIN}:{it}", first=10_000)
        to_all = await stack.enter_async_context(generator(fan_out))
        to_each = await stack.enter_async_context(generator(one_to_one))
        everybody = publication().replace(f"{PLAIN}:@C", f"{PLAIN}:everybody")
        yield [
            await _reference(C_LOOP, registry.C_LOOP, redis, stack),
            Kind("fan-out", node, to_all, everybody),
            await _reference(STOCK, registry.STOCK, redis, stack),
            Kind("joined", node, to_all, everybody, IN_FLIGHT),
            Kind("1:1", node, to_each, publication(), WINDOW, CLIENTS),
        ]


async def _reference(name: str, peer: Peer, redis: str, stack: AsyncExitStack) -> Kind:
    server = stack.enter_context(peer.running(redis))
    dialect = peer.dialect
    plan = [dialect.subscriber(server.port, it) for it in range(CLIENTS)]
    load = await stack.enter_async_context(generator([*plan, dialect.publisher(server.port)]))
    return Kind(name, server, load, dialect.publication)


async def one_round(every: Sequence[Kind], seconds: float) -> Round:
    """Measure a slice of each kind; `seconds` is about how long that takes."""
    lost = stolen([SERVER_CORE])
    costs, waits = {}, {}
    for kind in every:
        costs[kind.name], waits[kind.name] = await kind.slice()
    if stolen([SERVER_CORE]) - lost > MOST_STOLEN * seconds:
        return Round(costs, "the hypervisor took the core away")
    if max(waits.values()) > MOST_WAITED:
        return Round(costs, "servers had to wait for their core: something else runs on this machine")
    return Round(costs)
