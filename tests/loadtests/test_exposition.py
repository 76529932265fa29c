from __future__ import annotations

import math

import pytest

from loadtests.kit.result import NodeSample
from loadtests.watching.exposition import Reading, between, quantile, read

PAGE = """\
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.048576e+08
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1700000000.25
# TYPE gateway_connections gauge
gateway_connections{state="open"} 40.0
gateway_connections{state="closing"} 2.0
# TYPE gateway_client_queue_bytes gauge
gateway_client_queue_bytes 4096.0
# TYPE gateway_client_queue_max_bytes gauge
gateway_client_queue_max_bytes 4000.0
# TYPE gateway_slow_consumers_total counter
gateway_slow_consumers_total{reason="bytes"} 3.0
gateway_slow_consumers_total{reason="age"} 4.0
# TYPE gateway_build_info gauge
gateway_build_info{python="3.11.7",version="1.2.3"} 1.0
# TYPE gateway_event_loop_lag_seconds histogram
gateway_event_loop_lag_seconds_bucket{le="0.001"} 90.0
gateway_event_loop_lag_seconds_bucket{le="0.01"} 100.0
gateway_event_loop_lag_seconds_bucket{le="+Inf"} 100.0
gateway_event_loop_lag_seconds_count 100.0
gateway_event_loop_lag_seconds_sum 0.5
# TYPE gateway_strange untyped
gateway_strange{ this is not read at all
"""


def test_what_a_page_says() -> None:
    """Values with labels are added up; of other metrics not even the syntax matters."""
    expected = Reading(
        when=7.0,
        cpu=12.5,
        resident=100 << 20,
        started=1700000000.25,
        connections=42,
        queue=4096,
        slow=7,
        lag={0.001: 90.0, 0.01: 100.0, math.inf: 100.0},
        versions={"gateway": "1.2.3", "python of the gateway": "3.11.7"},
    )
    assert expected == read(PAGE, 7.0)


def test_another_program_with_a_process_collector_is_read_as_far_as_it_goes() -> None:
    """CPU and memory are enough: a stranger's node has neither lag nor connections by our names."""
    page = "process_cpu_seconds_total 1\nprocess_resident_memory_bytes 2\n"
    assert Reading(when=0.0, cpu=1.0, resident=2, started=0.0) == read(page, 0.0)


@pytest.mark.parametrize("page", ["", "<html></html>", "process_cpu_seconds_total 1\n", "gateway_connections 3\n"])
def test_a_page_without_cpu_and_memory_is_nothing(page: str) -> None:
    """Such a page is no reading, whatever else it says."""
    assert read(page, 0.0) is None


def test_a_broken_line_is_an_error() -> None:
    """What should be a metric and is none raises the one documented error."""
    with pytest.raises(ValueError, match="could not convert"):
        read("process_cpu_seconds_total many\n", 0.0)


def test_a_sample_is_what_happened_between_two_pages() -> None:
    """CPU is a share of the time between, lag that of the observations between; the rest is as of now."""
    before = Reading(when=10.0, cpu=5.0, resident=1, started=0.0, slow=2, lag={0.1: 50.0, 0.2: 50.0, math.inf: 50.0})
    after = Reading(
        when=12.0,
        cpu=6.5,
        resident=9,
        started=0.0,
        connections=3,
        queue=8,
        slow=5,
        lag={0.1: 50.0, 0.2: 150.0, math.inf: 150.0},
    )
    sample = between(before, after, node="n", at=4.5)
    assert pytest.approx(199.0) == sample.lag
    assert NodeSample(node="n", at=4.5, cpu=0.75, resident=9, lag=sample.lag, connections=3, queue=8, slow=3) == sample


def test_no_time_between_two_pages_is_no_division() -> None:
    """Two pages of the same moment have no share of a core."""
    page = Reading(when=1.0, cpu=5.0, resident=1, started=0.0)
    assert between(page, page, node="n", at=0.0).cpu == 0.0


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({}, 0.99, 0.0),
        ({1.0: 0.0, math.inf: 0.0}, 0.99, 0.0),
        ({1.0: 10.0, 2.0: 10.0, math.inf: 10.0}, 0.5, 0.5),  # within the first bucket, from 0 on
        ({1.0: 10.0, 2.0: 20.0, math.inf: 20.0}, 0.75, 1.5),
        ({1.0: 10.0, 2.0: 20.0, math.inf: 20.0}, 0.5, 1.0),  # on a bound
        ({1.0: 0.0, 2.0: 5.0, math.inf: 100.0}, 0.99, 2.0),  # beyond what the buckets tell apart
    ],
)
def test_quantiles_as_prometheus_has_them(buckets: dict[float, float], share: float, expected: float) -> None:
    """Evenly spread within a bucket, at the last bound beyond it, 0 of nothing."""
    assert expected == quantile(buckets, share)
