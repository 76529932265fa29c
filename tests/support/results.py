"""Results of runs that never were, for what shows them: the same every time, and as a real run would leave them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Final

import msgspec

from loadtests.kit.profile import read
from loadtests.kit.result import (
    Audit,
    Broken,
    GeneratorProcess,
    Machine,
    NodeSample,
    Percentiles,
    Result,
    Second,
)
from loadtests.workers.distribution import Distribution, merged, percentiles

PHASES: Final = (("ramp", 3), ("warm-up", 2), ("measure", 20), ("settle", 2))
MIB: Final = 1 << 20
NODES: Final = ("http://127.0.0.1:8000/metrics", "http://127.0.0.1:8001/metrics")


@cache
def spread(count: int, middle: float, *, seed: int = 1) -> Percentiles:
    """Return latencies around `middle` ms, with the long tail that all servers have."""
    chance, found = Random(seed), Distribution()
    for _ in range(count):
        found.add(round(chance.lognormvariate(0.0, 0.6) * middle * 1000))
    return percentiles(merged([found.encoded()]))


def good(*, nodes: Sequence[str] = NODES, seed: int = 1) -> Result:
    """Return a run that passed: two nodes, two generator processes, 1,000 clients, 20,000 deliveries a second."""
    seconds = list(_seconds())
    delivered = sum(it.delivered for it in seconds)
    return Result(
        scenario="fan-out",
        profile=read("fan-out").model_dump(mode="json"),
        target="http://127.0.0.1:8000 http://127.0.0.1:8001",
        command="python -m loadtests run fan-out --target http://127.0.0.1:8000 --target http://127.0.0.1:8001",
        started="2026-11-22T20:15:00Z",
        machine=Machine(
            cores=8, model="A Processor 9000", system="Linux 6.8", python="CPython 3.11.7", memory=24 << 30
        ),
        versions={"python": "3.11.7", "uvloop": "0.23.0", "gateway": "0.1.0", "engine": "Valkey 8.1.8"},
        measured=20.0,
        seconds=seconds,
        nodes=[it for number, name in enumerate(nodes) for it in _samples(name, Random(f"{seed}{number}"))],
        connect=spread(1001, 2.4, seed=2),
        subscribe=spread(1000, 0.8, seed=3),
        acknowledge=spread(400, 1.9, seed=4),
        delivery=spread(20_000, 6.5, seed=5),
        recover=Percentiles(),
        audit=Audit(published=440, acknowledged=440, delivered=delivered),
        closes={},
        refusals={},
        generators=[
            GeneratorProcess(process=0, connections=501, mean=0.38, peak=0.52, lag=1.3),
            GeneratorProcess(process=1, connections=500, mean=0.35, peak=0.49, lag=1.1),
        ],
        broken=[],
        remarks=[],
    )


def bad() -> Result:
    """Return a run in which much was broken."""
    fine = good()
    return msgspec.structs.replace(
        fine,
        seconds=[
            msgspec.structs.replace(it, closes=58 * (it.at in {9, 10, 16, 21}), errors=it.at % 3) for it in fine.seconds
        ],
        audit=Audit(
            published=440,
            acknowledged=437,
            refused=2,
            doubtful=1,
            delivered=436_998,
            repeats=3,
            twice=1,
            lost=2,
            told={"unrecovered": 12, "disconnected": 4},
            offences=[
                "silent gap in load:1 at client-17: 311 of 437",
                "silent gap in load:1 at client-311: 312 of 437",
            ],
            clean=False,
        ),
        broken=[
            Broken(name="p99", wanted=20.0, seen=34.21),
            Broken(name="lost", wanted=0.0, seen=2.0),
            Broken(name="resident_growth", wanted=4.0, seen=12.5),
            Broken(name="lag_p99", wanted=10.0, seen=0.0, why="nothing of this was measured"),
        ],
        delivery=msgspec.structs.replace(fine.delivery, missing=8, max=None),
        nodes=[msgspec.structs.replace(it, slow=2 * (int(it.at) in {9, 10})) for it in fine.nodes],
        closes={"1006": 17, "3008": 4, "3012": 210, "4711": 1},
        refusals={"429": 12, "111": 340, "no answer": 3},
        recover=spread(230, 120.0, seed=6),
        figures={"back_95_seconds": 2.31, "back_100_seconds": 4.9},
        remarks=["http://127.0.0.1:8001/metrics could not be read for 3 s"],
    )


def saturated() -> Result:
    """Return a run whose generator was what was measured."""
    busy = GeneratorProcess(process=1, connections=500, mean=0.93, peak=0.99, lag=41.7)
    late = Broken(name="p99", wanted=20.0, seen=34.21)
    return msgspec.structs.replace(good(), generators=[good().generators[0], busy], broken=[late])


def _seconds() -> Iterator[Second]:
    chance, at = Random(1), 0
    for phase, length in PHASES:
        for second in range(length):
            speaks = phase in {"warm-up", "measure"}
            connected = 1001 * (second + 1) // length if phase == "ramp" else 1001
            published = 20 if speaks else 0
            yield Second(
                at=at,
                phase=phase,
                connected=connected,
                published=published,
                acknowledged=published,
                delivered=published * 1000,
                delivery=spread(300, 6.5, seed=at) if speaks else Percentiles(),
                busy=0.4 + chance.random() / 10 if speaks else 0.2,
            )
            at += 1


def _samples(name: str, chance: Random) -> Iterator[NodeSample]:
    for at in range(sum(length for _, length in PHASES)):
        connections = 500 * min(at + 1, 3) // 3
        yield NodeSample(
            node=name,
            at=at + 0.4,
            cpu=(0.55 if 3 <= at < 25 else 0.1) + chance.random() / 10,
            resident=round((61 + connections / 500 * 6 + at * 0.02 + chance.random() / 5) * MIB),
            lag=0.8 + chance.random() * 4,
            connections=connections,
        )
