from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.histogram import Histogram, bucket


@given(st.integers(0, 2**40))
def test_a_bucket_is_narrow(value: int) -> None:
    """What is counted together differs by less than a sixty-fourth."""
    low = bucket(value)
    assert low <= value
    assert value - low <= value / 64
    assert bucket(low) == low


@given(st.lists(st.integers(0, 2**30), min_size=1))
def test_a_histogram_survives_its_text(values: list[int]) -> None:
    """What one process prints another one reads, and counts add up."""
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    again = Histogram.merged([Histogram.parse(str(histogram)), Histogram.parse("-")])
    assert histogram.counts == again.counts
    assert len(values) == again.total
    assert again.longest == again.quantile(1.0) == bucket(max(values))


def test_quantiles_count_all_values() -> None:
    """The median of a hundred is the fiftieth, and nothing has no quantile but 0."""
    histogram = Histogram((it, 1) for it in range(1, 101))
    assert 50.0 == histogram.quantile(0.5)
    assert 99.0 == histogram.quantile(0.99)
    assert 0.0 == Histogram().quantile(0.5) == Histogram().longest
    assert "-" == str(Histogram())
