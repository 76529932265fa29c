"""The auth service on a real socket in this process, attackers in another, and how long its loop is held up."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from fastapi import FastAPI

from auth_service import server
from tests.support.deadlines import PATIENCE, said
from tests.support.exactness import within

TICK = 0.005  # seconds
OTHERS = 0.1  # cores; from there on a late tick says nothing of us

Answer: TypeAlias = tuple[str, int | None, float]
"""`429 too_many_attempts`, Retry-After, seconds."""


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[int]:
    """Serve under uvicorn in this loop, as the command does; yields the port."""
    listening = server.listen("127.0.0.1", 0)
    port: int = listening.getsockname()[1]
    runner = server.make(app)
    thresholds = gc.get_threshold()
    task = asyncio.create_task(server.serve(app, runner, listening, started=server.settle_memory))
    try:
        yield port
    finally:
        runner.should_exit = True
        async with asyncio.timeout(PATIENCE):
            await task
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def attacked(port: int, attempts: Sequence[tuple[str, dict[str, Any]]], lag: Lag | None = None) -> list[Answer]:
    """Send log-ins all at once, each from its address of 127.0.0.0/8; return the answers in the same order.

    Measures the lag of the running loop meanwhile, from when the attackers are there: to start them takes this process
    some time.
    """
    program = (sys.executable, "-I", "-S", str(Path(__file__).with_name("guessing.py")))
    process = await asyncio.create_subprocess_exec(
        *program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told = {"port": port, "attempts": [{"from": address, "body": body} for address, body in attempts]}
    async with watched(Lag() if lag is None else lag):
        out, _ = await said(process, "the attackers' program", told=json.dumps(told).encode(), within=2 * PATIENCE)
    assert 0 == process.returncode
    return [(what, wait, took) for what, wait, took in json.loads(out)]


@dataclass(slots=True)
class Lag:
    """A timer in this loop, tick by tick: its delay, and what part of the tick the loop's thread worked; in seconds."""

    delays: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    others: float = 0.0  # cores that other processes had

    @property
    def worst(self) -> float:
        """The longest delay, whoever is to blame."""
        return max(self.delays)

    def at(self, share: float) -> float:
        """Return the delay that this share of all did not exceed."""
        return sorted(self.delays)[min(int(len(self.delays) * share), len(self.delays) - 1)]

    def assert_at_most(self, seconds: float) -> None:
        """Fail if the loop was held up for longer.

        On a machine that others leave to us no tick may be later. On a busy one the kernel makes anybody late; what
        is ours is then the work between two ticks, which shared caches make up to half as much again, and the delay of
        most ticks: hashes that kept the interpreter to themselves would make all of them late.
        """
        alone = self.others <= OTHERS
        shown = (
            f"worst {self.worst:.4f}, work {max(self.work):.4f}, median {self.at(0.5):.4f}, others {self.others:.2f}"
        )
        assert max(self.work) <= (within(seconds, otherwise=1.5) if alone else 1.5 * seconds), shown
        assert self.at(0.5) <= seconds, shown
        assert not alone or self.worst <= within(seconds, otherwise=3.0), shown


@asynccontextmanager
async def watched(lag: Lag) -> AsyncIterator[None]:
    """Measure the lag of the running loop meanwhile."""
    began, (all_before, ours_before) = time.monotonic(), _cores()
    task = asyncio.create_task(_tick(lag))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), "the timer failed"
        all_now, ours_now = _cores()
        lag.others = ((all_now - all_before) - (ours_now - ours_before)) / (time.monotonic() - began)


async def _tick(lag: Lag) -> None:
    while True:
        due, worked = time.perf_counter() + TICK, time.thread_time()
        await asyncio.sleep(TICK)
        lag.delays.append(max(time.perf_counter() - due, 0.0))
        lag.work.append(time.thread_time() - worked)


def _cores() -> tuple[float, float]:
    """Return the processor seconds of the whole machine, and of this process and the children it has waited for.

    What a host gave to other machines meanwhile is the work of others, too.
    """
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text(encoding="ascii").split()[1:9]
    everybody = sum(map(int, (user, nice, system, *interrupts))) / os.sysconf("SC_CLK_TCK")
    return everybody, sum(os.times()[:4])
