"""What a scenario of the bench is, and what it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from loadtests.bench.figures import Figure
from loadtests.bench.nodes import SERVE, our_server
from loadtests.bench.rig import Measured, Server
from loadtests.bench.slices import Amount, interleaved, joined
from loadtests.identity import Issuer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a scenario runs: a Valkey of its own, an issuer of tokens, and how much is measured."""

    issuer: Issuer
    jwks: str
    redis: str
    amount: Amount
    told: Callable[[str], None]  # shows progress
    minutes: float = 0.0  # how long a scenario lasts whose length is its point; 0: as it says itself

    @contextmanager
    def node(
        self,
        *,
        program: Sequence[str] = SERVE,
        changes: Mapping[str, Mapping[str, object]] | None = None,
        pinned: bool = True,
    ) -> Iterator[Server]:
        """Run a node, `pinned` on the server's core."""
        with our_server(self.jwks, self.redis, program=program, changes=changes, pinned=pinned) as running:
            yield running

    async def measured(self, kinds: Mapping[str, Callable[[], Awaitable[Measured]]]) -> dict[str, list[Measured]]:
        """Measure all kinds in turn; return the runs of each."""
        slices = await interleaved(self.amount, kinds, self.told)
        return {name: joined(runs) for name, runs in slices.items()}


Play: TypeAlias = Callable[[Bench], Awaitable[list[Figure]]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Some rows of the table that are measured together. `asked`: runs only when it is named."""

    name: str
    about: str
    play: Play
    asked: bool = False


def rates(runs: Sequence[Measured]) -> list[float]:
    """Return the deliveries a second of each run."""
    return [it.deliveries for it in runs]


def busiest(runs: Sequence[Measured]) -> float:
    """Return the generator's share of a core in its worst slice."""
    return max(it.busy for it in runs)


def ratio(ours: Sequence[Measured], theirs: Sequence[Measured]) -> list[float]:
    """Return run by run how many times as fast we are; 0 where the reference delivered nothing, which voids the row."""
    return [a.deliveries / b.deliveries if b.deliveries else 0.0 for a, b in zip(ours, theirs, strict=True)]
