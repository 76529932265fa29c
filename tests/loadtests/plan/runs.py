"""Results of runs that never took place: what a node of known costs would have done."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from loadtests.kit.result import Audit, GeneratorProcess, Machine, NodeSample, Percentiles, Result, Second
from loadtests.plan import node
from loadtests.plan.constants import Costs
from loadtests.plan.workload import Workload

RAMP, MEASURE = 10, 30  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How a run is made: `noise` on the CPU of each second, `busy` of the generator, `wrong` times the CPU."""

    shares: Sequence[float] = (1.0,)
    noise: float = 0.0
    busy: float = 0.3
    wrong: float = 1.0
    seed: int = 1
    watched: bool = True
    ramp: int = RAMP


def run(workload: Workload, costs: Costs, made: Made | None = None, **profile: object) -> Result:
    """Return what the kit would have written, had nodes of these costs been under this load."""
    how = made or Made()
    dice = random.Random(how.seed)
    half = workload.connections // 2
    ramp = replace(workload, connections=half, subscribers=0.0, rate=0.0, churn=workload.connections / how.ramp)
    spans = (("ramp", 0, how.ramp, ramp), ("measure", how.ramp, how.ramp + MEASURE, workload))
    own = {"channels": workload.channels, "size": workload.size, "churn": workload.churn}
    return Result(
        scenario="fan_out",
        profile={**own, "recovery": bool(workload.history), **profile},
        target="http://127.0.0.1",
        command="python -m loadtests run fan_out",
        started="2026-11-22T10:00:00Z",
        machine=Machine(cores=2, model="model", system="Linux", python="3.11", memory=1),
        versions={},
        measured=float(MEASURE),
        seconds=[_second(at, name, it, how) for name, begins, ends, it in spans for at in range(begins, ends)],
        nodes=[
            _node(number, at, it, costs, how, dice=dice)
            for number in range(len(how.shares))
            for _, begins, ends, it in spans
            for at in range(begins, ends)
            if how.watched
        ],
        connect=Percentiles(),
        subscribe=Percentiles(),
        acknowledge=Percentiles(),
        delivery=Percentiles(),
        recover=Percentiles(),
        audit=Audit(),
        closes={},
        refusals={},
        generators=[GeneratorProcess(process=0, connections=workload.connections, mean=how.busy, peak=1.0, lag=0.0)],
        broken=[],
        remarks=[],
    )


def _second(at: int, phase: str, workload: Workload, how: Made) -> Second:
    connected = round(2 * workload.connections * (at + 0.5) / how.ramp) if phase == "ramp" else workload.connections
    return Second(
        at=at,
        phase=phase,
        connected=connected,
        published=round(workload.rate),
        delivered=round(workload.rate * workload.subscribers),
    )


def _node(number: int, at: int, workload: Workload, costs: Costs, how: Made, *, dice: random.Random) -> NodeSample:
    share = how.shares[number]
    spent = node.cpu(node.part(workload, share, costs.node), costs.node)
    return NodeSample(
        node=f"node {number}",
        at=at + 0.5,
        cpu=how.wrong * spent * dice.gauss(1, how.noise),
        resident=round(node.resident(workload, share, costs.memory)),
        connections=round(workload.connections * share),
    )


def written(result: Result, folder: Path, name: str = "run.json") -> Path:
    """Write a result as the kit does."""
    path = folder / name
    path.write_bytes(msgspec.json.encode(result))
    return path
