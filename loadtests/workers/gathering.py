"""Puts together what the processes say of each second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final

from loadtests.kit.result import SATURATED, GeneratorProcess, Second
from loadtests.scenarios.contract import Phase
from loadtests.workers.distribution import merged, percentiles
from loadtests.workers.messages import Findings, Tick

NOTHING: Final = Tick(at=0)


class Gathering:
    """Seconds come in order, each when all processes have said theirs. `phase_of`: of a second, by its number."""

    def __init__(self, processes: int, phase_of: Callable[[int], Phase]) -> None:
        self.seconds: list[Second] = []
        self.closes: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.newest: dict[int, Tick] = {}  # by process
        self.measured: list[list[Tick]] = [[] for _ in range(processes)]  # by process, those of the measure phase
        self._phase_of = phase_of
        self._waiting: dict[int, dict[int, Tick]] = {}

    def take(self, part: int, tick: Tick) -> Second | None:
        """Take what one process says; returns the second if that was the last that it lacked."""
        self.newest[part] = tick
        self.closes.update(tick.closes)
        self.refusals.update(tick.refusals)
        found = self._waiting.setdefault(tick.at, {})
        found[part] = tick
        if len(found) < len(self.measured):
            return None
        ticks = [it for _, it in sorted(self._waiting.pop(tick.at).items())]
        second = _second(tick.at, self._phase_of(tick.at), ticks)
        if second.phase == "measure":
            for course, it in zip(self.measured, ticks, strict=True):
                course.append(it)
        self.seconds.append(second)
        return second

    @property
    def settled(self) -> bool:
        """Whether the last second was wholly quiet: all has been played, and nothing is on its way."""
        last = self.seconds[-1:]
        ticks = self.newest.values()
        return (
            [(it.phase, it.delivered) for it in last] == [("settle", 0)]
            and len(ticks) == len(self.measured)
            and all(it.played and not it.pending and it.standing == it.clients for it in ticks)
        )

    @property
    def played(self) -> bool:
        """Whether the scenario has returned in all processes."""
        return len(self.newest) == len(self.measured) and all(it.played for it in self.newest.values())

    def processes(self, findings: Sequence[Findings]) -> list[GeneratorProcess]:
        """Return what each process cost; `findings` in the order of the processes."""
        return [
            _process(part, course, found)
            for part, (course, found) in enumerate(zip(self.measured, findings, strict=True))
        ]


def _process(part: int, course: Sequence[Tick], found: Findings) -> GeneratorProcess:
    return GeneratorProcess(
        process=part,
        connections=found.connections,
        mean=_mean([it.busy for it in course]),
        peak=max((it.busy for it in course), default=0.0),
        lag=found.lag,
        starved=_mean([it.starved for it in course]),
        over=_mean([it.busy + it.starved > SATURATED for it in course]),
        behind=found.behind,
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def _second(at: int, phase: Phase, ticks: Sequence[Tick]) -> Second:
    worst = max(ticks, key=lambda it: it.busy + it.starved)
    return Second(
        at=at,
        phase=phase,
        connected=sum(it.connected for it in ticks),
        published=sum(it.published for it in ticks),
        acknowledged=sum(it.acknowledged for it in ticks),
        delivered=sum(it.delivered for it in ticks),
        errors=sum(it.errors for it in ticks),
        closes=sum(sum(it.closes.values()) for it in ticks),
        delivery=percentiles(merged(it.delivery for it in ticks)),
        busy=worst.busy,
        starved=worst.starved,
    )
