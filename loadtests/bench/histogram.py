"""Latencies in microseconds, counted in buckets at most 1/64 of their value wide; the twin of `histogram.h`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

SUB_BITS: Final = 6
EMPTY: Final = "-"


def bucket(value: int) -> int:
    """Return the lowest value that is counted together with this one."""
    shift = max(0, value.bit_length() - 1 - SUB_BITS)
    return value >> shift << shift


class Histogram:
    """Counts by bucket; those of several slices add up."""

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        self.counts: Counter[int] = Counter()
        for value, count in counts:
            self.counts[value] += count

    @classmethod
    def parse(cls, text: str) -> Histogram:
        """Read `VALUE:COUNT,...`."""
        if text == EMPTY:
            return cls()
        pairs = (it.split(":") for it in text.split(","))
        return cls((int(value), int(count)) for value, count in pairs)

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Histogram:
        """Return the sum."""
        return cls(pair for it in parts for pair in it.counts.items())

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return ",".join(f"{value}:{count}" for value, count in sorted(self.counts.items())) or EMPTY

    @property
    def total(self) -> int:
        """How many values there are."""
        return self.counts.total()

    def add(self, value: int) -> None:
        """Count a value."""
        self.counts[bucket(value)] += 1

    def quantile(self, share: float) -> float:
        """Return the value that this share does not exceed, by the lower edge of its bucket; 0 if there is none."""
        seen = 0
        for value, count in sorted(self.counts.items()):
            seen += count
            if seen >= share * self.total:
                return float(value)
        return 0.0

    @property
    def longest(self) -> float:
        """The highest value."""
        return float(max(self.counts, default=0))
