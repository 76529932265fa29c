"""Picks from a page of metrics what a load test wants to know, and compares two pages. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from loadtests.kit.result import NodeSample

CPU: Final = "process_cpu_seconds_total"
RESIDENT: Final = "process_resident_memory_bytes"
STARTED: Final = "process_start_time_seconds"
LAG: Final = "gateway_event_loop_lag_seconds"
LAG_BUCKET: Final = LAG + "_bucket"
CONNECTIONS: Final = "gateway_connections"
QUEUE: Final = "gateway_client_queue_bytes"
SLOW: Final = "gateway_slow_consumers_total"
BUILD: Final = "gateway_build_info"
WANTED: Final = (CPU, RESIDENT, STARTED, LAG, CONNECTIONS, QUEUE, SLOW, BUILD)


@dataclass(frozen=True, slots=True)
class Reading:
    """One page; `when` monotonic. `lag`: how many were at most so late, by seconds, the last one infinite."""

    when: float
    cpu: float  # seconds since the process began
    resident: int
    started: float
    connections: int = 0
    queue: int = 0
    slow: int = 0
    lag: Mapping[float, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def read(page: str, when: float) -> Reading | None:
    """Return what a page says; None if it has neither CPU nor memory of its process. Raises ValueError: no metrics."""
    found = list(_samples(page))
    alone = {it.name: it.value for it in found}
    if CPU not in alone or RESIDENT not in alone:
        return None
    return Reading(
        when=when,
        cpu=alone[CPU],
        resident=int(alone[RESIDENT]),
        started=alone.get(STARTED, 0.0),
        connections=_total(found, CONNECTIONS),
        queue=_total(found, QUEUE),
        slow=_total(found, SLOW),
        lag={float(it.labels["le"]): it.value for it in found if it.name == LAG_BUCKET},
        versions=_versions(found),
    )


def between(before: Reading, after: Reading, *, node: str, at: float) -> NodeSample:
    """Return what happened between two pages of one process."""
    seconds = after.when - before.when
    return NodeSample(
        node=node,
        at=at,
        cpu=max(0.0, after.cpu - before.cpu) / seconds if seconds > 0 else 0.0,
        resident=after.resident,
        lag=1000 * quantile({it: count - before.lag.get(it, 0.0) for it, count in after.lag.items()}, 0.99),
        connections=after.connections,
        queue=after.queue,
        slow=after.slow - before.slow,
    )


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """Return a quantile of a cumulative histogram as Prometheus does: evenly spread within the bucket that holds it.

    What lies above the last finite bound is taken for that bound; without observations it is 0.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return 0.0
    wanted = share * total
    place = next(place for place, bound in enumerate(bounds) if buckets[bound] >= wanted)
    high, low = bounds[place], bounds[place - 1] if place else 0.0
    below = buckets[low] if place else 0.0
    return low if high == math.inf else low + (high - low) * (wanted - below) / (buckets[high] - below)


def _samples(page: str) -> Iterator[Sample]:
    # The parser is slow, and a page is long: a hundred nodes are read each second.
    wanted = "\n".join(line for line in page.splitlines() if line.removeprefix("# TYPE ").startswith(WANTED))
    for family in text_string_to_metric_families(wanted + "\n"):
        yield from family.samples


def _total(found: list[Sample], name: str) -> int:
    return int(sum(it.value for it in found if it.name == name))


def _versions(found: list[Sample]) -> dict[str, str]:
    labels = next((it.labels for it in found if it.name == BUILD), {})
    names = {"version": "gateway", "python": "python of the gateway"}
    return {name: labels[label] for label, name in names.items() if label in labels}
