"""What history and recovery cost: two namespaces of one node in turn, fan-out and 1:1."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import KEPT, PLAIN, audience, publication
from loadtests.bench.rig import Client, Measured, Server, generator
from loadtests.bench.scenarios.contract import Bench, Scenario, busiest, rates, ratio

CLIENTS: Final = 1000
WINDOW: Final = 128  # of the 1:1 publisher


async def play_fan_out(bench: Bench) -> list[Figure]:
    """1,000 subscribers of a channel without and 1,000 of one with history."""
    runs = await _both(bench, channels=1, window=1)
    times = ratio(runs[KEPT], runs[PLAIN])
    return [
        Figure("fan-out with history and recovery", rates(runs[KEPT]), "deliveries/s", busy=busiest(runs[KEPT])),
        Figure("  with history / without, one in flight", times, "times", 0.85, goal=0.9),
    ]


async def play_one_to_one(bench: Bench) -> list[Figure]:
    """1,000 channels without and 1,000 with history."""
    runs = await _both(bench, channels=bench.amount.clients(CLIENTS), window=WINDOW)
    times = ratio(runs[KEPT], runs[PLAIN])
    return [
        Figure("1:1 with history and recovery", rates(runs[KEPT]), "messages/s", busy=busiest(runs[KEPT])),
        Figure("  1:1 with history / without", times, "times", 0.4, goal=0.5),
    ]


async def _both(bench: Bench, *, channels: int, window: int) -> dict[str, list[Measured]]:
    async with AsyncExitStack() as stack:
        node = stack.enter_context(bench.node())
        kinds = {}
        for turn, namespace in enumerate((PLAIN, KEPT)):
            load = await stack.enter_async_context(generator(_audience(bench, node, namespace, channels, turn)))
            template = publication(namespace)
            kinds[namespace] = partial(
                load.measure, seconds=bench.amount.seconds, window=window, channels=channels, template=template
            )
        return await bench.measured(kinds)


def _audience(bench: Bench, node: Server, namespace: str, channels: int, turn: int) -> list[Client]:
    clients = bench.amount.clients(CLIENTS)
    return audience(node.port, bench.issuer, clients, lambda it: f"{namespace}:{it % channels}", first=turn * 10_000)


FAN_OUT: Final = Scenario("history", "fan-out with history and recovery beside without, on one node", play_fan_out)
ONE_TO_ONE: Final = Scenario("1:1-history", "1:1 with history beside without, on one node", play_one_to_one)
