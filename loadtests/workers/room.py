"""Whether this machine has room for a run: cores for its processes, open files for its sockets."""

from __future__ import annotations

import os
import resource
from typing import Final

from loadtests.kit.profile import Profile
from loadtests.kit.target import TargetError

SPARE: Final = 200  # open files of a process besides its connections


def cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def generator_cores(*, local: bool) -> list[int]:
    """Return the cores that the generator takes: those that a server on this machine leaves."""
    return cores()[1:] or cores() if local else cores()


def processes(profile: Profile, *, local: bool) -> int:
    """Return how many processes play a profile: as many as it says, or as there are cores for them."""
    wanted = profile.processes or len(generator_cores(local=local))
    return max(1, min(wanted, profile.connections))


def raise_limit() -> int:
    """Allow this process, and those it starts, as many open files as may be; return that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def check_limit(profile: Profile, of: int, allowed: int, *, local: bool) -> None:
    """Raises TargetError if so many connections do not fit into `allowed` open files of each of `of` processes."""
    connections = profile.connections + max(profile.publishers, of)
    each = -(-connections // of) + SPARE
    wanted = max(each, connections + SPARE) if local else each
    if wanted <= allowed:
        return
    who = "the node on this machine" if local and wanted > each else "each process of the generator"
    more = (
        "" if local else f", or play it with more processes: --processes {-(-connections // max(1, allowed - SPARE))}"
    )
    raise TargetError(
        f"{connections:,} connections need {wanted:,} open files in {who}, and {allowed:,} are allowed here. Allow "
        f"more (ulimit -Hn {wanted} as root; LimitNOFILE= for systemd; --ulimit nofile={wanted} for docker){more}"
    )
