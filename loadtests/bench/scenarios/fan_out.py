"""Fan-out of one channel: ours beside the C loop, stock FastAPI and Node `ws`, one and eight publications in flight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import PLAIN, audience, publication
from loadtests.bench.rig import Generator, Measured, generator
from loadtests.bench.scenarios.contract import Bench, Scenario, busiest, rates, ratio
from loadtests.peers.contract import Peer
from loadtests.peers.registry import C_LOOP, JS_WS, STOCK

Kinds: TypeAlias = Mapping[str, Callable[[], Awaitable[Measured]]]
Runs: TypeAlias = Mapping[str, list[Measured]]

SUBSCRIBERS: Final = 1000
CRIPPLED: Final = 40_000  # deliveries/s of the stock server below which the machine is not what anything is said about
FLOORS: Final = {C_LOOP.name: (0.7, 0.85), STOCK.name: (1.6, 0.0), JS_WS.name: (1.15, 0.0)}  # must, goal
EIGHT: Final = (5.0, 6.0)  # of the C loop at one write a frame


async def play(bench: Bench) -> list[Figure]:
    """Measure ours at one and eight in flight, each reference at one, all in turn."""
    present = [it for it in (C_LOOP, STOCK, JS_WS) if not it.missing()]
    async with AsyncExitStack() as stack:
        ours = await our_load(bench, stack)
        kinds = {"ours": partial(slice_of, bench, ours, window=1), "ours 8": partial(slice_of, bench, ours, window=8)}
        for peer in present:
            kinds[peer.name] = partial(slice_of_peer, bench, peer, await peer_load(bench, peer, stack))
        runs = await bench.measured(kinds)
    absent = [it for it in (C_LOOP, STOCK, JS_WS) if it not in present]
    return [*_rates(present, runs), *_ratios(present, runs), *_absent(absent)]


async def our_load(bench: Bench, stack: AsyncExitStack, *, number: int = SUBSCRIBERS) -> Generator:
    """Run a node and connect its subscribers."""
    node = stack.enter_context(bench.node())
    plan = audience(node.port, bench.issuer, bench.amount.clients(number), lambda _: f"{PLAIN}:0")
    return await stack.enter_async_context(generator(plan))


async def peer_load(bench: Bench, peer: Peer, stack: AsyncExitStack, *, number: int = SUBSCRIBERS) -> Generator:
    """Run a server of others' making and connect its subscribers."""
    running = stack.enter_context(peer.running(bench.redis))
    plan = [peer.dialect.subscriber(running.port, it) for it in range(bench.amount.clients(number))]
    return await stack.enter_async_context(generator([*plan, peer.dialect.publisher(running.port)]))


async def slice_of(bench: Bench, load: Generator, *, window: int) -> Measured:
    """Measure one slice of ours."""
    return await load.measure(seconds=bench.amount.seconds, window=window, channels=1, template=publication())


async def slice_of_peer(bench: Bench, peer: Peer, load: Generator) -> Measured:
    """Measure one slice of another server, one in flight."""
    template = peer.dialect.publication
    return await load.measure(seconds=bench.amount.seconds, window=1, channels=1, template=template)


def _rates(present: Iterable[Peer], runs: Runs) -> list[Figure]:
    found = [
        Figure(f"fan-out, {peer.title}", rates(runs[peer.name]), "deliveries/s", busy=busiest(runs[peer.name]))
        for peer in present
    ]
    found = [replace(it, floor=CRIPPLED) if it.name == f"fan-out, {STOCK.title}" else it for it in found]
    for name, title in (("ours", "one in flight"), ("ours 8", "8 in flight")):
        found.append(Figure(f"fan-out, {title}", rates(runs[name]), "deliveries/s", busy=busiest(runs[name])))
    return found


def _ratios(present: Iterable[Peer], runs: Runs) -> list[Figure]:
    found = []
    for peer in present:
        floor, goal = FLOORS[peer.name]
        values = ratio(runs["ours"], runs[peer.name])
        found.append(Figure(f"  one in flight / {peer.title}", values, "times", floor, goal=goal))
        if peer is C_LOOP:
            values = ratio(runs["ours 8"], runs[peer.name])
            found.append(Figure(f"  8 in flight / {peer.title} at one", values, "times", EIGHT[0], goal=EIGHT[1]))
    return found


def _absent(peers: Iterable[Peer]) -> list[Figure]:
    return [
        Figure(f"  one in flight / {it.title}", [0.0], "times", FLOORS[it.name][0], wrong=it.missing()) for it in peers
    ]


SCENARIO: Final = Scenario("fan-out", "1,000 subscribers of one channel beside C loop, stock FastAPI and Node ws", play)
