"""Medians, spreads and the table: a figure whose runs disagree by more than 15 % is not a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MOST_SPREAD: Final = 0.15
SATURATED: Final = 0.97  # share of a core beyond which the generator was what was measured


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: runs of one thing. `floor` 0 = none; `least`: less is better."""

    name: str
    runs: Sequence[float]
    unit: str
    floor: float = 0.0
    least: bool = False
    busy: float = 0.0  # the generator's share of its core, the worst run

    @property
    def median(self) -> float:
        """The middle run."""
        return median(self.runs)

    @property
    def spread(self) -> float:
        """Return (highest - lowest) / median."""
        return (max(self.runs) - min(self.runs)) / self.median

    @property
    def void(self) -> str:
        """Why this is not a figure; empty if it is one."""
        if self.spread > MOST_SPREAD:
            return "spread over 15 %"
        return "generator saturated" if self.busy > SATURATED else ""

    @property
    def met(self) -> bool:
        """Whether the floor holds."""
        return not self.floor or (self.median <= self.floor if self.least else self.median >= self.floor)

    def row(self) -> str:
        """Return its line of the table."""
        number = f"{self.median:,.0f}" if self.median >= 100 else f"{self.median:.2f}"
        floor = (
            "" if not self.floor else f"{'<=' if self.least else '>='} {self.floor:g} {'ok' if self.met else 'MISSED'}"
        )
        note = f"VOID: {self.void}" if self.void else ""
        busy = f"{self.busy:4.0%}" if self.busy else "    "
        return f"{self.name:<52} {number:>12} {self.unit:<22} {self.spread:>6.1%}   {busy}   {floor:<18} {note}"


HEAD: Final = f"{'':<52} {'median':>12} {'':<22} {'spread':>6}   {'load':>4}   floor"
