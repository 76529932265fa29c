"""1:1: each channel has one subscriber; publish, acknowledge and deliver on one core, beside a redis-py pipeline."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import PLAIN, SERVE, audience, publication
from loadtests.bench.rig import generator
from loadtests.bench.scenarios.contract import Bench, Scenario, busiest, rates, ratio

CHANNELS: Final = 1000
WINDOW: Final = 128
REFERENCE: Final = ("-m", "loadtests.bench.reference_link", "serve")
PROGRAMS: Final = {"ours": SERVE, "redis-py": REFERENCE}


async def play(bench: Bench) -> list[Figure]:
    """Measure our link and the reference in turn."""
    channels = bench.amount.clients(CHANNELS)
    async with AsyncExitStack() as stack:
        kinds = {}
        for name, program in PROGRAMS.items():
            node = stack.enter_context(bench.node(program=program))
            plan = audience(node.port, bench.issuer, channels, lambda it: f"{PLAIN}:{it}")
            load = await stack.enter_async_context(generator(plan))
            kinds[name] = partial(
                load.measure, seconds=bench.amount.seconds, window=WINDOW, channels=channels, template=publication()
            )
        runs = await bench.measured(kinds)
    ours, reference = runs["ours"], runs["redis-py"]
    return [
        Figure("1:1, redis-py pipeline for commands", rates(reference), "messages/s", busy=busiest(reference)),
        Figure("1:1 over 1,000 channels", rates(ours), "messages/s", 42_000, busy=busiest(ours), goal=50_000),
        Figure("  1:1 / redis-py pipeline", ratio(ours, reference), "times", 2),
    ]


SCENARIO: Final = Scenario("1:1", "1,000 channels with one subscriber each, beside a redis-py pipeline", play)
