"""One process of the generator: `python -m loadtests.workers.worker`, driven over its standard input and output."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import traceback
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

import uvloop

from loadtests.clients.dial import AddressError, Dial, look_up, trusting
from loadtests.clients.ground import Ground
from loadtests.clients.publications import Hearsay, Stamp
from loadtests.kit.profile import Profile
from loadtests.kit.target import Mint, TargetError
from loadtests.oracle import Ledger
from loadtests.scenarios import find
from loadtests.scenarios.contract import Share
from loadtests.workers.alarm import Alarm
from loadtests.workers.distribution import Distribution, merged, percentiles
from loadtests.workers.messages import LONGEST, Begin, Failed, Findings, Finish, Order, Ready, Timing, Word, line, order
from loadtests.workers.meters import ProcessMeters, now
from loadtests.workers.pace import Timetable
from loadtests.workers.room import raise_limit
from loadtests.workers.stage import HopelessError, ProcessStage

SECOND: Final = 1_000_000  # µs
SAMPLE: Final = 0.02  # seconds between two looks at how late the loop is
BAD_INPUT: Final = (HopelessError, AddressError, TargetError, ValueError)


class Worker:
    """Plays one share, tells each second what happened, and in the end all it knows."""

    def __init__(self, begin: Begin, say: asyncio.StreamWriter, stage: ProcessStage, timetable: Timetable) -> None:
        self._begin = begin
        self._say = say
        self._stage = stage
        self._timetable = timetable
        self._lag = Distribution()
        self._played = False
        self._finish = asyncio.Event()

    def take(self, message: Order) -> None:
        """Take an order of the parent's."""
        if isinstance(message, Timing):
            self._stage.meters.began, self._stage.meters.ends = message.measure, message.settle
            self._timetable.tell(message)
        elif isinstance(message, Finish):
            self._finish.set()

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Play to the end; then the findings have been said. Raises what the scenario raises."""
        beside = [tasks.create_task(it) for it in (self._tick(), self._measure_lag(), self._say_ready())]
        await find(self._begin.profile["scenario"])().play(self._stage)
        self._played = True
        await self._finish.wait()
        for task in beside:
            task.cancel()
        await self._tell(await self._findings())

    # --- inside

    async def _tell(self, word: Word) -> None:
        self._say.write(line(word))
        await self._say.drain()

    async def _say_ready(self) -> None:
        await self._stage.ready.wait()
        await self._tell(Ready())

    async def _tick(self) -> None:
        stage, at = self._stage, 0
        while True:
            await asyncio.sleep(max(0, self._begin.origin + (at + 1) * SECOND - now()) / SECOND)
            stage.look()
            # To count who stands costs too much of a loop that is being measured.
            quiet = stage.phase in {"ramp", "settle"}
            await self._tell(
                stage.meters.tick(
                    at,
                    standing=stage.standing() if quiet else len(stage.clients),
                    clients=len(stage.clients),
                    pending=stage.pending() if quiet else 0,
                    played=self._played,
                )
            )
            at += 1

    async def _measure_lag(self) -> None:
        while True:
            due = now() + int(SAMPLE * SECOND)
            await asyncio.sleep(SAMPLE)
            if self._stage.phase == "measure":
                self._lag.add(max(0, now() - due))

    async def _findings(self) -> Findings:
        stage, meters = self._stage, self._stage.meters
        meters.tick(0, standing=0, clients=0, pending=0, played=True)  # what came since the last second
        histograms: dict[str, str] = {name: it.encoded() for name, it in meters.run.items()}
        for fault in stage.unfinished():
            meters.fault(fault)
        tops = await stage.tops()
        return Findings(
            histograms=histograms,
            pages=stage.ledger.dump(),
            logs=[log.dump() for client in stage.clients for log in client.logs.values()],
            tops=tops,
            remarks=list(meters.remarks),
            faults=list(meters.faults),
            figures=meters.figures,
            connections=len(stage.clients),
            lag=percentiles(merged([self._lag.encoded()])).p99 or 0.0,
            behind=self._timetable.behind,
        )


async def play(begin: Begin, orders: asyncio.StreamReader, say: asyncio.StreamWriter) -> None:
    """Play what was ordered, to the end. Raises one of `BAD_INPUT`: it cannot be played; anything else is a fault."""
    if begin.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, begin.cores)
    profile = Profile.model_validate(begin.profile)
    async with AsyncExitStack() as stack:
        alarm = Alarm()
        stack.callback(alarm.close)
        meters, tasks = ProcessMeters(), asyncio.TaskGroup()
        timetable = Timetable(alarm)
        stage = ProcessStage(
            profile,
            Share(begin.part, begin.of),
            ground=await _ground(begin, profile, meters, tasks),
            meters=meters,
            timetable=timetable,
        )
        worker = Worker(begin, say, stage, timetable)
        async with tasks:
            hearing = tasks.create_task(_hear(orders, worker))
            try:
                await worker.run(tasks)
            finally:
                hearing.cancel()
                for client in stage.clients:
                    client.cut(stay_away=True)
            raise _DoneError  # ends whatever goes on beside


class _DoneError(Exception):
    """The share has been played."""


async def _hear(orders: asyncio.StreamReader, worker: Worker) -> None:
    while text := await orders.readline():
        worker.take(order(text))
    os._exit(1)  # the parent is gone: nobody wants to know anything any more


async def _ground(begin: Begin, profile: Profile, meters: ProcessMeters, tasks: asyncio.TaskGroup) -> Ground:
    target = begin.target
    stamp = Stamp(begin.run, profile.size)
    length = profile.ramp + profile.warm_up + profile.duration + profile.settle
    mint = Mint(target.tokens, length)

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.create_task(work)

    return Ground(
        dial=Dial(await look_up(target.urls), trust=trusting(target.ca, insecure=target.insecure)),
        token=mint.token,
        meters=meters,
        ledger=Ledger(),
        rng=random.Random(f"{profile.seed} {begin.part}"),
        stamp=stamp,
        hearsay=Hearsay(stamp),
        spawn=spawn,
        recovery=profile.recovery,
        run=begin.run,
    )


async def main() -> int:
    """Hold the dialogue; return the exit code."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=LONGEST)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    pipe, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    pipe.set_write_buffer_limits(0)  # so that `drain` waits until all is written
    say = asyncio.StreamWriter(pipe, flow, None, loop)
    begin = order(await orders.readline())
    assert isinstance(begin, Begin), begin
    failed = await _outcome(play(begin, orders, say))
    if failed is not None:
        say.write(line(failed))
    await say.drain()
    return 0 if failed is None else 1


async def _outcome(playing: Coroutine[Any, Any, None]) -> Failed | None:
    try:
        await playing
    except ExceptionGroup as group:
        error = _first(group)
    except BAD_INPUT as single:
        error = single
    else:
        return None
    if isinstance(error, _DoneError):
        return None
    if isinstance(error, BAD_INPUT):
        return Failed(str(error), bad=True)
    return Failed("".join(traceback.format_exception(error)))


def _first(error: BaseException) -> BaseException:
    """Return what is to blame in a group of errors: anything before the end itself."""
    if isinstance(error, BaseExceptionGroup):
        inner = [_first(it) for it in error.exceptions]
        return next((it for it in inner if not isinstance(it, _DoneError)), inner[0])
    return error


if __name__ == "__main__":
    raise_limit()
    sys.exit(uvloop.run(main()))
