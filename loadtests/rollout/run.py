"""Replaces node after node: a new one is ready, an old one is emptied by its hook and ended, then the next."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests.oracle import Verdict
from loadtests.rollout.stage import GRACE, Options, Replica, Stage, stand
from tests.support.crowd_records import percentile

SAMPLE: Final = 1.0  # seconds between two looks at the nodes
RECONNECTS: Final = 2.0  # of a client, on average
SHUTDOWN: Final = 3001
END: Final = 5.0  # seconds from SIGTERM to the end of a node that is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node replaced by another; times in seconds, `began` and `over` since the beginning of the rehearsal."""

    old: str
    new: str
    began: float  # its hook
    over: float  # its end
    start: float  # of the new one, until it was ready
    hook: float
    end: float  # from SIGTERM on
    code: int
    moved: int  # connections that it had when its hook began


@dataclass(slots=True, kw_only=True)
class Outcome:
    """All that came out of a rehearsal; `offences` empty: it was passed."""

    options: Options
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    connections: list[tuple[float, Mapping[str, int]]] = field(default_factory=list)  # by node, each second
    closes: list[float] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)  # each second's p99
    codes: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    deliveries: int = 0
    newcomers: int = 0
    p50: float = 0.0
    p99: float = 0.0
    gap: float = 0.0  # seconds without service, the 99th percentile of those who were moved
    verdict: Verdict | None = None

    @property
    def reconnects(self) -> float:
        """How often a client was moved, on average."""
        return self.codes.total() / self.options.clients

    @property
    def offences(self) -> list[str]:
        """Everything that should not have been."""
        most = RECONNECTS * self.options.clients
        moved = [it for it in self.steps if not it.moved]
        return [
            *(f"nobody was on {it.old}: that it was replaced proves nothing" for it in moved),
            *(f"{it.old} ended with {it.code}" for it in self.steps if it.code != 0),
            *(f"{count} connections ended with {code}" for code, count in self.codes.items() if code != SHUTDOWN),
            *(f"{count} handshakes were refused with {status}" for status, count in self.refused.items()),
            *([f"{self.reconnects:.2f} reconnects a client"] if self.codes.total() > most else []),
            *([f"p99 of deliveries {self.p99 * 1000:.0f} ms"] if self.p99 > self.options.p99 else []),
            *([] if self.verdict is not None and self.verdict.clean else [f"the oracle: {self.verdict}"]),
        ]


async def rehearse(options: Options, folder: Path, say: Callable[[str], None] = print) -> Outcome:
    """Play a rolling update; `say` is told the progress. Fails where a step does not end in its time."""
    outcome = Outcome(options=options)
    async with stand(options, folder) as stage:
        began = time.monotonic()
        async with watching(stage, outcome, began):
            await asyncio.sleep(options.around)
            for old in stage.nodes[: options.replaced]:
                step = await replaced(stage, old, began)
                outcome.steps.append(step)
                say(f"{step.old} -> {step.new}: {step.moved} connections, hook {step.hook:.1f} s, end {step.end:.2f} s")
            await stage.crowd.back(1.0, GRACE)
            await asyncio.sleep(options.around)
        outcome.seconds = time.monotonic() - began
        _measured(stage, outcome, began)
        outcome.verdict = await stage.crowd.verdict()
    return outcome


async def replaced(stage: Stage, old: Replica, began: float) -> Step:
    """Start a node in the place of another, and end that one: ready, hook, SIGTERM."""
    options, crowd = stage.options, stage.crowd
    starting = time.monotonic()
    new = stage.start()
    await new.ready()
    start = time.monotonic() - starting
    stage.nodes.append(new)
    crowd.nodes.append(new.url)
    await stage.route()
    moved, at = await old.connections(), time.monotonic()
    hook = asyncio.create_task(old.hook(options.delay + options.window + GRACE))
    await asyncio.sleep(options.noticed)
    stage.nodes.remove(old)
    crowd.nodes.remove(old.url)
    await stage.route()
    took = await hook
    ended = await old.terminate(within=END)
    return Step(
        old=old.name,
        new=new.name,
        began=at - began,
        over=time.monotonic() - began,
        start=start,
        hook=took,
        end=ended.seconds,
        code=ended.code,
        moved=moved,
    )


@asynccontextmanager
async def watching(stage: Stage, outcome: Outcome, began: float) -> AsyncIterator[None]:
    """Count the nodes' connections each second while the body runs."""

    async def watch() -> None:
        while True:
            alive = [it for it in stage.everybody if it.alive]
            counts = await asyncio.gather(*(it.connections() for it in alive))
            named = {it.name: count for it, count in zip(alive, counts, strict=True)}
            outcome.connections.append((time.monotonic() - began, named))
            await asyncio.sleep(SAMPLE)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        ended = (await asyncio.gather(task, return_exceptions=True))[0]
    if isinstance(ended, Exception):
        raise ended


def _measured(stage: Stage, outcome: Outcome, began: float) -> None:
    records, last = stage.crowd.records, began + outcome.seconds
    outcome.closes = [it.at - began for it in records.closes]
    outcome.codes, outcome.refused = records.codes(), records.statuses()
    outcome.newcomers = sum(at >= began for at, _ in records.handshakes)
    outcome.gap = percentile([it.took for it in records.returns], 0.99)
    outcome.p50, outcome.p99 = (records.latency(it, began, last) for it in (0.5, 0.99))
    seconds: dict[int, list[float]] = {}
    for at, took in records.arrivals():
        if began <= at <= last:
            seconds.setdefault(int(at - began), []).append(took)
    outcome.deliveries = sum(map(len, seconds.values()))
    outcome.latencies = [(at + 0.5, percentile(took, 0.99)) for at, took in sorted(seconds.items())]
