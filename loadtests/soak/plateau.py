"""Whether memory stays where it is. Allocators give nothing back, so plateaus are compared, never with nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import linear_regression, median
from typing import Final

SLICES: Final = 5  # of the second half
MOST: Final = 1.1  # times the first plateau
RISE: Final = 0.08  # of the first plateau, over the second half
ENOUGH: Final = 240.0  # seconds; before, a process is still finding its size

Point = tuple[float, float]
"""Seconds since the beginning, MiB."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """The memory of one node in MiB: medians of the second quarter and of each slice of the second half."""

    name: str
    first: float
    slices: Sequence[float]
    rise: float  # MiB over the second half, of the straight line that fits best
    judged: bool  # False: the run was too short to say

    @property
    def last(self) -> float:
        """The last slice."""
        return self.slices[-1]

    @property
    def offence(self) -> str:
        """What is wrong; empty: nothing."""
        if self.judged and max(self.slices) > MOST * self.first:
            return f"{self.name}: memory went from {self.first:.0f} to {max(self.slices):.0f} MiB"
        if self.judged and self.rise > RISE * self.first:
            return f"{self.name}: memory went up all the time, by {self.rise:.1f} MiB"
        return ""


def plateau(name: str, points: Sequence[Point]) -> Plateau:
    """Judge the memory of a node that ran all the time; there is at least one point, and they are evenly spread."""
    quarter, half = len(points) // 4, len(points) // 2
    late = points[half:]
    edges = [len(late) * number // SLICES for number in range(SLICES + 1)]
    slices = [_middle(late[start : max(end, start + 1)]) for start, end in pairwise(edges)]
    slope = linear_regression(*zip(*late, strict=True)).slope if len(late) > 1 else 0.0
    rise = slope * (late[-1][0] - late[0][0])
    return Plateau(name, _middle(points[quarter : half + 1]), slices, rise, points[-1][0] >= ENOUGH)


def _middle(points: Sequence[Point]) -> float:
    return median(value for _, value in points)
