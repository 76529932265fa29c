"""What is left to this process of its open files and its memory: looked up once a second, not per handshake."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Final

RESERVE: Final = 64  # files kept for what is no client's connection: links to Redis, key fetches, health checks
LAST_RESERVE: Final = 32  # of these, files that no client gets even for a plain request
MEMORY_SHARE: Final = 0.8  # of the limit: beyond, newcomers are refused before the kernel kills everybody
LOOK_SECONDS: Final = 1.0
_NO_LIMIT: Final = 1 << 60  # bytes; version 1 of cgroups says "none" by a number about as large as it can

Look = Callable[[], int]


class Headroom:
    """Answers are at most LOOK_SECONDS old; `now` is in monotonic seconds, sizes in bytes, limits 0 = none.

    Files are not counted. The kernel gives out the lowest free number, so a socket whose number is at or above
    the limit less the reserve says by itself that all files below are taken, by whatever took them.
    """

    def __init__(self, *, memory_limit: int = 0, resident: Look | None = None, file_limit: Look | None = None) -> None:
        self._memory_limit = memory_limit
        self._resident = resident or resident_bytes
        self._file_limit = file_limit or open_file_limit
        self._looked_at = -inf
        self._files = 0
        self._memory_short = False

    def upgrades_fit(self, descriptor: int, now: float) -> bool:
        """Whether the socket of this number may stay."""
        self._look(now)
        return not self._files or descriptor < self._files - RESERVE

    def requests_fit(self, descriptor: int, now: float) -> bool:
        """Whether the socket of this number may ask something."""
        self._look(now)
        return not self._files or descriptor < self._files - LAST_RESERVE

    def memory_fits(self, now: float) -> bool:
        """Whether there is memory for more connections."""
        self._look(now)
        return not self._memory_short

    def _look(self, now: float) -> None:
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self._files = self._file_limit()
        self._memory_short = 0 < self._memory_limit * MEMORY_SHARE < self._resident()


def resident_bytes() -> int:
    """Return the memory that this process occupies."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()


def open_file_limit() -> int:
    """Return how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def cgroup_memory_limit(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the lowest memory limit of the control groups that this process is in, of either version; 0 = none."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return 0
    found = [limit for line in lines for limit in _limits(line, root)]
    return min(found, default=0)


def _limits(line: str, root: Path) -> Iterator[int]:
    """Yield the limits of one group and of all around it; inside a container its own path may not be there."""
    _, controllers, path = line.split(":", 2)
    if not controllers:
        base, name = root, "memory.max"
    elif "memory" in controllers.split(","):
        base, name = root / "memory", "memory.limit_in_bytes"
    else:
        return
    place = base / path.lstrip("/")
    while True:
        try:
            text = (place / name).read_text().strip()
        except OSError:
            text = ""
        if text.isdigit() and int(text) < _NO_LIMIT:
            yield int(text)
        if place == base:
            return
        place = place.parent
