"""18,000 connections on one node for ten minutes: memory stays where it is, and a message between two comes in time."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.histogram import Histogram
from loadtests.bench.nodes import FILES, PLAIN, audience, publication
from loadtests.bench.rig import Generator, Paced, Server, generator
from loadtests.bench.scenarios.contract import Bench, Scenario
from loadtests.soak.plateau import MOST, RISE, Plateau, plateau

CONNECTIONS: Final = 18_000
MINUTES: Final = 10.0
RATE: Final = 500.0  # messages a second, each to another connection
RUNS: Final = 10  # of which the time consists
MIB: Final = 1 << 20


async def play(bench: Bench) -> list[Figure]:
    """Everybody has a channel of his own; messages go round on a schedule while memory is watched each second."""
    number = bench.amount.clients(CONNECTIONS)
    seconds = 60 * (bench.minutes or (0.1 if bench.amount.quick else MINUTES))
    with bench.node() as node:
        plan = audience(node.port, bench.issuer, number, lambda it: f"{PLAIN}:{it}")
        async with generator(plan) as load:
            watch = asyncio.create_task(_memory(node))
            try:
                runs = [await _run(load, seconds / RUNS, number, bench) for _ in range(RUNS)]
            finally:
                watch.cancel()
                points = (await asyncio.gather(watch, return_exceptions=True))[0]
    if isinstance(points, BaseException):
        raise points
    return _figures(number, seconds, runs, plateau("the node", points))


async def _run(load: Generator, seconds: float, channels: int, bench: Bench) -> Paced:
    seen = await load.pace(seconds=seconds, rate=RATE, channels=channels, template=publication(timed=True), warm_up=0)
    bench.told(".")
    return seen


async def _memory(node: Server) -> list[tuple[float, float]]:
    """Return the resident memory of each second until cancelled."""
    start, points = time.monotonic(), []
    try:
        while True:
            points.append((time.monotonic() - start, node.resident() / MIB))
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        return points


def _figures(number: int, seconds: float, runs: list[Paced], memory: Plateau) -> list[Figure]:
    """Judge the whole time at once: what one tenth of it was like is a remark."""
    lost = sum(it.sent - it.latencies.total for it in runs)
    wrong = f"{lost} messages lost" if lost else ""
    whole = Histogram.merged(it.latencies for it in runs)
    worst = max(it.latencies.quantile(0.99) for it in runs) / 1000
    name = f"crowd of {number:,}"
    about = f"open-file limit {FILES:,}, {seconds:g} s, {RATE:g} messages/s"
    busy = max(it.busy for it in runs)
    p50, p99 = ([whole.quantile(share) / 1000] for share in (0.5, 0.99))
    short = "" if memory.judged else "too short to say that memory is flat"
    return [
        Figure(f"{name}: 1:1 p50", p50, "ms", busy=busy, note=about, wrong=wrong),
        Figure(f"{name}: 1:1 p99", p99, "ms", 50, True, busy, 20, f"worst tenth {worst:.1f} ms", wrong),
        Figure("  memory, highest / in the second quarter", [max(memory.slices) / memory.first], "times", MOST, True),
        Figure(
            "  memory, rise over the second half", [100 * memory.rise / memory.first], "%", 100 * RISE, True, note=short
        ),
    ]


SCENARIO: Final = Scenario("crowd", "18,000 connections for ten minutes (--minutes)", play, asked=True)
