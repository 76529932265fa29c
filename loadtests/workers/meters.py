"""What one process counts and times, second by second and over the run."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from loadtests.scenarios.contract import Counted, Timed
from loadtests.workers.distribution import EXACT, Distribution
from loadtests.workers.messages import Tick

KINDS: Final[tuple[Timed, ...]] = ("connect", "subscribe", "acknowledge", "delivery", "recover")
_LEAST: Final = 1 << EXACT
_FOREVER: Final = 1 << 62


def now() -> int:
    """Return µs of CLOCK_MONOTONIC, which all processes of a machine share."""
    return time.monotonic_ns() // 1000


class ProcessMeters:
    """See `scenarios.contract.Meters`. Times in µs of CLOCK_MONOTONIC.

    `began` and `ends`: of the measure phase, unknown at first. A publication counts in the figures of the run when it
    was due between them; whatever was not due at a time of its own counts always.
    """

    def __init__(self) -> None:
        self.began = _FOREVER
        self.ends = _FOREVER
        self.connected = 0
        self.run: dict[Timed, Distribution] = {it: Distribution() for it in KINDS}
        self.remarks: dict[str, None] = {}
        self.faults: dict[str, None] = {}
        self.figures: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._closes: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._measured: dict[int, int] = {}  # deliveries of this second, by latency
        self._beside: dict[int, int] = {}  # those that were due before or after the measure phase
        self._cpu = time.process_time()
        self._starved = starved()
        self._at = time.monotonic()

    def took(self, what: Timed, microseconds: int) -> None:
        """See the contract."""
        self.run[what].add(microseconds)

    def delivered(self, due: int) -> None:
        """A publication arrived that was due then; `ELSEWHERE`: it is counted, not timed."""
        self._counts["delivered"] += 1
        if due < 0:
            return
        value = time.monotonic_ns() // 1000 - due
        if value >= _LEAST:
            spare = value.bit_length() - EXACT
            value = value >> spare << spare
        counts = self._measured if self.began <= due < self.ends else self._beside
        counts[value] = counts.get(value, 0) + 1

    def measures(self, due: int) -> bool:
        """Whether a publication that was due then counts in the figures of the run."""
        return self.began <= due < self.ends

    def acknowledged(self, due: int) -> None:
        """The server took a publication that was due then."""
        self._counts["acknowledged"] += 1
        if self.measures(due):
            self.run["acknowledge"].add(now() - due)

    def count(self, what: Counted, number: int = 1) -> None:
        """See the contract."""
        self._counts[what] += number

    def closed(self, code: int) -> None:
        """See the contract."""
        self._closes[str(code)] += 1

    def refused(self, what: str) -> None:
        """See the contract."""
        self._refusals[what] += 1

    def remark(self, text: str) -> None:
        """See the contract."""
        self.remarks[text] = None

    def fault(self, text: str) -> None:
        """See the contract."""
        self.faults[text] = None

    def figure(self, name: str, value: float) -> None:
        """See the contract."""
        self.figures[name] = max(value, self.figures.get(name, value))

    def tick(self, at: int, *, standing: int, clients: int, pending: int, played: bool) -> Tick:
        """Return this second, and begin the next."""
        delivery = self._delivery()
        busy, hungry = self._cost()
        counts, closes, refusals = self._counts, self._closes, self._refusals
        self._counts, self._closes, self._refusals = Counter(), Counter(), Counter()
        return Tick(
            at=at,
            connected=self.connected,
            published=counts["published"],
            acknowledged=counts["acknowledged"],
            delivered=counts["delivered"],
            errors=counts["errors"],
            closes=dict(closes),
            refusals=dict(refusals),
            delivery=delivery,
            busy=busy,
            starved=hungry,
            standing=standing,
            clients=clients,
            pending=pending,
            played=played,
        )

    # --- inside

    def _delivery(self) -> str:
        second, measured = Distribution(), Distribution()
        second.counts, measured.counts = self._beside, self._measured
        self.run["delivery"].absorb(measured)
        second.absorb(measured)
        self._measured, self._beside = {}, {}
        return second.encoded()

    def _cost(self) -> tuple[float, float]:
        cpu, hungry, at = time.process_time(), starved(), time.monotonic()
        span = max(at - self._at, 1e-9)
        cost = (cpu - self._cpu) / span, (hungry - self._starved) / span
        self._cpu, self._starved, self._at = cpu, hungry, at
        return cost


def starved() -> float:
    """Return the seconds that this process's first thread has waited for a core so far; 0 where nobody counts them."""
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:  # noqa: PTH123 - each second, in a busy process
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
