"""One fault of a soak as it was seen: how long it took until all was well, and what it cost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import httpx
from redis.exceptions import RedisError

from loadtests.oracle import Log
from loadtests.soak.faults import FAULTS
from loadtests.soak.stage import Stage
from loadtests.soak.watch import Watch
from tests.support.fleet import Samples

BACK: Final = 45.0  # seconds after the end of a fault; the back-off of clients takes up to ten of them
WENT_WRONG: Final = (AssertionError, OSError, TimeoutError, httpx.HTTPError, RedisError)


class Reading(NamedTuple):
    """The counters of one node; a restart begins another process, which counts from nothing."""

    pid: int
    samples: Samples


@dataclass(slots=True)
class Trial:
    """Times in seconds; `served` and `caught_up` since the fault began, `at` since the run did."""

    number: int
    name: str
    at: float
    detail: str = ""
    lasted: float = 0.0
    served: float = 0.0  # until nobody was without service any more; 0: nobody was
    caught_up: float = 0.0  # until everybody had everything, looked at when the fault was over
    closes: Counter[int] = field(default_factory=Counter)
    repairs: int = 0  # gaps that nodes mended, nobody noticing
    told: int = 0  # clients that heard that something may be missing in one of their channels
    refused: int = 0  # attempts to publish
    doubtful: int = 0
    offence: str = ""

    def __str__(self) -> str:
        """Return its line of the progress."""
        closes = ", ".join(f"{count} x {code}" for code, count in sorted(self.closes.items())) or "none"
        return (
            f"[{self.at:4.0f} s] {self.number}. {self.name}{f' ({self.detail})' if self.detail else ''}: "
            f"lasted {self.lasted:.1f} s, all served after {self.served:.1f} s, "
            f"caught up after {self.caught_up:.1f} s; "
            f"closes {closes}; {self.repairs} gaps repaired, {self.told} told; "
            f"publishes: {self.refused} refused, {self.doubtful} doubtful"
            + (f"\n    OFFENCE: {self.offence}" if self.offence else "")
        )


async def perform(stage: Stage, watch: Watch, number: int, name: str) -> Trial:
    """Do this to the stage and wait until all is well again, or long enough."""
    trial = Trial(number, name, watch.now)
    before, told, began = await readings(stage), _told(stage), time.monotonic()
    try:
        trial.detail = await FAULTS[name](stage)
    except WENT_WRONG as error:
        trial.offence = f"{name}: {type(error).__name__} {error}"
    trial.lasted = time.monotonic() - began
    if not await watch.caught_up(BACK):
        trial.offence = trial.offence or f"{name}: not all was well {BACK:g} s after its end: {watch.behind()}"
    trial.caught_up = time.monotonic() - began
    trial.served = watch.unserved(began)
    after = await readings(stage)
    trial.repairs = round(sum(_risen(before[it], after[it], "gateway_repairs_total") for it in before))
    trial.told = sum(count > told[it] for it, count in _told(stage).items())
    for people in stage.crowds:
        trial.closes += people.records.codes(began)
        outcomes = people.records.outcomes(began)
        trial.refused += outcomes["refused"]
        trial.doubtful += outcomes["doubtful"]
    return trial


async def readings(stage: Stage) -> dict[str, Reading]:
    """Read the metrics of all nodes. Raises httpx.HTTPError."""
    samples = await asyncio.gather(*(it.metrics() for it in stage.nodes))
    return {node.name: Reading(node.pid, it) for node, it in zip(stage.nodes, samples, strict=True)}


def _risen(before: Reading, after: Reading, name: str) -> float:
    start = _mended(before.samples, name) if before.pid == after.pid else 0.0
    return _mended(after.samples, name) - start


def _mended(samples: Samples, name: str) -> float:
    return samples.value(name, result="full") + samples.value(name, result="empty")


def _told(stage: Stage) -> dict[Log, int]:
    return {log: log.tells.total() for it in stage.clients for log in it.logs.values()}
