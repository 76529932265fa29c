"""Asks Prometheus what a panel asks, and says which of its questions stay without an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.dashboard.panels import Panel, Query
from tests.support.prometheus import Prometheus, Series

STEPS: Final = 120  # points of a course


@dataclass(frozen=True, slots=True)
class Answer:
    """What came to one question."""

    query: Query
    series: Sequence[Series]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be seen: no series, or none with a number."""
        return all(math.isnan(value) for it in self.series for _, value in it.points)


@dataclass(frozen=True, slots=True)
class Answered:
    """A panel with all its answers, from a moment to another (Unix time)."""

    panel: Panel
    begin: float
    end: float
    answers: Sequence[Answer]

    def silent(self) -> Iterator[str]:
        """Yield a line for each question without an answer."""
        for it in self.answers:
            if it.empty:
                yield f"{self.panel.row} / {self.panel.title} / {it.query.legend}: {it.query.expr}"


async def ask(prometheus: Prometheus, panel: Panel, begin: float, end: float) -> Answered:
    """Ask all that a panel asks. Fails when Prometheus does not understand it."""
    step = max(prometheus.interval, (end - begin) / STEPS)
    answers = []
    for it in panel.queries:
        found = prometheus.query(it.expr, end) if it.at_once else prometheus.course(it.expr, begin, end, step)
        answers.append(Answer(it, await found))
    return Answered(panel, begin, end, answers)
