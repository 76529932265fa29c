"""Fits the constants to runs of one node: least squares, never below 0, weakly pulled towards what was thought before.

The pull decides only what the runs leave open: how 40 µs of a message are divided between its way in and its way out.
A constant that is next to nothing in every run stays as it was, and so does the cost of a byte while all publications
are of one size.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from statistics import median
from typing import Final

from loadtests.plan.constants import UNITS, Basis, Constant, Constants, NodeCosts
from loadtests.plan.node import TERMS, cpu
from loadtests.plan.samples import Sample, Seen
from loadtests.plan.workload import PlanError

NOISE: Final = 0.05  # of a run's CPU, as a share of it
PULL: Final = 3.0  # standard deviation of what was thought before, in times of it: a weak pull
ROUNDS: Final = 20  # how often frames are joined anew by the costs found so far
CLOSE: Final = 1e-9
RESAMPLES: Final = 100
EDGE: Final = 0.05  # share of the resamples below, and above, what is given as the range
KNOWN: Final = 0.25  # standard deviation of a constant that the runs alone determine, as a share of it
HEARD: Final = 0.05  # share of some run's CPU that a constant must make up for the run to say something about it
SIZES: Final = 2.0  # largest beside smallest bytes of a frame from which on runs tell bytes from frames

Matrix = list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """`errors`: (predicted - seen) / seen of each sample, by its name; `ignored`: rows that say nothing of a cost."""

    constants: Constants
    errors: Mapping[str, list[float]]
    ignored: Sequence[str]


@dataclass(frozen=True, slots=True)
class Run:
    """Where the figures come from; stands beside each constant that they gave."""

    source: str
    date: str = ""
    machine: str = ""

    def sign(self, constant: Constant) -> Constant:
        """Return the constant as one of this run."""
        return replace(constant, source=self.source, date=self.date, machine=self.machine)


@dataclass(frozen=True, slots=True)
class _Term:
    name: str
    scale: float  # seconds; the pull is measured by it
    value: float  # seconds; what was thought before


@dataclass(slots=True)
class _Solution:
    costs: NodeCosts
    spread: dict[str, float]  # standard deviations, seconds


def fit(seen: Seen, before: Constants, run: Run) -> Fitted:
    """Return constants that explain the samples; those that no sample touches stay. Raises PlanError without any."""
    if not seen.samples and not seen.direct:
        raise PlanError("none of these files says anything about a constant")
    found = Constants(before)
    for name, values in seen.direct.items():
        unit = UNITS[before[name].unit]
        low, middle, high = (it / unit for it in (min(values), median(values), max(values)))
        found[name] = run.sign(replace(before[name], value=middle, low=low, high=high, basis="measured"))
    errors: dict[str, list[float]] = defaultdict(list)
    if seen.samples:
        for name, constant in _fitted(seen.samples, found).items():
            found[name] = run.sign(constant)
        costs = found.costs().node
        for it in seen.samples:
            errors[it.name].append(cpu(it.load(costs), costs) / it.cpu - 1)
    return Fitted(constants=found, errors=errors, ignored=seen.ignored)


def _fitted(samples: Sequence[Sample], before: Constants) -> dict[str, Constant]:
    start = before.costs().node
    terms = _asked(samples, before, start)
    middle = _solved(samples, terms, start)
    dice = random.Random(1)
    others = [_solved(_resampled(samples, dice), terms, start).costs for _ in range(RESAMPLES)]
    found: dict[str, Constant] = {}
    for it in terms:
        value = getattr(middle.costs, it.name)
        spread = sorted(getattr(other, it.name) for other in others)
        known = 0 < middle.spread[it.name] <= KNOWN * value
        found[f"node.{it.name}"] = _ranged(before[f"node.{it.name}"], value, spread, known=known)
    return found


def _asked(samples: Sequence[Sample], before: Constants, start: NodeCosts) -> list[_Term]:
    """Return the constants about which these samples say something."""
    loads = [(it.load(start), it.cpu) for it in samples]
    sizes = [load.byte / load.frame for load, _ in loads if load.frame]
    terms: list[_Term] = []
    for name in TERMS:
        constant = before[f"node.{name}"]
        scale = max(constant.value, constant.high / 2, 1e-3) * UNITS[constant.unit]
        heard = max(getattr(load, name) * scale / share for load, share in loads)
        if heard >= HEARD and (name != "byte" or max(sizes) >= SIZES * min(sizes)):
            terms.append(_Term(name, scale, constant.value * UNITS[constant.unit]))
    return terms


def _ranged(before: Constant, value: float, others: Sequence[float], *, known: bool) -> Constant:
    """Return the constant with its range; what the runs alone do not determine keeps the width that it had."""
    unit = UNITS[before.unit]
    edge = round(EDGE * len(others))
    low, high = min(others[edge], value * (1 - NOISE)), max(others[-1 - edge], value * (1 + NOISE))
    basis: Basis = "measured" if known else "derived"
    if not known and value and before.value:
        low, high = min(low, value * before.low / before.value), max(high, value * before.high / before.value)
    elif not value:
        high = max(high, before.high * unit)
    return replace(before, value=value / unit, low=low / unit, high=high / unit, basis=basis)


def _resampled(samples: Sequence[Sample], dice: random.Random) -> list[Sample]:
    """Return as many samples of each name, drawn with repetition."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for it in samples:
        groups[it.name].append(it)
    return [it for group in groups.values() for it in dice.choices(group, k=len(group))]


def _solved(samples: Sequence[Sample], terms: Sequence[_Term], start: NodeCosts) -> _Solution:
    """Solve again until joining the frames by the costs that were found changes them no more."""
    solution, before, rounds = _Solution(start, {}), inf, 0
    while abs(solution.costs.write - before) > CLOSE * solution.costs.write and rounds < ROUNDS:
        before, rounds = solution.costs.write, rounds + 1
        solution = _least_squares(samples, terms, solution.costs)
    return solution


def _least_squares(samples: Sequence[Sample], terms: Sequence[_Term], costs: NodeCosts) -> _Solution:
    """Minimise squared relative errors by these terms, the others stay; one that would be negative is 0."""
    size = len(terms)
    matrix = [[float(row == column) / PULL**2 for column in range(size)] for row in range(size)]
    right = [it.value / it.scale / PULL**2 for it in terms]
    held = replace(costs, **{it.name: 0.0 for it in terms})
    for sample in samples:
        load = sample.load(costs)
        noise = sample.cpu * NOISE
        row = [getattr(load, it.name) * it.scale / noise for it in terms]
        left = (sample.cpu - cpu(load, held)) / noise
        for i, own in enumerate(row):
            right[i] += own * left
            for j, other in enumerate(row):
                matrix[i][j] += own * other
    values, spread = _not_negative(matrix, right)
    found = {it.name: value * it.scale for it, value in zip(terms, values, strict=True)}
    return _Solution(replace(costs, **found), {it.name: own * it.scale for it, own in zip(terms, spread, strict=True)})


def _not_negative(matrix: Matrix, right: Sequence[float]) -> tuple[list[float], list[float]]:
    """Solve with what would be most negative left out, until nothing is; also the standard deviations, 0 of those."""
    size = len(right)
    free = list(range(size))
    values, spread = [0.0] * size, [0.0] * size
    while True:
        inner = _inverse([[matrix[i][j] for j in free] for i in free])
        solved = [sum(it * right[j] for it, j in zip(line, free, strict=True)) for line in inner]
        least = min(range(len(free)), key=lambda at: solved[at], default=None)
        if least is None or solved[least] >= 0:
            for at, i in enumerate(free):
                values[i], spread[i] = solved[at], sqrt(inner[at][at])
            return values, spread
        del free[least]


def _inverse(matrix: Matrix) -> Matrix:
    """Return the inverse of a symmetric, positive definite matrix (Gauss and Jordan; no pivot can be 0)."""
    size = len(matrix)
    rows = [[*line, *(float(at == i) for at in range(size))] for i, line in enumerate(matrix)]
    for at in range(size):
        pivot = rows[at][at]
        rows[at] = [it / pivot for it in rows[at]]
        for other in range(size):
            factor = rows[other][at]
            if other != at and factor:
                rows[other] = [it - factor * own for it, own in zip(rows[other], rows[at], strict=True)]
    return [line[size:] for line in rows]
