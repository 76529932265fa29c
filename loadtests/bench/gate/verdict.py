"""Whether something fell below a bound, from repeated measurements of any distribution. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import comb
from statistics import median, quantiles
from typing import Final

CONFIDENCE: Final = 0.99
FEWEST: Final = 12  # values before anything is said


class Outcome(Enum):
    """What can be said."""

    HOLDS = "holds"
    FELL = "FELL"
    OPEN = "no verdict"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`low` and `high` hold the true median with the confidence of this module; 0 and infinity: nothing is known."""

    outcome: Outcome
    middle: float
    low: float = 0.0
    high: float = float("inf")
    spread: float = 0.0  # of the middle half of all rounds, as a share of the median
    why: str = ""  # there is no verdict


def judge(values: Sequence[float], bound: float) -> Judgement:
    """Say whether the median of what these values are drawn from is below the bound.

    A fall must also show in three rounds of four: a machine with two moods is no fall. More values may be added and
    judged again until there is a verdict: that makes it wrong more often than the confidence says only where the truth
    lies at the bound itself, which is no place for a healthy program.
    """
    if len(values) < FEWEST:
        return Judgement(Outcome.OPEN, median(values) if values else 0.0, why=f"{len(values)} rounds of {FEWEST}")
    middle, (low, high) = median(values), interval(values)
    first, _, third = quantiles(values, n=4)
    spread = (third - first) / middle
    if low >= bound:
        return Judgement(Outcome.HOLDS, middle, low, high, spread)
    if high < bound and third < bound:
        return Judgement(Outcome.FELL, middle, low, high, spread)
    return Judgement(Outcome.OPEN, middle, low, high, spread, "rounds on both sides of the bound")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics that hold the median with this confidence, whatever the distribution."""
    ordered = sorted(values)
    rank = 0  # how many values may lie outside at either end
    chance = 2 * _below(0, len(ordered))
    while chance <= 1 - CONFIDENCE:
        rank += 1
        chance = 2 * _below(rank, len(ordered))
    if not rank:
        return 0.0, float("inf")
    return ordered[rank - 1], ordered[-rank]


def _below(rank: int, number: int) -> float:
    """Return the chance that at most `rank` of so many tosses of a coin are heads."""
    return float(sum(comb(number, it) for it in range(rank + 1)) / 2**number)
