"""The bench's throttle: a process that wants a whole core gets the share that it is given, by either means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtests.bench import throttle
from loadtests.bench.rig import python
from loadtests.bench.throttle import GROUP, SIGNALS, throttled
from loadtests.bench.usage import usage
from tests.support.engines import eventually

NOWHERE = Path("/nowhere")


async def has_used(pid: int, seconds: float) -> bool:
    """Whether the process has used so much CPU time."""
    return usage(pid).cpu > seconds


def left_over(groups: Path) -> list[Path]:
    """Control groups that were not taken away."""
    return list(groups.glob("**/gateway-bench-*"))


@pytest.fixture
async def spinner() -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that takes all the CPU time there is."""
    process = await asyncio.create_subprocess_exec(*python("-c", "while True: pass"))
    try:
        await eventually(lambda: has_used(process.pid, 0.05))
        yield process
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("groups", [throttle.GROUPS, NOWHERE], ids=["usual", "signals"])
async def test_a_process_gets_its_share_and_no_more(
    spinner: asyncio.subprocess.Process, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of a core at most, about; when the throttle is gone the process runs freely again."""
    monkeypatch.setattr(throttle, "GROUPS", groups)
    async with throttled(spinner.pid, 0.2) as means:
        assert means in ({SIGNALS} if groups == NOWHERE else {SIGNALS, GROUP})
        before, start = usage(spinner.pid).cpu, time.monotonic()
        await asyncio.sleep(3.0)
        assert (usage(spinner.pid).cpu - before) / (time.monotonic() - start) < 0.45
    freed = usage(spinner.pid).cpu
    await eventually(lambda: has_used(spinner.pid, freed + 0.1))
    assert not left_over(groups)
