"""What a delivery is expected to cost on this machine, and where that is written down. Pure but for the file.

Two references that are measured in the same round say what the machine is like just now: the C loop costs little but
the kernel's write of a frame, the stock server the same and Python on top. Each kind of load of ours is so many writes,
which its design tells, and a share of the stock server's Python, which is what is recorded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

PATH: Final = Path(__file__).parent.parent / "recorded.toml"
C_LOOP: Final = "C loop"
STOCK: Final = "stock"
IN_FLIGHT: Final = 8
WRITES: Final = {"fan-out": 1.0, "joined": 1 / IN_FLIGHT, "1:1": 1.0}  # of a delivery, by kind
FALL: Final = 0.15
FALL_ELSEWHERE: Final = 0.3  # on a machine that is not like the one of the record, as its references show
ALIKE: Final = 1.15  # by how much the relation of the references may differ on a machine that is like it
COMPARABLE: Final = 1.6  # and beyond this nothing can be said
HEAD: Final = """\
# Written by `make gate ARGS=--record`, on a machine that did nothing else: do so again after each deliberate change of
# speed, in the same commit. What the numbers mean: loadtests/bench/gate/record.py.
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One slice of each kind: CPU time of the server per delivery, in microseconds."""

    costs: Mapping[str, float]
    disturbed: str = ""  # why it does not count

    @property
    def relation(self) -> float:
        """Return how many times the C loop's cost that of the stock server is."""
        return self.costs[STOCK] / self.costs[C_LOOP]

    def python(self) -> float:
        """Return what Python costs the stock server; never nothing, so that a disturbed round can be divided by it."""
        return max(self.costs[STOCK] - self.costs[C_LOOP], self.costs[STOCK] / 10)


@dataclass(frozen=True, slots=True)
class Record:
    """`work`: the share of the stock server's Python, by kind; `relation`: that of the two references."""

    relation: float
    work: Mapping[str, float]
    about: str = ""

    def expected(self, kind: str, now: Round) -> float:
        """Return what a delivery of this kind may cost in this round, in microseconds."""
        return WRITES[kind] * now.costs[C_LOOP] + self.work[kind] * now.python()

    def speeds(self, kind: str, rounds: Sequence[Round]) -> list[float]:
        """Return how fast we were in each round; 1 is as recorded."""
        return [self.expected(kind, it) / it.costs[kind] for it in rounds]

    def likeness(self, rounds: Sequence[Round]) -> float:
        """Return by how much the relation of the references differs from the recorded one, as a factor from 1."""
        factor = median(it.relation for it in rounds) / self.relation
        return max(factor, 1 / factor)

    def bound(self, rounds: Sequence[Round]) -> float:
        """Return the speed that is a fall, on a machine like this; 0: the record says nothing about it."""
        likeness = self.likeness(rounds)
        if likeness > COMPARABLE:
            return 0.0
        return 1 - (FALL if likeness <= ALIKE else FALL_ELSEWHERE)


def recorded(rounds: Sequence[Round], about: str) -> Record:
    """Return what these rounds say, for a record."""
    work = {
        kind: median((it.costs[kind] - writes * it.costs[C_LOOP]) / it.python() for it in rounds)
        for kind, writes in WRITES.items()
    }
    return Record(median(it.relation for it in rounds), work, about)


def read(path: Path = PATH) -> Record:
    """Return the record. Raises OSError, KeyError or TOMLDecodeError: it must be written anew."""
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    work = {kind: float(told["work"][kind]) for kind in WRITES}
    return Record(float(told["relation"]), work, str(told["about"]))


def write(record: Record, path: Path = PATH) -> None:
    """Write the record."""
    work = "".join(f'"{kind}" = {value:.4f}\n' for kind, value in record.work.items())
    text = f'{HEAD}about = "{record.about}"\nrelation = {record.relation:.3f}\n\n[work]\n{work}'
    path.write_text(text, encoding="utf-8")
