"""Predicts what a measured run of any number of nodes took, from constants that were fitted on one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.plan import node, samples
from loadtests.plan.constants import Costs

CLOSE: Final = 0.2  # what a model may be off and still be one


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One resource of one node: a share of a core, or bytes."""

    node: str
    resource: str  # cpu, memory; `while clients came` is of the ramp
    predicted: float
    seen: float

    @property
    def error(self) -> float:
        """Return (predicted - seen) / seen."""
        return self.predicted / self.seen - 1

    @property
    def holds(self) -> bool:
        """Whether it is close enough."""
        return abs(self.error) <= CLOSE


def check(path: Path, costs: Costs) -> list[Prediction]:
    """Return what the model says of this run, beside what was seen. Raises PlanError: nothing can be said."""
    found: list[Prediction] = []
    for it in samples.observed(samples.result(path), path.name):
        load = node.part(it.workload, it.share, costs.node)
        during = "" if it.phase == "measure" else " while clients came"
        found.append(
            Prediction(node=it.node, resource=f"cpu{during}", predicted=node.cpu(load, costs.node), seen=it.cpu)
        )
        if not during and it.resident:
            memory = node.resident(it.workload, it.share, costs.memory)
            found.append(Prediction(node=it.node, resource="memory", predicted=memory, seen=it.resident))
    return sorted(found, key=lambda it: (it.node, it.resource))
