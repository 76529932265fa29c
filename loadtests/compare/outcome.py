"""What a comparison leaves behind: the runs of each server, and all that a reader needs to repeat it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from loadtests.bench.figures import Figure
from loadtests.compare.contestants import CEILING
from loadtests.kit.result import Machine

VERSION: Final = 1  # of the JSON


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is measured of every server. `ratio`: also as a share of the C loop, run by run."""

    name: str
    title: str
    unit: str
    least: bool = False
    ratio: bool = False


ONE: Final = Measure(name="one", title="one in flight", unit="deliveries/s", ratio=True)
EIGHT: Final = Measure(name="eight", title="8 in flight", unit="deliveries/s", ratio=True)
MEMORY: Final = Measure(name="memory", title="memory per idle connection", unit="KiB resident", least=True)
ACCEPTS: Final = Measure(name="accepts", title="accepts", unit="accepts/s")
MEASURES: Final = (ONE, EIGHT, MEMORY, ACCEPTS)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one server by one measure. `busy`: the generator's share of its core, at worst."""

    server: str
    measure: str
    runs: list[float]
    busy: float = 0.0
    wrong: str = ""  # why it is no figure, whatever the runs say


class Entrant(msgspec.Struct, frozen=True, kw_only=True):
    """A server that took part."""

    name: str
    title: str
    remark: str
    versions: dict[str, str]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `make compare`."""

    started: str  # ISO 8601, UTC
    command: str
    machine: Machine
    engine: str
    subscribers: int
    plateau: int  # idle connections between two looks at the memory
    quick: bool
    entrants: list[Entrant]
    left_out: dict[str, str]  # title -> why
    rows: list[Row]
    version: int = VERSION

    def figure(self, entrant: Entrant, measure: Measure) -> Figure | None:
        """Return a server's figure by a measure; None if that was not measured."""
        row = self._row(entrant.name, measure)
        if row is None:
            return None
        name = f"{entrant.title}, {measure.title}"
        return Figure(name, row.runs, measure.unit, least=measure.least, busy=row.busy, wrong=row.wrong)

    def ratio(self, entrant: Entrant, measure: Measure) -> Figure | None:
        """Return how many times the C loop's figure a server's is; None if either was not measured."""
        theirs, ceiling = self._row(entrant.name, measure), self._row(CEILING, measure)
        if theirs is None or ceiling is None or entrant.name == CEILING or not measure.ratio:
            return None
        runs = [a / b if b else 0.0 for a, b in zip(theirs.runs, ceiling.runs, strict=True)]
        name = f"{entrant.title}, {measure.title}, of the C loop"
        return Figure(name, runs, "times", wrong=theirs.wrong or ceiling.wrong)

    def figures(self) -> Iterator[Figure]:
        """Yield all figures, by measure, the best first, each with its ratio."""
        for measure in MEASURES:
            ranked = [(it, made) for it in self.entrants if (made := self.figure(it, measure))]
            ranked.sort(key=lambda pair: pair[1].median, reverse=not measure.least)
            for entrant, made in ranked:
                yield made
                if ratio := self.ratio(entrant, measure):
                    yield ratio

    def _row(self, server: str, measure: Measure) -> Row | None:
        return next((it for it in self.rows if (it.server, it.measure) == (server, measure.name)), None)


def written(comparison: Comparison) -> bytes:
    """Return it as JSON."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=1)


def read(text: bytes) -> Comparison:
    """Return what was written. Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Comparison)


def exact(published: int, delivered: int, subscribers: int) -> str:
    """Return what is wrong with a server that does not deliver everything once; empty if it did."""
    expected = published * subscribers
    if not published:
        return "nothing was published"
    return "" if delivered == expected else f"{delivered:,} deliveries where {expected:,} were due"


def weighed(costs: Sequence[float]) -> str:
    """Return what is wrong with weights of connections; empty if each run found one.

    A process with a garbage collector may give back between two looks more than the connections took.
    """
    return "" if min(costs) > 0 else "a run found less memory in use with more connections"


def row(server: str, measure: Measure, runs: Sequence[float], *, busy: float = 0.0, wrong: str = "") -> Row:
    """Return a row."""
    return Row(server=server, measure=measure.name, runs=list(runs), busy=busy, wrong=wrong)
