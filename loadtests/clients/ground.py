"""What the clients of one process have in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from loadtests.clients.dial import Dial
from loadtests.clients.publications import Hearsay, Stamp
from loadtests.oracle import Ledger
from loadtests.scenarios.contract import Meters


class ClientMeters(Meters, Protocol):
    """What clients count, besides what scenarios do."""

    connected: int

    def delivered(self, due: int) -> None:
        """A publication arrived that was due then (µs of CLOCK_MONOTONIC), or `ELSEWHERE`."""
        ...

    def measures(self, due: int) -> bool:
        """Whether a publication that was due then counts in the figures of the run."""
        ...

    def acknowledged(self, due: int) -> None:
        """The server took a publication that was due then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """`token` is asked with user and number; `run` tells this run's users and channels from others'."""

    dial: Dial
    token: Callable[[str, int], str]
    meters: ClientMeters
    ledger: Ledger
    rng: random.Random
    stamp: Stamp
    hearsay: Hearsay
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    recovery: bool
    run: str
