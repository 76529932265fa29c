"""Measures all contestants: alive at once and in turn for fan-out, one after the other for what they hold when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from loadtests.bench.rig import Client, Generator, Measured, generator
from loadtests.bench.slices import Amount, interleaved, joined
from loadtests.compare.contestants import Contestant
from loadtests.compare.outcome import ACCEPTS, EIGHT, MEMORY, ONE, Row, exact, row, weighed

SUBSCRIBERS: Final = 1000
PLATEAU: Final = 2000
REST: Final = 2.0  # seconds after which what a connection costs while it is made has been given back
WINDOWS: Final = {ONE: 1, EIGHT: 8}


@dataclass(frozen=True, slots=True)
class Ring:
    """What all contestants share."""

    redis: str
    amount: Amount
    told: Callable[[str], None]  # shows progress
    patience: float = 2.0  # seconds without a delivery, and what is due is lost

    @property
    def subscribers(self) -> int:
        """How many subscribers each publication is for."""
        return self.amount.clients(SUBSCRIBERS)

    @property
    def plateau(self) -> int:
        """How many idle connections are between two looks at the memory."""
        return self.amount.clients(PLATEAU)


async def fan_out(contestants: Sequence[Contestant], ring: Ring) -> list[Row]:
    """Measure deliveries a second of one channel. All servers are alive, and one at a time has work."""
    async with AsyncExitStack() as stack:
        loads: dict[str, Generator] = {}
        kinds: dict[str, Callable[[], Awaitable[Measured]]] = {}
        for it in contestants:
            with _blaming(it):
                port = stack.enter_context(it.running(ring.redis)).port
                plan = [*(it.subscriber(port, number) for number in range(ring.subscribers)), it.publisher(port)]
                load = loads[it.name] = await stack.enter_async_context(generator(plan))
            for measure, window in WINDOWS.items():
                kinds[f"{it.name} {measure.name}"] = partial(_slice, it, load, window, ring)
        runs = {name: joined(it) for name, it in (await interleaved(ring.amount, kinds, ring.told)).items()}
        wrong = {name: exact(*await _settle(load, ring), ring.subscribers) for name, load in loads.items()}
    rows = []
    for measure in WINDOWS:
        for it in contestants:
            seen = runs[f"{it.name} {measure.name}"]
            rates, busy = [run.deliveries for run in seen], max(run.busy for run in seen)
            rows.append(row(it.name, measure, rates, busy=busy, wrong=wrong[it.name]))
    return rows


async def _slice(contestant: Contestant, load: Generator, window: int, ring: Ring) -> Measured:
    """Measure, and leave nothing on its way: it would be delivered at the expense of the next server's slice."""
    with _blaming(contestant):
        seconds, template = ring.amount.seconds, contestant.publication
        measured = await load.measure(seconds=seconds, window=window, channels=1, template=template)
        await _settle(load, ring)
    return measured


async def _settle(load: Generator, ring: Ring) -> tuple[int, int]:
    return await load.settle(ring.subscribers, patience=ring.patience)


@contextmanager
def _blaming(contestant: Contestant) -> Iterator[None]:
    """Say whose fault it is when a server or its clients give up."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(f"{contestant.title}: {error}") from error


async def idle(contestants: Sequence[Contestant], ring: Ring) -> list[Row]:
    """Measure what idle subscribers of one channel cost in memory, and how fast they are let in; runs take turns."""
    costs: dict[str, list[float]] = {it.name: [] for it in contestants}
    rates: dict[str, list[float]] = {it.name: [] for it in contestants}
    busy = dict.fromkeys(costs, 0.0)
    for _ in range(ring.amount.runs):
        for it in contestants:
            with _blaming(it):
                cost, second = await _plateaus(it, ring)
            costs[it.name].append(cost)
            rates[it.name].append(ring.plateau / second.ready_seconds)
            busy[it.name] = max(busy[it.name], second.ready_busy)
        ring.told(".")
    memory = [row(name, MEMORY, runs, wrong=weighed(runs)) for name, runs in costs.items()]
    return memory + [row(name, ACCEPTS, runs, busy=busy[name]) for name, runs in rates.items()]


async def _plateaus(contestant: Contestant, ring: Ring) -> tuple[float, Generator]:
    """Return the KiB that each connection of a second plateau adds, and who made it."""
    rest = ring.amount.span(REST)
    with contestant.running(ring.redis) as server:
        first, second = (_crowd(contestant, server.port, it * ring.plateau, ring.plateau) for it in range(2))
        async with generator(first):
            await asyncio.sleep(rest)
            before = server.resident()
            async with generator(second) as load:
                await asyncio.sleep(rest)
                return (server.resident() - before) / ring.plateau / 1024, load


def _crowd(contestant: Contestant, port: int, first: int, number: int) -> list[Client]:
    return [contestant.subscriber(port, first + it) for it in range(number)]
