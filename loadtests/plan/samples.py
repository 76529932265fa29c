"""What runs say of the costs of a node: rows of the bench, and results of the kit, as loads beside their CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final, TypeAlias

import msgspec

from loadtests.kit.result import Result
from loadtests.plan import node, wire
from loadtests.plan.constants import SECTIONS, NodeCosts, names
from loadtests.plan.node import Load
from loadtests.plan.workload import PlanError, Workload

CROWD: Final = 1000  # subscribers, or channels, of the bench's rows
MANY: Final = 10_000
IDLE: Final = 4000
EIGHT: Final = 8
KIB: Final = 1024
LARGEST: Final = 200 << 20  # bytes of a file
UNSTEADY: Final = ("slow", "cuts", "missed")  # fields of a profile whose runs are no steady load
FEWEST: Final = 3  # seconds of a phase about which anything is said

Costed: TypeAlias = Callable[[NodeCosts], Load]


@dataclass(frozen=True, slots=True)
class Sample:
    """A load of one node and the share of a core that it took. Which frames are joined depends on the costs."""

    name: str
    cpu: float
    load: Costed


@dataclass(slots=True)
class Seen:
    """All that some files say; `direct`: values of constants by name, in seconds and bytes; `ignored`: other rows."""

    samples: list[Sample] = field(default_factory=list)
    direct: dict[str, list[float]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Observed:
    """One node in one phase of a run; `share` of all connections."""

    node: str
    phase: str
    workload: Workload
    share: float
    cpu: float
    resident: float


def _fan_out(rate: float, crowd: int, together: int = 1, *, history: bool = False) -> Load:
    published = rate / crowd
    size = wire.frame(_bench(history=history))
    return Load(
        connection=max(crowd, CROWD),
        publication=published,
        history=published * history,
        envelope=published,
        write=rate / together,
        frame=rate,
        byte=rate * size,
    )


def _bench(*, history: bool) -> Workload:
    return Workload(connections=CROWD, channels=1, subscribers=CROWD, rate=1, history=float(history))


ROWS: Final[Mapping[str, Callable[[float], Load]]] = {
    "fan-out, one in flight": lambda it: _fan_out(it, CROWD),
    "fan-out, 8 in flight": lambda it: _fan_out(it, CROWD, EIGHT),
    "fan-out with history and recovery": lambda it: _fan_out(it, CROWD, history=True),
    "fan-out to 10,000, one in flight": lambda it: _fan_out(it, MANY),
    "1:1 over 1,000 channels": lambda it: _fan_out(it, 1),
    "1:1 over 1,000 channels, one publisher": lambda it: _fan_out(it, 1),
    "1:1 with history and recovery": lambda it: _fan_out(it, 1, history=True),
    "accepts, each token unseen": lambda it: Load(accept=it, token=it),
    "accepts with an EdDSA token each": lambda it: Load(accept=it, token=it),
    "accepts, each token cached": lambda it: Load(accept=it),
    "/api/publish, 16 links": lambda it: Load(call=it),
}
"""What a core did in a second, by row: the server's core was full, so the share is 1."""

IDLING: Final[Mapping[str, tuple[Load, float]]] = {
    "idle CPU of a node without connections": (Load(), 0.01),
    "idle CPU per 1,000 connections, node included": (Load(connection=IDLE), 0.01 * IDLE / CROWD),
}
"""Loads whose share is the figure times this."""

MEMORY: Final = {"memory per idle connection": ("memory.connection", KIB)}
UNITS: Final = {f"{section}.{it}": 1e-6 for section in SECTIONS for it in names(section) if section != "memory"}


def read(paths: Sequence[Path]) -> Seen:
    """Return what these files say: results of the kit of one node, and what `loadtests.bench --json` wrote.

    A JSON object may also name constants themselves, as `{"redis.push": [1.1, 1.2]}`, in microseconds and bytes, for
    what was measured by other means. Raises PlanError.
    """
    seen = Seen()
    for path in paths:
        told = _decoded(path)
        if isinstance(told, Result):
            shares = observed(told, path.name)
            if len({it.node for it in shares}) > 1:
                raise PlanError(
                    f"{path.name} is of several nodes: constants are fitted on runs of one, others are checked"
                )
            seen.samples += [_sample(it, path.name) for it in shares]
        else:
            for row, values in told.items():
                _take(seen, row, values)
    return seen


def result(path: Path) -> Result:
    """Return a result of the kit. Raises PlanError for any other file."""
    told = _decoded(path)
    if not isinstance(told, Result):
        raise PlanError(f"{path.name} is no result of `python -m loadtests run`")
    return told


def observed(run: Result, name: str) -> list[Observed]:
    """Return what each node did while clients came and while it was measured. Raises PlanError: nothing can be said."""
    if run.saturated:
        raise PlanError(f"{name}: the generator was saturated, so nothing in it is a figure")
    unsteady = [it for it in UNSTEADY if run.profile.get(it)]
    if unsteady:
        raise PlanError(f"{name} is no steady load ({', '.join(unsteady)}): run fan_out, one_to_one, rooms or idle")
    found = [*_phase(run, "measure"), *_phase(run, "ramp")]
    if not any(it.phase == "measure" for it in found):
        raise PlanError(f"{name} says nothing of its nodes while it measured: run it with --metrics")
    return found


# --- inside


def _decoded(path: Path) -> Result | dict[str, list[float]]:
    try:
        if path.stat().st_size > LARGEST:
            raise PlanError(f"{path.name} is too large to be a result")
        text = path.read_bytes()
        told: Any = msgspec.json.decode(text)
        if isinstance(told, dict) and "scenario" in told:
            return msgspec.json.decode(text, type=Result)
        return msgspec.json.decode(text, type=dict[str, list[float]])
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PlanError(f"{path.name} is neither a result nor figures of the bench: {error}") from None


def _take(seen: Seen, row: str, values: Sequence[float]) -> None:
    name, scale = MEMORY.get(row, (row, UNITS.get(row, 1.0)))
    known = {f"{section}.{it}" for section in SECTIONS for it in names(section)}
    if row not in ROWS and row not in IDLING and name not in known:
        seen.ignored.append(row.strip())
        return
    if not values or not all(math.isfinite(it) and it > 0 for it in values):
        raise PlanError(f"the row {row!r} must hold numbers above 0")
    if name in known:
        seen.direct.setdefault(name, []).extend(it * scale for it in values)
    for value in values:
        if row in ROWS:
            seen.samples.append(Sample(row, 1.0, _always(ROWS[row](value))))
        elif row in IDLING:
            load, share = IDLING[row]
            seen.samples.append(Sample(row, value * share, _always(load)))


def _always(load: Load) -> Costed:
    return lambda _: load


def _sample(seen: Observed, name: str) -> Sample:
    return Sample(f"{name}, {seen.phase}", seen.cpu, lambda costs: node.part(seen.workload, seen.share, costs))


def _phase(run: Result, phase: str) -> Iterator[Observed]:
    seconds = [it for it in run.seconds if it.phase == phase]
    if len(seconds) < FEWEST:
        return
    begins, ends = seconds[0].at, seconds[-1].at + 1
    inside = [it for it in run.nodes if begins < it.at <= ends and it.cpu > 0]
    total = sum(_mean([it.connections for it in inside if it.node == name]) for name in {it.node for it in inside})
    workload = _workload(run, phase)
    for name in sorted({it.node for it in inside}):
        own = [it for it in inside if it.node == name]
        share = _mean([it.connections for it in own]) / total if total else 1.0
        yield Observed(name, phase, workload, share, fmean(it.cpu for it in own), fmean(it.resident for it in own))


def _workload(run: Result, phase: str) -> Workload:
    """Return what the clients did, as it was seen; what a profile says only where a run does not count it."""
    seconds = [it for it in run.seconds if it.phase == phase]
    connections = max(1, round(fmean(it.connected for it in seconds)))
    published = sum(it.published for it in seconds)
    came = (seconds[-1].connected - seconds[0].connected) / (len(seconds) - 1) if phase == "ramp" else 0.0
    heard = sum(it.delivered for it in seconds) / published if published else 0.0
    profile = run.profile
    return Workload(
        connections=connections,
        channels=int(profile.get("channels", 1)),
        subscribers=min(float(connections), heard),
        rate=published / len(seconds),
        size=int(profile.get("size", 100)),
        history=float(bool(profile.get("recovery"))),
        churn=max(0.0, came) + float(profile.get("churn", 0.0)),
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
