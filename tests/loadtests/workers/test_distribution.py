"""Latencies are recorded as the library would."""

from __future__ import annotations

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from loadtests.kit.result import Percentiles
from loadtests.workers.distribution import LONGEST, Distribution, merged, percentiles


@given(st.lists(st.integers(0, LONGEST), max_size=200))
def test_nothing_is_lost_on_the_way(values: list[int]) -> None:
    """The same buckets as a histogram into which each value was recorded by itself, in two processes or in one."""
    plain = HdrHistogram(1, LONGEST, 3)
    parts = Distribution(), Distribution()
    for place, value in enumerate(values):
        plain.record_value(value)
        parts[place % 2].add(value)
    whole = merged(it.encoded() for it in parts)
    assert plain.total_count == whole.total_count
    assert plain.encode() == whole.encode()
    parts[0].absorb(parts[1])
    assert plain.encode() == merged([parts[0].encoded()]).encode()


def test_long_latencies_are_shown_as_they_are() -> None:
    """A stall of an hour is no minute."""
    told = Distribution()
    told.add(3_600_000_000)
    found = percentiles(merged([told.encoded()]))
    assert found.max == pytest.approx(3_600_000, rel=0.001)
    assert 0 == told.beyond


def test_values_beyond_the_range_are_counted() -> None:
    """A day is the longest, and what is longer is known; a clock that went back is no latency."""
    told = Distribution()
    for value in (-5, 10 * LONGEST):
        told.add(value)
    assert (2, 1) == (merged([told.encoded()]).total_count, told.beyond)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (0, (500, 990, 1000)),
        (100, (550, None, None)),  # of 1,100 the 550th; the last 100 never came
        (5, (502.5, 994.95, None)),
        (1000, (1000, None, None)),
        (1001, (None, None, None)),
    ],
)
def test_what_never_came_is_later_than_everything(missing: int, expected: tuple[float | None, ...]) -> None:
    """A percentile is of all that was due; one that falls among what never came has no value."""
    told = Distribution()
    for value in range(1, 1001):
        told.add(value * 1000)
    found = percentiles(merged([told.encoded()]), missing)
    near = [None if it is None else pytest.approx(it, rel=0.003) for it in expected]
    assert near == [found.p50, found.p99, found.max]
    assert (1000, missing) == (found.count, found.missing)


def test_of_nothing_that_came_every_percentile_is_never() -> None:
    """A server that froze before the first answer has no latency of 0."""
    found = percentiles(merged([]), 3)
    assert (0, 3, None, None, None, "") == (found.count, found.missing, found.p50, found.p99, found.max, found.hdr)


def test_percentiles_are_milliseconds() -> None:
    """And none without a value."""
    told = Distribution()
    for value in range(1, 1001):
        told.add(value)
    found = percentiles(merged([told.encoded(), ""]))
    assert (1000, 0.5, 0.9, 0.99, 0.999, 1.0) == (
        found.count,
        *(pytest.approx(it) for it in (found.p50, found.p90, found.p99, found.p999, found.max)),
    )
    assert found.hdr
    assert Percentiles() == percentiles(merged([]))
    assert Distribution().encoded() == ""
