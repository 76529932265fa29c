"""Holds a run against what its profile expects. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from loadtests.clients.codes import final
from loadtests.kit.profile import Profile
from loadtests.kit.result import Broken, NodeSample, Percentiles, Result

MIB = 1 << 20
MEASURE = "measure"
CUT_FOR_READING_TOO_LITTLE = ("3008", "3012", "1006")  # who does not read sees no ping, and may never read why
NOTHING = "nothing of this was measured"


def judge(profile: Profile, result: Result) -> list[Broken]:
    """Return what did not hold, in the order of the profile's fields. What was not measured does not hold."""
    return list(_judged(profile, result))


def measured(result: Result) -> list[NodeSample]:
    """Return the nodes' samples that fall into the measure phase."""
    seconds = {it.at for it in result.seconds if it.phase == MEASURE}
    return [it for it in result.nodes if math.floor(it.at) in seconds]


def growth(samples: Iterable[NodeSample]) -> float:
    """Return by how many MiB the node grew most that did, from its first sample to its last; below 0: none did."""
    by_node = groupby(sorted(samples, key=lambda it: (it.node, it.at)), key=lambda it: it.node)
    courses = [[it.resident for it in course] for _, course in by_node]
    return max(course[-1] - course[0] for course in courses) / MIB


def lag(samples: Iterable[NodeSample]) -> float:
    """Return what the loop lag of the worst node stayed under in 99 of 100 seconds (ms): in a short run, its worst."""
    by_node = groupby(sorted(samples, key=lambda it: (it.node, it.lag)), key=lambda it: it.node)
    courses = [[it.lag for it in course] for _, course in by_node]
    return max(course[math.ceil(0.99 * len(course)) - 1] for course in courses)


def unplanned(profile: Profile, closes: Mapping[str, int]) -> int:
    """Count the connections that ended without being part of the plan: slow clients are meant to be cut off."""
    meant = CUT_FOR_READING_TOO_LITTLE if profile.slow else ()
    return sum(count for code, count in closes.items() if code not in meant)


def _judged(profile: Profile, result: Result) -> Iterator[Broken]:
    expect, samples = profile.expect, measured(result)
    yield from _latency("p50", expect.p50, result.delivery, result.delivery.p50)
    yield from _latency("p99", expect.p99, result.delivery, result.delivery.p99)
    yield from _latency("connect_p99", expect.connect_p99, result.connect, result.connect.p99)
    yield from _latency("recover_p99", expect.recover_p99, result.recover, result.recover.p99)
    yield from _most("lost", expect.lost, result.audit.lost)
    yield from _most("refused", expect.refused, sum(result.refusals.values()))
    yield from _most("repeats", expect.repeats, result.audit.twice)
    yield from _closed(expect.closed, profile, result.closes)
    yield from _most("lag_p99", expect.lag_p99, lag(samples) if samples else None)
    yield from _most("resident_growth", expect.resident_growth, growth(samples) if samples else None)


def _closed(wanted: int | None, profile: Profile, closes: Mapping[str, int]) -> Iterator[Broken]:
    """Who says nothing of closes bears those that clients come back from, and none that are for good."""
    if wanted is not None:
        yield from _most("closed", wanted, unplanned(profile, closes))
    elif for_good := sum(count for code, count in closes.items() if code.isdecimal() and final(int(code))):
        why = f"{for_good:,} were told not to come back"
        yield Broken(name="closed", wanted=0.0, seen=for_good, why=why)


def _latency(name: str, wanted: float | None, of: Percentiles, seen: float | None) -> Iterator[Broken]:
    if wanted is not None and seen is None:
        why = f"{of.missing:,} of {of.count + of.missing:,} never came"
        yield Broken(name=name, wanted=wanted, seen=0.0, why=why)
    else:
        yield from _most(name, wanted, seen if of.count else None)


def _most(name: str, wanted: float | None, seen: float | None) -> Iterator[Broken]:
    if wanted is None:
        return
    if seen is None:
        yield Broken(name=name, wanted=wanted, seen=0.0, why=NOTHING)
    elif seen > wanted:
        yield Broken(name=name, wanted=wanted, seen=seen)
