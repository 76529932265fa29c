"""Looks at a soak all the time: who is without service, and the course of connections, deliveries and memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.types import Position
from loadtests.oracle import Log
from loadtests.soak.stage import Stage
from tests.support.crowd import Crowd
from tests.support.crowd_life import Client

LOOK: Final = 0.25  # seconds between two looks at everybody
SAMPLE: Final = 1.0  # seconds between two samples
NO_TIME: Final = 1.0  # seconds that a client who comes by its own will may take to be ready
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """How it was `at` seconds after the beginning; memory in MiB by node, without those that do not run."""

    at: float
    connections: int
    deliveries: float  # a second, since the sample before
    memory: Mapping[str, float]


class Watch:
    """Knows who is missing. Somebody is after more than a second that he would be there if he could."""

    def __init__(self, stage: Stage) -> None:
        self.began = time.monotonic()
        self.samples: list[Sample] = []
        self._stage = stage
        self._unready: dict[Client, float] = {}  # since when
        self._last_missing = 0.0

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def unserved(self, since: float) -> float:
        """Return for how many seconds after `since` (monotonic) somebody was missing."""
        return max(0.0, self._last_missing - since)

    async def caught_up(self, within: float) -> bool:
        """Wait until nobody is missing and all who are there have what the streams hold; False: not in time."""
        deadline = time.monotonic() + within
        while not await self._is_caught_up():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK)
        return True

    def behind(self) -> str:
        """Say who is missing."""
        now = time.monotonic()
        missing = self._missing(now)
        named = ", ".join(f"{_described(it)} for {now - self._unready[it]:.0f} s" for it in missing[:5])
        return f"{len(missing)} missing: {named}"

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look and take samples while the body runs."""
        tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._take_samples())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        if died := [it for it in ends if it is not None and not isinstance(it, asyncio.CancelledError)]:
            raise died[0]

    # --- inside

    async def _look(self) -> None:
        while True:
            now = time.monotonic()
            for client in self._stage.clients:
                if client.ready or client.on_leave:
                    self._unready.pop(client, None)
                else:
                    self._unready.setdefault(client, now)
            if self._missing(now):
                self._last_missing = now
            await asyncio.sleep(LOOK)

    def _missing(self, now: float) -> list[Client]:
        return [it for it, since in self._unready.items() if now - since > NO_TIME]

    async def _is_caught_up(self) -> bool:
        looked = self._last_missing
        ready = [await _all_have(people) for people in self._stage.crowds]
        return all(ready) and looked == self._last_missing and not self._missing(time.monotonic())

    async def _take_samples(self) -> None:
        before, at = self._deliveries(), time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE)
            count, now = self._deliveries(), time.monotonic()
            memory = {it.name: it.resident / MIB for it in self._stage.nodes if it.alive}
            rate = (count - before) / (now - at)
            self.samples.append(Sample(now - self.began, self._stage.connected, rate, memory))
            before, at = count, now

    def _deliveries(self) -> int:
        return sum(log.deliveries for it in self._stage.clients for log in it.logs.values())


async def _all_have(people: Crowd) -> bool:
    tops = await people.tops()
    return all(
        _has(log, tops.get(log.channel)) for it in people.clients if it.ready for log in it.logs.values()
    ) and len(tops) == len(people.channels)


def _has(log: Log, top: Position | None) -> bool:
    held = log.position
    return top is not None and held is not None and held.epoch == top.epoch and held.offset >= top.offset


def _described(client: Client) -> str:
    if client.link is None:
        return f"{client.name} without a connection"
    lacking = ", ".join(channel for channel, log in client.logs.items() if not log.listening)
    return f"{client.name} on {client.link.node} not in {lacking} (refused: {client.link.refusals[-5:]})"
