"""Makes one result of what all processes found, and judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from loadtests.kit.expectations import judge
from loadtests.kit.profile import Profile
from loadtests.kit.result import Audit, Machine, NodeSample, Percentiles, Result
from loadtests.oracle import SHOWN, Ledger, Log, Verdict, agreed, unanswered, unheard, verify
from loadtests.workers.distribution import merged, percentiles
from loadtests.workers.gathering import Gathering
from loadtests.workers.messages import Findings

STARVED: Final = 0.1  # share of the time from which on a reader must know that the generator waited for cores


@dataclass(frozen=True, slots=True)
class Judged:
    """What the oracle says of a run; `unanswered` and `unheard`: what was due while measuring and never came."""

    verdict: Verdict
    unanswered: int
    unheard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Where, when and against what a run was made."""

    target: str
    command: str
    started: str
    machine: Machine
    versions: dict[str, str]
    measured: float
    nodes: list[NodeSample]
    remarks: list[str]


def result(profile: Profile, gathering: Gathering, findings: Sequence[Findings], around: Circumstances) -> Result:
    """Return the run as it is reported."""
    judged = _judged(findings)
    told = Result(
        scenario=profile.scenario,
        profile=profile.model_dump(mode="json"),
        target=around.target,
        command=around.command,
        started=around.started,
        machine=around.machine,
        versions=around.versions,
        measured=around.measured,
        seconds=gathering.seconds,
        nodes=around.nodes,
        **_histograms(findings, judged),
        audit=_audit(findings, judged.verdict),
        closes=dict(sorted(gathering.closes.items())),
        refusals=dict(sorted(gathering.refusals.items())),
        generators=gathering.processes(findings),
        broken=[],
        figures=_figures(findings),
        remarks=[],
    )
    told = msgspec.structs.replace(told, remarks=_remarks(told, findings, around))
    return msgspec.structs.replace(told, broken=judge(profile, told))


def _judged(findings: Sequence[Findings]) -> Judged:
    """Let the oracle judge what was published against what everybody saw."""
    ledger = Ledger()
    for found in findings:
        ledger.absorb(found.pages)
    logs = [Log.restored(it, ledger) for found in findings for it in found.logs]
    tops, contradictions = agreed((it.tops for it in findings), logs)
    unkept = {channel for channel, top in tops.items() if not top.epoch}
    verdict = verify(ledger, logs, tops, unkept=unkept)
    verdict.offences += contradictions
    return Judged(verdict, unanswered(ledger), unheard(ledger, logs, tops, unkept=unkept))


def _audit(findings: Sequence[Findings], seen: Verdict) -> Audit:
    faults = [fault for found in findings for fault in found.faults]
    return Audit(
        published=seen.acknowledged + seen.refused + seen.doubtful,
        acknowledged=seen.acknowledged,
        refused=seen.refused,
        doubtful=seen.doubtful,
        delivered=seen.deliveries,
        repeats=seen.repeats,
        twice=seen.twice,
        lost=seen.lost + seen.count("silent epoch", "vanished"),
        inverted=seen.count("inversion"),
        told={str(how): count for how, count in seen.tells.items()},
        offences=[*faults, *_first_of_each(seen)],
        clean=not seen.offences and not faults,
    )


def _first_of_each(seen: Verdict) -> list[str]:
    shown: list[str] = []
    for kind in dict.fromkeys(it.kind for it in seen.offences):
        of_kind = [it for it in seen.offences if it.kind == kind]
        shown += [str(it) for it in of_kind[:SHOWN]]
        if len(of_kind) > SHOWN:
            shown.append(f"... and {len(of_kind) - SHOWN} more of kind {kind!r}")
    return shown


def _histograms(findings: Sequence[Findings], judged: Judged) -> dict[str, Any]:
    missing = {"acknowledge": judged.unanswered, "delivery": judged.unheard}
    names = ("connect", "subscribe", "acknowledge", "delivery", "recover")
    found: dict[str, Percentiles] = {
        name: percentiles(merged(it.histograms.get(name, "") for it in findings), missing.get(name, 0))
        for name in names
    }
    return dict(found)


def _figures(findings: Sequence[Findings]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for found in findings:
        for name, value in found.figures.items():
            figures[name] = max(value, figures.get(name, value))
    return figures


def _remarks(told: Result, findings: Sequence[Findings], around: Circumstances) -> list[str]:
    remarks = [*around.remarks, *(it for found in findings for it in found.remarks)]
    starved = max((it.starved for it in told.generators), default=0.0)
    if starved > STARVED and not told.saturated:
        remarks.append(
            f"a process of the generator waited for a core {starved:.0%} of the time: the latencies hold that wait, too"
        )
    for name, it in (("publications", told.acknowledge), ("deliveries", told.delivery)):
        if it.missing:
            what = "were never answered" if it is told.acknowledge else "never came"
            remarks.append(
                f"{it.missing:,} of {it.count + it.missing:,} {name} that were due while measuring {what}: "
                "percentiles count them as later than everything"
            )
    if not around.measured:
        remarks.append("nothing was measured: the run ended before its measure phase")
    return list(dict.fromkeys(remarks))
