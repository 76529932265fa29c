"""The course of one run, as the parent sees it: start, ramp, warm up, measure, settle, judge."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from loadtests.kit.profile import Profile
from loadtests.kit.result import NodeSample, Result, Second
from loadtests.kit.target import Target
from loadtests.scenarios.contract import Phase
from loadtests.watching.machine import engine_version, machine, versions
from loadtests.watching.scrape import Watch, watching
from loadtests.workers.gathering import Gathering
from loadtests.workers.messages import Begin, Finish, Timing
from loadtests.workers.meters import now
from loadtests.workers.outcome import Circumstances, result
from loadtests.workers.pool import CrashError, Pool, pool

SECOND: Final = 1_000_000  # µs
LEAD: Final = 20_000  # µs from an order to the moment that it names, so that all hear it in time
PLAYS_ON: Final = 3  # times `settle`, for a scenario to look after what it began
PATIENCE: Final = 120.0  # seconds for the findings


class Shown(Protocol):
    """Whoever shows the progress."""

    def __call__(self, second: Second, nodes: list[NodeSample]) -> None:
        """Show a second that is over, with the newest of each node."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run. `cores`: which the processes are kept on, in turn; empty: `around`, all of these."""

    profile: Profile
    target: Target
    command: str
    processes: int
    cores: list[int] = field(default_factory=list)
    around: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class Run:
    """One run. `interrupted`: it was ended early, what was measured by then is reported."""

    def __init__(self, plan: Plan, show: Shown) -> None:
        self.interrupted = False
        self._plan = plan
        self._show = show
        self._name = secrets.token_hex(3)
        self._origin = 0
        self._timing: Timing | None = None
        self._stop = asyncio.Event()
        self._gathering = Gathering(plan.processes, self._phase_of)
        self._quiet = asyncio.Event()

    def stop(self) -> None:
        """End early: settle now, and report. Called a second time, or before the ramp is over: at once."""
        self.interrupted = True
        self._stop.set()

    async def play(self) -> Result | None:
        """Run; None: it was interrupted before there was anything to report.

        Raises RunError: the plan cannot be carried out; CrashError: the generator failed.
        """
        started = datetime.now(UTC)
        engine = await engine_version(self._plan.target.engine) if self._plan.target.engine else ""
        self._origin = now()
        async with (
            watching(self._plan.target.metrics, began=self._origin / SECOND) as watch,
            pool([self._begin(it) for it in range(self._plan.processes)]) as workers,
        ):
            await _first_of(self._gather(workers, watch), self._course(workers), workers.over())
        findings = [workers.findings[it] for it in sorted(workers.findings)]
        if len(findings) < self._plan.processes:
            return None
        around = Circumstances(
            target=self._plan.target.label,
            command=self._plan.command,
            started=started.isoformat(timespec="seconds"),
            machine=machine(),
            versions=versions(watch.versions, engine),
            measured=self._measured(),
            nodes=watch.samples,
            remarks=[*self._plan.remarks, *watch.remarks],
        )
        return result(self._plan.profile, self._gathering, findings, around)

    # --- inside

    async def _course(self, workers: Pool) -> None:
        """Tell everybody when what begins, and to say what they found; returns when they have."""
        if not await self._before_stop(workers.ready.wait()):
            return
        profile, start = self._plan.profile, now() + LEAD
        # A whole number of seconds since the beginning of the run: then no second belongs to two phases.
        measure = start + int(profile.warm_up * SECOND)
        measure += -(measure - self._origin) % SECOND
        self._time(workers, Timing(warm_up=start, measure=measure, settle=measure + int(profile.duration * SECOND)))
        if not await self._before_stop(self._measured_all()):
            self._end_now(workers)
        self._stop.clear()
        await self._before_stop(self._settled())
        workers.tell(Finish())
        try:
            await self._before_stop(asyncio.wait_for(workers.over(), PATIENCE))
        except TimeoutError:
            raise CrashError(f"a process of the generator said nothing for {PATIENCE:g} s after the end") from None

    async def _settled(self) -> None:
        """Wait until nothing is on its way; not for longer than a run may settle after its scenario has ended."""
        settle = self._plan.profile.settle
        deadline = time.monotonic() + PLAYS_ON * settle
        while not self._gathering.played and time.monotonic() < deadline:  # noqa: ASYNC110 - told by each second
            await asyncio.sleep(0.05)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), settle)

    async def _before_stop(self, work: Coroutine[Any, Any, object]) -> bool:
        """Wait for something; False if the run was stopped before it came."""
        waiting, stop = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({waiting, stop}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
            return waiting.done()
        finally:
            waiting.cancel()
            stop.cancel()

    async def _measured_all(self) -> None:
        assert self._timing is not None
        await asyncio.sleep(max(0, self._timing.settle - now()) / SECOND)

    def _time(self, workers: Pool, timing: Timing) -> None:
        self._timing = timing
        workers.tell(timing)

    def _end_now(self, workers: Pool) -> None:
        assert self._timing is not None
        self._time(workers, Timing(warm_up=self._timing.warm_up, measure=self._timing.measure, settle=now() + LEAD))

    async def _gather(self, workers: Pool, watch: Watch) -> None:
        while True:
            part, tick = await workers.ticks.get()
            second = self._gathering.take(part, tick)
            if second is not None:
                if self._gathering.settled:
                    self._quiet.set()
                newest = (watch.latest(it) for it in watch.urls)
                self._show(second, [it for it in newest if it is not None])

    def _begin(self, part: int) -> Begin:
        plan = self._plan
        return Begin(
            profile=plan.profile.model_dump(mode="json"),
            target=plan.target,
            part=part,
            of=plan.processes,
            run=self._name,
            origin=self._origin,
            cores=[plan.cores[part % len(plan.cores)]] if plan.cores else plan.around,
        )

    def _phase_of(self, second: int) -> Phase:
        middle, timing = self._origin + second * SECOND + SECOND // 2, self._timing
        if timing is None or middle < timing.warm_up:
            return "ramp"
        if middle < min(timing.measure, timing.settle):
            return "warm-up"
        return "measure" if middle < timing.settle else "settle"

    def _measured(self) -> float:
        timing = self._timing
        return max(0, timing.settle - timing.measure) / SECOND if timing is not None else 0.0


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Wait for the first that ends, well or not, and end the others."""
    tasks = [asyncio.create_task(it) for it in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
