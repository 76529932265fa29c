"""Latency at half the saturating rate, on a schedule that waits for nobody: fan-out and 1:1.

What a core can do is measured in the same run, slices in turn: N recipients at a capacity of C deliveries a second take
N/C, so a recipient waits N/(2C) on average if nothing else costs time. C is that of one publication in flight: more in
flight are joined into fewer writes, which is another thing than the time of one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.bench.histogram import Histogram
from loadtests.bench.nodes import PLAIN, audience, publication
from loadtests.bench.rig import Generator, Measured, Paced, generator
from loadtests.bench.scenarios.contract import Bench, Scenario
from loadtests.bench.slices import interleaved, joined

CLIENTS: Final = 1000
PROBES: Final = 4  # slices that say what half the saturating rate is
LATE: Final = 2000.0  # microseconds; a generator that itself is later than this has nothing to say
WINDOWS: Final = {"fan-out": 1, "1:1": 128}


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its capacity in deliveries a second, and its latencies in microseconds."""

    capacity: float
    latencies: Histogram
    busy: float

    def quantile(self, share: float) -> float:
        """Return a latency in seconds."""
        return self.latencies.quantile(share) / 1e6


async def play_fan_out(bench: Bench) -> list[Figure]:
    """One channel: p50 and p99 in units of what the fan-out itself takes."""
    recipients = bench.amount.clients(CLIENTS)
    runs, wrong = await _runs(bench, channels=1, name="fan-out")
    half = [it.quantile(0.5) / (recipients / it.capacity / 2) for it in runs]
    whole = [it.quantile(0.99) / (recipients / it.capacity) for it in runs]
    busy = max(it.busy for it in runs)
    return [
        Figure("latency, fan-out p50 / (N/2C)", half, "times", 1.8, True, busy, 1.4, _remark(runs, 0.5), wrong),
        Figure("latency, fan-out p99 / (N/C)", whole, "times", 2.3, True, busy, 1.8, _remark(runs, 0.99), wrong),
    ]


async def play_one_to_one(bench: Bench) -> list[Figure]:
    """1,000 channels with one subscriber each."""
    runs, wrong = await _runs(bench, channels=bench.amount.clients(CLIENTS), name="1:1")
    busy = max(it.busy for it in runs)
    note = f"half of {median(it.capacity for it in runs):,.0f}/s"
    p50, p99 = ([1000 * it.quantile(share) for it in runs] for share in (0.5, 0.99))
    return [
        Figure("latency, 1:1 p50", p50, "ms", 1, True, busy, 0.7, note, wrong),
        Figure("latency, 1:1 p99", p99, "ms", 5, True, busy, 3, _remark(runs, 0.999, "p99.9"), wrong),
    ]


async def _runs(bench: Bench, *, channels: int, name: str) -> tuple[list[Run], str]:
    """Measure; return the runs, and why they say nothing, if so."""
    recipients = bench.amount.clients(CLIENTS) if channels == 1 else 1
    async with AsyncExitStack() as stack:
        node = stack.enter_context(bench.node())
        clients = bench.amount.clients(CLIENTS)
        plan = audience(node.port, bench.issuer, clients, lambda it: f"{PLAIN}:{it % channels}")
        load = await stack.enter_async_context(generator(plan))
        saturating = partial(
            load.measure, seconds=bench.amount.seconds, window=WINDOWS[name], channels=channels, template=publication()
        )
        rate = 0.5 * fmean([(await saturating()).deliveries for _ in range(PROBES)]) / recipients
        return _judged(*await _both(bench, load, saturating, rate=rate, channels=channels), recipients)


async def _both(
    bench: Bench, load: Generator, saturating: Callable[[], Awaitable[Measured]], *, rate: float, channels: int
) -> tuple[list[list[Measured]], list[list[Paced]]]:
    paced = partial(
        load.pace, seconds=2 * bench.amount.seconds, rate=rate, channels=channels, template=publication(timed=True)
    )
    kinds: dict[str, Callable[[], Awaitable[Measured | Paced]]] = {"saturated": saturating, "paced": paced}
    found = await interleaved(bench.amount, kinds, bench.told)
    return (
        [[it for it in run if isinstance(it, Measured)] for run in found["saturated"]],
        [[it for it in run if isinstance(it, Paced)] for run in found["paced"]],
    )


def _judged(
    saturated: Sequence[Sequence[Measured]], paced: Sequence[Sequence[Paced]], recipients: int
) -> tuple[list[Run], str]:
    every = [it for run in paced for it in run]
    sent = sum(it.sent for it in every)
    seen = sum(it.latencies.total for it in every)
    wrong = f"{sent * recipients - seen} deliveries missing" if seen < sent * recipients else ""
    if median(it.late for it in every) > LATE:
        wrong = "the generator was late itself"
    runs = [
        Run(capacity.deliveries, Histogram.merged(it.latencies for it in run), max(it.busy for it in run))
        for capacity, run in zip(joined(saturated), paced, strict=True)
    ]
    return runs, wrong


def _remark(runs: Sequence[Run], share: float, name: str = "that is") -> str:
    return f"{name} {median(it.quantile(share) for it in runs) * 1000:.2f} ms"


FAN_OUT: Final = Scenario("latency", "fan-out latency at half the saturating rate", play_fan_out)
ONE_TO_ONE: Final = Scenario("1:1-latency", "1:1 latency at half the saturating rate", play_one_to_one)
