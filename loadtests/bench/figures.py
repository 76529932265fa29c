"""Medians, spreads and the table: a figure whose runs disagree by more than 15 % is not a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

MOST_SPREAD: Final = 0.15
SATURATED: Final = 0.97  # share of a core beyond which the generator was what was measured


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: runs of one thing. `floor` is a must, `goal` a wish; 0 = none; `least`: less is better."""

    name: str
    runs: Sequence[float]
    unit: str
    floor: float = 0.0
    least: bool = False
    busy: float = 0.0  # the generator's share of its core, the worst run
    goal: float = 0.0
    note: str = ""  # what a reader must know of it
    wrong: str = ""  # why it is none, whatever the runs say

    @property
    def median(self) -> float:
        """The middle run."""
        return median(self.runs)

    @property
    def spread(self) -> float:
        """Return (highest - lowest) / median."""
        return (max(self.runs) - min(self.runs)) / self.median if self.median else 0.0

    @property
    def void(self) -> str:
        """Why this is not a figure; empty if it is one."""
        if self.wrong:
            return self.wrong
        if self.busy > SATURATED:
            return "generator saturated"
        return "spread over 15 %" if self.spread > MOST_SPREAD else ""

    @property
    def met(self) -> bool:
        """Whether the floor holds."""
        return self.reaches(self.floor)

    def reaches(self, bound: float) -> bool:
        """Whether the median is at least as good as this bound; 0 is none."""
        return not bound or (self.median <= bound if self.least else self.median >= bound)

    def told(self) -> dict[str, object]:
        """Return all there is to know, for programs."""
        return {**asdict(self), "median": self.median, "spread": self.spread, "void": self.void, "met": self.met}

    def row(self) -> str:
        """Return its line of the table."""
        busy = f"{self.busy:4.0%}" if self.busy else "    "
        notes = "; ".join(it for it in (f"VOID: {self.void}" if self.void else "", self.note) if it)
        cells = f"{self.name:<52} {_number(self.median):>12} {self.unit:<22} {self.spread:>6.1%}   {busy}"
        bounds = f"{self._bound(self.floor, 'MISSED'):<18} {self._bound(self.goal, 'not yet'):<18}"
        return f"{cells}   {bounds} {notes}".rstrip()

    def _bound(self, bound: float, missed: str) -> str:
        if not bound:
            return ""
        return f"{'<=' if self.least else '>='} {bound:g} {'ok' if self.reaches(bound) else missed}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


HEAD: Final = f"{'':<52} {'median':>12} {'':<22} {'spread':>6}   {'load':>4}   {'must':<18} {'goal':<18}".rstrip()
