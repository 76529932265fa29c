"""When things are due: phases that all processes share, and schedules that wait for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from loadtests.scenarios.contract import Phase
from loadtests.workers.alarm import Alarm
from loadtests.workers.messages import Timing
from loadtests.workers.meters import now

GRAIN: Final = 200  # µs; what is due within is sent together, else waking would cost more than sending
GRACE: Final = 1_000_000  # µs after the settling in which a late schedule may still send what was due
BREATH: Final = 64  # events after which the loop may look at its sockets, however late a schedule is
ORDER: Final[tuple[Phase, ...]] = ("ramp", "warm-up", "measure", "settle")


class Timetable:
    """The phases of one run, as the parent told them; times in µs of CLOCK_MONOTONIC."""

    def __init__(self, alarm: Alarm) -> None:
        self.behind = 0  # events that were due, and never came since their schedules were too late
        self._alarm = alarm
        self._timing: Timing | None = None
        self._told = asyncio.Event()

    def tell(self, timing: Timing) -> None:
        """Take the times; once more when the run is to end early."""
        self._timing = timing
        self._told.set()
        self._alarm.ring()

    @property
    def phase(self) -> Phase:
        """What is going on now."""
        timing, moment = self._timing, now()
        if timing is None or moment < timing.warm_up:
            return "ramp"
        if moment < timing.measure:
            return "warm-up" if moment < timing.settle else "settle"
        return "measure" if moment < timing.settle else "settle"

    async def until(self, phase: Phase) -> None:
        """Wait for a phase; returns at once if it has begun, or passed."""
        await self._told.wait()
        while ORDER.index(self.phase) < ORDER.index(phase):
            await self._alarm.until(self._begins(phase))

    async def at(self, seconds: float) -> None:
        """Wait until so many seconds of the measure phase have passed, or the run settles."""
        await self._told.wait()
        assert self._timing is not None
        while now() < (due := min(self._timing.measure + int(seconds * 1e6), self._timing.settle)):
            await self._alarm.until(due)

    async def pace(self, rate: float, offset: float) -> AsyncIterator[int]:
        """See `Stage.pace`."""
        await self._told.wait()
        assert self._timing is not None
        period, begin, number = 1e6 / rate, max(now(), self._timing.warm_up), 0
        while True:
            due = begin + int((number + offset) * period)
            while (moment := now()) < min(due, self._timing.settle):
                await self._alarm.until(min(max(due, moment + GRAIN), self._timing.settle))
            if due >= self._timing.settle:
                return
            if moment > self._timing.settle + GRACE:
                self.behind += int(-((due - self._timing.settle) // period))
                return
            if number % BREATH == 0:
                await asyncio.sleep(0)
            yield due
            number += 1

    def _begins(self, phase: Phase) -> int:
        assert self._timing is not None
        moments = {"warm-up": self._timing.warm_up, "measure": self._timing.measure}
        return min(moments.get(phase, self._timing.settle), self._timing.settle)
