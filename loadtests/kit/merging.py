"""Puts runs together that were played at once, each with users and channels of its own. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from loadtests.kit.result import Audit, Broken, GeneratorProcess, NodeSample, Percentiles, Result, Second
from loadtests.workers.distribution import merged, percentiles

MEASURE: Final = "measure"
LATENCIES: Final = ("connect", "subscribe", "acknowledge", "delivery", "recover")
COUNTED: Final = ("connected", "published", "acknowledged", "delivered", "errors", "closes")
AUDITED: Final = (
    "published",
    "acknowledged",
    "refused",
    "doubtful",
    "delivered",
    "repeats",
    "twice",
    "lost",
    "inverted",
)
SUMMED: Final = ("connections", "channels", "publishers", "rate", "churn")  # of a profile: what each run brought
OWN: Final = ("seed", "about", "processes")  # of a profile: may differ


class MergeError(ValueError):
    """Runs that were not parts of one load; the text says which and why."""


def together(runs: Mapping[str, Result]) -> Result:
    """Return one run of all that `runs` has by name: what each counted added up, latencies merged exactly.

    Seconds belong together by the wall clocks of the machines. Only those in which all were measuring are of the
    measure phase, so that rates are those of the whole load; latencies are those of each run's own measure phase. It
    passes if each of them passed.

    Raises MergeError: there are none, they played different loads, or never measured at the same time.
    """
    results = list(runs.values())
    first = _alike(runs)
    if len(results) == 1:
        return first
    starts = [datetime.fromisoformat(it.started).replace(microsecond=0).astimezone(UTC) for it in results]
    offsets = [round((it - min(starts)).total_seconds()) for it in starts]
    seconds = _seconds(results, offsets)
    measured = sum(it.phase == MEASURE for it in seconds)
    if not measured:
        raise MergeError("these runs never measured at the same time: report each by itself")
    return msgspec.structs.replace(
        first,
        profile=_profile(results),
        target=", ".join(dict.fromkeys(it.target for it in results)),
        started=min(starts).isoformat(),
        versions=_versions(results),
        measured=float(measured),
        seconds=seconds,
        nodes=list(_nodes(results, offsets)),
        audit=_audit(runs),
        closes=_added(it.closes for it in results),
        refusals=_added(it.refusals for it in results),
        generators=_generators(results),
        broken=_broken(results),
        figures={name: max(of) for name, of in _by_name(it.figures for it in results).items()},
        remarks=_remarks(results),
        **{name: _latency([getattr(it, name) for it in results]) for name in LATENCIES},
    )


# --- inside


def _alike(runs: Mapping[str, Result]) -> Result:
    if not runs:
        raise MergeError("there is no run to report")
    name, first = next(iter(runs.items()))
    for other, it in runs.items():
        if _load(it) != _load(first):
            raise MergeError(f"{other} is of another load than {name}: report each by itself")
    return first


def _load(result: Result) -> tuple[str, Mapping[str, Any]]:
    return result.scenario, {name: it for name, it in result.profile.items() if name not in OWN}


def _profile(results: Sequence[Result]) -> dict[str, Any]:
    """Return the numbers of all together; the limits of the expectations are those of each."""
    profile = dict(results[0].profile)
    profile |= {name: profile[name] * len(results) for name in SUMMED if isinstance(profile.get(name), int | float)}
    return {**profile, "about": f"{len(results)} runs at once, each: {profile.get('about', '')}"}


def _versions(results: Sequence[Result]) -> dict[str, str]:
    return {name: " and ".join(dict.fromkeys(of)) for name, of in _by_name(it.versions for it in results).items()}


def _seconds(results: Sequence[Result], offsets: Sequence[int]) -> list[Second]:
    courses = [{it.at + offset: it for it in run.seconds} for run, offset in zip(results, offsets, strict=True)]
    moments = sorted({at for course in courses for at in course})
    return [_second(at, courses) for at in range(moments[0], moments[-1] + 1)] if moments else []


def _second(at: int, courses: Sequence[Mapping[int, Second]]) -> Second:
    found = [course[at] for course in courses if at in course]
    worst = max(found, key=lambda it: it.busy + it.starved, default=Second(at=at, phase=""))
    return Second(
        at=at,
        phase=_phase(at, courses),
        delivery=_latency([it.delivery for it in found]),
        busy=worst.busy,
        starved=worst.starved,
        **{name: sum(getattr(it, name) for it in found) for name in COUNTED},
    )


def _phase(at: int, courses: Sequence[Mapping[int, Second]]) -> str:
    """Return the phase of all: that of whoever is furthest behind, until the first settles."""
    phases = set()
    for course in courses:
        begun = not course or min(course) <= at
        phases.add(course[at].phase if at in course else "settle" if begun else "ramp")
    return next(it for it in ("settle", "ramp", "warm-up", MEASURE) if it in phases)


def _latency(parts: Sequence[Percentiles]) -> Percentiles:
    return percentiles(merged(it.hdr for it in parts), sum(it.missing for it in parts))


def _nodes(results: Sequence[Result], offsets: Sequence[int]) -> Iterator[NodeSample]:
    """Yield the samples of each node, from the first run that has it: others saw the same."""
    known: set[str] = set()
    for run, offset in zip(results, offsets, strict=True):
        yield from (msgspec.structs.replace(it, at=it.at + offset) for it in run.nodes if it.node not in known)
        known |= {it.node for it in run.nodes}


def _audit(runs: Mapping[str, Result]) -> Audit:
    audits = [it.audit for it in runs.values()]
    faults = [f"{name}: {it}" for name, run in runs.items() for it in (*run.audit.offences, run.empty) if it]
    return Audit(
        told=_added(it.told for it in audits),
        offences=faults,
        clean=all(it.clean for it in audits) and not any(it.empty for it in runs.values()),
        **{name: sum(getattr(it, name) for it in audits) for name in AUDITED},
    )


def _generators(results: Sequence[Result]) -> list[GeneratorProcess]:
    every = [it for run in results for it in run.generators]
    return [msgspec.structs.replace(it, process=number) for number, it in enumerate(every)]


def _broken(results: Sequence[Result]) -> list[Broken]:
    """Return each expectation that did not hold somewhere, where it was missed most."""
    worst: dict[str, Broken] = {}
    for it in (it for run in results for it in run.broken):
        known = worst.get(it.name)
        if known is None or (bool(it.why), it.seen) > (bool(known.why), known.seen):
            worst[it.name] = it
    return list(worst.values())


def _remarks(results: Sequence[Result]) -> list[str]:
    own = f"{len(results)} runs at once: counts are of all together, each audited its own users and channels"
    return list(dict.fromkeys([own, *(it for run in results for it in run.remarks)]))


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    whole: Counter[str] = Counter()
    for it in counts:
        whole.update(it)
    return dict(sorted(whole.items()))


def _by_name(parts: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for part in parts:
        for name, value in part.items():
            found.setdefault(name, []).append(value)
    return found
