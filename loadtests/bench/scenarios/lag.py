"""How long one hot channel with 10,000 subscribers holds up the loop, by the node's own histogram."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import PLAIN, audience, publication
from loadtests.bench.rig import Server, generator
from loadtests.bench.scenarios.contract import Bench, Scenario
from loadtests.watching.exposition import quantile, read

SUBSCRIBERS: Final = 10_000
SECONDS: Final = 20.0  # a run: the node looks ten times a second, so the p99 is the second worst of 200


async def play(bench: Bench) -> list[Figure]:
    """Publish with one in flight to everybody, without a pause."""
    number = bench.amount.clients(SUBSCRIBERS)
    lags, rates, busy = [], [], 0.0
    with bench.node() as node:
        plan = audience(node.port, bench.issuer, number, lambda _: f"{PLAIN}:0")
        async with generator(plan) as load:
            for _ in range(bench.amount.runs):
                before = await _lag(node)
                seen = await load.measure(
                    seconds=bench.amount.span(SECONDS), window=1, channels=1, template=publication()
                )
                after = await _lag(node)
                lags.append(1000 * quantile({it: count - before[it] for it, count in after.items()}, 0.99))
                rates.append(seen.deliveries)
                busy = max(busy, seen.busy)
                bench.told(".")
    return [
        Figure("fan-out to 10,000, one in flight", rates, "deliveries/s", busy=busy),
        Figure("loop lag p99, 10,000 subscribers of one channel", lags, "ms", 10, least=True, busy=busy, goal=5),
    ]


async def _lag(node: Server) -> Mapping[float, float]:
    page = await asyncio.to_thread(node.metrics)
    reading = read(page, time.monotonic())
    if reading is None or not reading.lag:
        raise RuntimeError("the node's metrics say nothing of its loop")
    return reading.lag


SCENARIO: Final = Scenario("lag", "loop lag with 10,000 subscribers of one hot channel", play)
