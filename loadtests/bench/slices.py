"""How much is measured, and in which order: slices of all kinds and runs take turns, so the machine's moods hit all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, TypeVar

from loadtests.bench.calm import PATIENCE, Calm
from loadtests.bench.rig import Measured

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Amount:
    """`slices` a run, of `seconds` each; `share` of the clients that a scenario has when it counts."""

    runs: int = 5
    slices: int = 8
    seconds: float = 0.5
    share: float = 1.0
    quick: bool = False  # only to see that everything works: what comes out is no figure

    def clients(self, number: int) -> int:
        """Return how many to connect where `number` are meant."""
        return max(2, round(number * self.share))

    def span(self, seconds: float) -> float:
        """Return how long to do what is meant to last `seconds`."""
        return max(0.5, seconds / 20) if self.quick else seconds


FULL: Final = Amount()
QUICK: Final = Amount(runs=2, slices=1, seconds=0.3, share=0.04, quick=True)


async def interleaved(
    amount: Amount,
    kinds: Mapping[str, Callable[[], Awaitable[T]]],
    told: Callable[[str], None],
    calm: Calm | None = None,
) -> dict[str, list[list[T]]]:
    """Measure slices of each kind in turn, after a round that does not count; return them by kind and run.

    A round during which a core was slow is repeated, see `Calm`; not for a trial, which measures nothing.
    """
    calm = calm or Calm(patience=0.0 if amount.quick else PATIENCE)
    runs: dict[str, list[list[T]]] = {name: [[] for _ in range(amount.runs)] for name in kinds}
    for measure in kinds.values():
        await measure()
    for number in range(amount.runs * amount.slices):
        for name, result in (await calm.round(kinds, told)).items():
            runs[name][number % amount.runs].append(result)
    return runs


def joined(runs: Sequence[Sequence[Measured]]) -> list[Measured]:
    """Return each run as one: rates as their means over its slices, the busiest generator."""
    return [
        Measured(
            fmean(it.deliveries for it in run),
            fmean(it.acks for it in run),
            max(it.busy for it in run),
            sum(it.seconds for it in run),
        )
        for run in runs
    ]
