"""What a process used: CPU time to the nanosecond, time it waited for a core, memory; children included."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TICKS: Final = os.sysconf("SC_CLK_TCK")
GONE: Final = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds since the process began; `waited`: ready to run while others had the core."""

    cpu: float
    waited: float

    def __sub__(self, other: Usage) -> Usage:
        """Return what was used since then."""
        return Usage(self.cpu - other.cpu, self.waited - other.waited)


def usage(pid: int) -> Usage:
    """Return what a process used with all its threads, those that ended aside. Raises FileNotFoundError: it is gone.

    A kernel that does not count so finely is asked for its ticks; then nothing is known of the waiting.
    """
    cpu = waited = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(*GONE):
            on, ready, _ = (task / "schedstat").read_text().split()
            cpu, waited = cpu + int(on), waited + int(ready)
    if cpu:
        return Usage(cpu / 1e9, waited / 1e9)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage((int(fields[11]) + int(fields[12])) / TICKS, 0.0)


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def family(pid: int) -> Iterator[int]:
    """Yield a process, its children and theirs."""
    yield pid
    for task in _tasks(pid):
        with suppress(*GONE):
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def stolen(cores: Iterable[int]) -> float:
    """Return the seconds that the hypervisor kept these cores from us."""
    names = {f"cpu{it}" for it in cores}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return sum(int(line[8]) / TICKS for line in lines if line[0] in names)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except GONE:
        return []
