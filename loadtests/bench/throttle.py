"""Gives a process no more than a share of a core: by a control group where we may make one, else by signals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

GROUPS: Final = Path("/sys/fs/cgroup")
PERIOD: Final = 0.01  # seconds; short, or what waits for the process is measured instead of its server
GROUP: Final = "control group"
SIGNALS: Final = "SIGSTOP and SIGCONT"


@asynccontextmanager
async def throttled(pid: int, share: float) -> AsyncIterator[str]:
    """Hold a process to this share of a core while the body runs; yields by what means."""
    try:
        group = _make(f"gateway-bench-{os.getpid()}-{pid}", share)
    except OSError:
        async with _stopped_often(pid, share):
            yield SIGNALS
        return
    with _inside(group, pid):
        yield GROUP


def _make(name: str, share: float) -> Path:
    """Return a new control group with this limit, of either version. Raises OSError: we may not, or there are none."""
    period = round(PERIOD * 1e6)
    first = (GROUPS / "cpu" / "cpu.cfs_quota_us").exists()
    group = (GROUPS / "cpu" if first else GROUPS) / name
    group.mkdir()
    try:
        if first:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(round(share * period)))
        else:
            (group / "cpu.max").write_text(f"{round(share * period)} {period}")
    except OSError:
        group.rmdir()
        raise
    return group


@contextmanager
def _inside(group: Path, pid: int) -> Iterator[None]:
    (group / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        with suppress(OSError):  # it has ended
            (group.parent / "cgroup.procs").write_text(str(pid))
        with suppress(OSError):  # somebody it started is still in there; the group goes with the machine
            group.rmdir()


@asynccontextmanager
async def _stopped_often(pid: int, share: float) -> AsyncIterator[None]:
    task = asyncio.create_task(_stop_and_go(pid, share))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _stop_and_go(pid: int, share: float) -> None:
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep((1 - share) * PERIOD)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(share * PERIOD)
    except ProcessLookupError:
        return  # it has ended
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
