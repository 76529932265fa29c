"""Tells whether the cores run as fast as they can: a neighbour on the other thread of a core halves it unseen.

A hypervisor counts the time it kept a core from us, not what a core lost to the machine next door with which it shares
its arithmetic, caches and clock. A fixed piece of work before and after each round shows that, whatever it shows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, TypeVar

from loadtests.bench.rig import LOAD_CORE, SERVER_CORE

T = TypeVar("T")
SLOW: Final = 0.85  # of the best speed seen on a core
PATIENCE: Final = 60.0  # seconds that all rounds of a measurement together may be put off or repeated
PAUSE: Final = 0.2  # seconds until the next look
WAIT: Final = 2.0  # seconds at most before a round: a server closes HTTP connections that were idle for 5
LOOKS: Final = 9
TAKEN, REPEATED, KEPT = ".", "~", "!"  # as progress shows them


def speed(core: int) -> float:
    """Return how often a second a fixed piece of work gets done on a core now, by the CPU time it takes."""
    usual = os.sched_getaffinity(0)
    if core in usual:
        os.sched_setaffinity(0, {core})
    try:
        return 1 / median(_work() for _ in range(LOOKS))
    finally:
        os.sched_setaffinity(0, usual)


def _work() -> float:
    began = time.thread_time()
    total = 0
    for number in range(8000):
        total += number * number
    return max(time.thread_time() - began, 1e-9)


@dataclass(slots=True)
class Calm:
    """Takes rounds while all `cores` are fast; when `patience` (seconds) is used up, it takes them as they come."""

    cores: Sequence[int] = (SERVER_CORE, LOAD_CORE)
    patience: float = PATIENCE
    speed: Callable[[int], float] = speed
    best: dict[int, float] = field(default_factory=dict)

    def reigns(self) -> bool:
        """Whether every core is about as fast as it has ever been seen."""
        now = {core: self.speed(core) for core in self.cores}
        self.best = {core: max(it, self.best.get(core, 0.0)) for core, it in now.items()}
        return all(it >= SLOW * self.best[core] for core, it in now.items())

    async def round(self, kinds: Mapping[str, Callable[[], Awaitable[T]]], told: Callable[[str], None]) -> dict[str, T]:
        """Return a slice of each kind, before and after which all cores were fast, while patience lasts.

        All of a round are repeated together: whatever is measured beside something else has the same moods.
        """
        while True:
            await self._come()
            began = time.monotonic()
            results = {name: await measure() for name, measure in kinds.items()}
            if self.reigns():
                told(TAKEN)
                return results
            if self.patience <= 0:
                told(KEPT)
                return results
            self.patience -= time.monotonic() - began
            told(REPEATED)

    async def _come(self) -> None:
        until = self.patience - WAIT
        while not self.reigns() and self.patience > max(0.0, until):
            self.patience -= PAUSE
            await asyncio.sleep(PAUSE)
