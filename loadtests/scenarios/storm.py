"""Storm: everybody is cut off at the same moment, and everybody comes back at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import ClassVar, Final

from loadtests.scenarios.contract import Client, Stage
from loadtests.scenarios.moves import Absences, Homes, in_turn, publishers

MOST: Final = 0.95
CALM: Final = 0.25  # of the time between two cuts, before the first


class Storm:
    """All connections are cut `cuts` times, and come back within `jitter`: how long until 95 % and all are there."""

    name: ClassVar[str] = "storm"

    async def play(self, stage: Stage) -> None:
        """Cut everybody again and again while a few others go on publishing."""
        homes = Homes(stage)
        clients = await stage.crowd(lambda number: [homes.of(number)])
        speakers = await publishers(stage)
        await stage.ramped()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._storms(stage, clients))
            if stage.profile.rate:
                total = max(stage.profile.publishers, stage.share.of)
                tasks.create_task(stage.speak(speakers, total, in_turn(homes.channels)))

    async def _storms(self, stage: Stage, clients: Sequence[Client]) -> None:
        cuts = max(1, stage.profile.cuts)
        absences: list[Absences] = []
        for number in range(cuts):
            await stage.at(stage.profile.duration * (number + CALM) / cuts)
            if stage.phase == "settle":
                break
            storm = _Return(stage, clients)
            absences.append(storm.absences)
            storm.begin()
        await stage.until("settle")
        await asyncio.gather(*(it.over(stage.profile.settle) for it in absences))


class _Return:
    """One cut: who is back, and how long it took."""

    def __init__(self, stage: Stage, clients: Sequence[Client]) -> None:
        self.absences = Absences(stage, self._back)
        self._stage = stage
        self._clients = [it for it in clients if it.connected]  # who is still on his way back cannot be cut
        self._began = 0.0
        self._count = 0

    def begin(self) -> None:
        """Cut everybody."""
        self._began = time.monotonic()
        for client in self._clients:
            self.absences.begin(client, self._stage.rng.uniform(0.0, self._stage.profile.jitter), "cut")

    def _back(self, _: Client) -> None:
        self._count += 1
        seconds = time.monotonic() - self._began
        # Of several processes and cuts the slowest is shown: no more than 5 % were missing anywhere by then.
        if self._count == math.ceil(MOST * len(self._clients)):
            self._stage.meters.figure("back_95_seconds", seconds)
        if self._count == len(self._clients):
            self._stage.meters.figure("back_100_seconds", seconds)
