"""What a crowd measured: delivery latencies, handshakes, closes, refusals, returns; times are `time.monotonic()`."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

EVER = 0.0  # as `since`: from the beginning


class Close(NamedTuple):
    """One connection that ended against the client's will; 1006 = without a close frame."""

    at: float
    code: int
    node: str


class Refusal(NamedTuple):
    """One handshake that did not succeed: an HTTP status, an error code of connect, 0 = no TCP, 1 = no answer."""

    at: float
    status: int
    node: str


class Return(NamedTuple):
    """One client that lost its connection and is back with all its subscriptions."""

    lost: float
    back: float

    @property
    def took(self) -> float:
        """Seconds without service."""
        return self.back - self.lost


class Attempt(NamedTuple):
    """One call of a publisher; `outcome` is acknowledged, refused or doubtful."""

    at: float
    took: float
    outcome: str
    detail: str


@dataclass(slots=True)
class Records:
    """Everything is kept for the whole run; every question takes the time from which on it is meant."""

    closes: list[Close] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    handshakes: list[tuple[float, float]] = field(default_factory=list)  # when it stood, seconds it took
    failures: list[str] = field(default_factory=list)  # what must not happen; a test that wants it takes it out
    newest_sent: float = 0.0  # when the newest of what has arrived was sent
    _arrivals: array[float] = field(default_factory=lambda: array("d"))
    _latencies: array[float] = field(default_factory=lambda: array("d"))

    def delivered(self, published: float) -> None:
        """Note one live delivery of what was published then."""
        now = time.monotonic()
        self._arrivals.append(now)
        self._latencies.append(now - published)
        self.newest_sent = max(self.newest_sent, published)

    def latency(self, share: float, since: float = EVER, until: float = float("inf")) -> float:
        """Return a percentile (0.99) of the seconds from the publisher's call to a client's eyes."""
        return percentile(
            [it for at, it in zip(self._arrivals, self._latencies, strict=True) if since <= at <= until], share
        )

    def arrivals(self) -> Iterator[tuple[float, float]]:
        """Yield every live delivery: when it came, and the seconds it took."""
        return zip(self._arrivals, self._latencies, strict=True)

    def deliveries(self, since: float = EVER, until: float = float("inf")) -> int:
        """Count live deliveries."""
        return sum(since <= at <= until for at in self._arrivals)

    def first_delivery(self, since: float) -> float:
        """Return when the first publication that was sent after `since` arrived; infinity if none did."""
        pairs = zip(self._arrivals, self._latencies, strict=True)
        return min((at for at, took in pairs if at - took >= since), default=float("inf"))

    def handshake(self, share: float, since: float = EVER) -> float:
        """Return a percentile of the seconds from the dial to the connect reply."""
        return percentile([took for at, took in self.handshakes if at >= since], share)

    def publish_time(self, share: float, since: float = EVER, outcome: str = "") -> float:
        """Return a percentile of the seconds a publisher waited; for one outcome, or for all."""
        chosen = (it for it in self.attempts if it.at >= since and outcome in {"", it.outcome})
        return percentile([it.took for it in chosen], share)

    def codes(self, since: float = EVER) -> Counter[int]:
        """Count closes by code."""
        return Counter(it.code for it in self.closes if it.at >= since)

    def statuses(self, since: float = EVER) -> Counter[int]:
        """Count refused handshakes by status."""
        return Counter(it.status for it in self.refusals if it.at >= since)

    def outcomes(self, since: float = EVER) -> Counter[str]:
        """Count publishers' calls by outcome."""
        return Counter(it.outcome for it in self.attempts if it.at >= since)

    def busiest_second(self, code: int, since: float = EVER) -> int:
        """Return the most closes with this code within any one second."""
        times = sorted(it.at for it in self.closes if it.code == code and it.at >= since)
        most = start = 0
        for end, at in enumerate(times):
            while times[start] < at - 1.0:
                start += 1
            most = max(most, end - start + 1)
        return most

    def __str__(self) -> str:
        """Return the figures of the whole run in a line."""
        took = percentile([it.took for it in self.returns], 0.95)
        return (
            f"latency p50 {self.latency(0.5) * 1000:.1f} ms, p99 {self.latency(0.99) * 1000:.1f} ms; "
            f"handshake p99 {self.handshake(0.99) * 1000:.0f} ms; publish p99 {self.publish_time(0.99) * 1000:.0f} ms; "
            f"closes {_counted(self.codes())}; refused {_counted(self.statuses())}; "
            f"{len(self.returns)} returns, p95 {took:.1f} s" + "".join(f"; {failure}" for failure in self.failures[:5])
        )


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which this share of them lies; 0 if there is none."""
    ordered: Sequence[float] = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _counted(counter: Counter[int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(counter.items())) or "none"
