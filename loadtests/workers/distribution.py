"""Latencies, recorded cheaply and merged exactly: the buckets are those of an HdrHistogram with three digits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hdrh.histogram import HdrHistogram

from loadtests.kit.result import Percentiles

LONGEST: Final = 86_400_000_000  # µs, a day; see `Distribution.beyond`
EXACT: Final = 11  # bits that a value keeps
_LEAST: Final = 1 << EXACT
_SHARES: Final = (50, 90, 99, 99.9, 100)


class Distribution:
    """Values in µs. A dict is several times faster to record into than the library's arrays."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, value: int) -> None:
        """Record one."""
        if value >= _LEAST:
            spare = value.bit_length() - EXACT
            value = value >> spare << spare
        counts = self.counts
        counts[value] = counts.get(value, 0) + 1

    def absorb(self, other: Distribution) -> None:
        """Add what another one recorded."""
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count

    @property
    def beyond(self) -> int:
        """How many values the library's text shows as `LONGEST`, since they are longer."""
        return sum(count for value, count in self.counts.items() if value > LONGEST)

    def encoded(self) -> str:
        """Return it as the library's text; empty without a value."""
        return encoded(_histogram(self.counts)) if self.counts else ""


def merged(texts: Iterable[str]) -> HdrHistogram:
    """Return all of these, the library's texts, as one."""
    whole = _histogram({})
    for text in texts:
        if text:
            whole.add(HdrHistogram.decode(text))
    return whole


def percentiles(whole: HdrHistogram, missing: int = 0) -> Percentiles:
    """Return what a report shows of it, in milliseconds; of both together if some are missing, which are the latest."""
    count = whole.total_count
    if not count + missing:
        return Percentiles()
    # Of all, what is below such a share of those that came; beyond all of these is what never did.
    shares = {it: it * (count + missing) / count if missing and count else it for it in _SHARES}
    came = {it: share for it, share in shares.items() if share <= 100 and count}
    found = whole.get_percentile_to_value_dict(list(came.values())) if came else {}
    p50, p90, p99, p999, most = (found[came[it]] / 1000 if it in came else None for it in _SHARES)
    hdr = encoded(whole) if count else ""
    return Percentiles(count=count, p50=p50, p90=p90, p99=p99, p999=p999, max=most, hdr=hdr, missing=missing)


def encoded(whole: HdrHistogram) -> str:
    """Return the library's compressed text."""
    text: bytes = whole.encode()
    return text.decode()


def _histogram(counts: dict[int, int]) -> HdrHistogram:
    whole = HdrHistogram(1, LONGEST, 3)
    for value, count in counts.items():
        whole.record_value(min(max(value, 0), LONGEST), count)
    return whole
