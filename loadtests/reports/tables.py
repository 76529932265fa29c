"""The tables of a report: latencies, audit, closes, refusals, generator, nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import groupby
from typing import Final

from gateway.disconnects import DISCONNECTS
from gateway.errors import ERRORS
from loadtests.kit.expectations import measured
from loadtests.kit.result import NodeSample, Percentiles, Result
from loadtests.reports import words

KINDS: Final = ("delivery", "acknowledge", "connect", "subscribe", "recover")
UNTOLD: Final[Mapping[str, str]] = {"1000": "normal", "1001": "going away", "1005": "no code", "1006": "no close frame"}
LATENCIES: Final = "milliseconds; delivery and acknowledge count from when the publication was due"
MISSING: Final = "; what never came is later than everything"
AUDIT: Final = "of the whole run; lost: never delivered, and nobody was told"
GENERATORS: Final = "shares of a core while measuring; waited: share of the time in which it had none"
NODES: Final = "while measuring, as /metrics tells; slow: clients closed for not reading, in the whole run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head; the first `words` columns are words, the others numbers."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""
    words: int = 1


def tables(result: Result, *, void: bool) -> Iterator[Table]:
    """Yield those that have rows, in the order in which they are read; `void`: without latencies of the clients."""
    found = (
        *(() if void else (latencies(result),)),
        audit(result),
        closes(result),
        refusals(result),
        generators(result),
        nodes(result, void=void),
    )
    return (it for it in found if it.rows)


def latencies(result: Result) -> Table:
    """Return the percentiles of each kind that happened."""
    found: dict[str, Percentiles] = {it: getattr(result, it) for it in KINDS}
    missing = any(it.missing for it in found.values())
    head = ("latency", "count", *(("never",) * missing), "p50", "p90", "p99", "p99.9", "max")
    rows = [_percentiles(kind, it, missing=missing) for kind, it in found.items() if it.count or it.missing]
    return Table(title="Latency", head=head, rows=rows, note=LATENCIES + MISSING * missing)


def audit(result: Result) -> Table:
    """Return what the oracle found."""
    it = result.audit
    counts = {
        "published": it.published,
        "acknowledged": it.acknowledged,
        "refused": it.refused,
        "in doubt: no answer came": it.doubtful,
        "delivered": it.delivered,
        "delivered again": it.repeats,
        "delivered twice to one subscription": it.twice,
        "lost": it.lost,
        "out of order": it.inverted,
        **{f"told: {how}": count for how, count in sorted(it.told.items())},
    }
    rows: list[Sequence[str]] = [("verdict", "clean" if it.clean else "BROKEN")]
    rows += [(name, words.count(count)) for name, count in counts.items()]
    return Table(title="Audit", head=("of publications", ""), rows=rows, note=AUDIT)


def closes(result: Result) -> Table:
    """Return how connections ended against the clients' will."""
    meanings = {**UNTOLD, **{str(it.code): it.reason for it in DISCONNECTS}}
    return Table(title="Closes", head=("code", "meaning", "count"), rows=_counted(result.closes, meanings), words=2)


def refusals(result: Result) -> Table:
    """Return how handshakes and commands were refused."""
    statuses = {str(it.value): f"HTTP: {it.phrase.lower()}" for it in HTTPStatus}
    meanings = {**statuses, **{str(it.code): it.message for it in ERRORS}}
    head = ("refusal", "meaning", "count")
    return Table(title="Refusals", head=head, rows=_counted(result.refusals, meanings), words=2)


def nodes(result: Result, *, void: bool = False) -> Table:
    """Return what each node cost while measuring; its lag is a latency, too."""
    head = ("node", "CPU", "peak", "memory", "growth", "clients", "slow", "lag p99")
    slow = {name: sum(it.slow for it in samples) for name, samples in by_node(result.nodes).items()}
    courses = by_node(measured(result)).items()
    rows = [_node(name, samples, slow=slow[name], void=void) for name, samples in courses]
    return Table(title="Nodes", head=head, rows=rows, note=NODES)


def generators(result: Result) -> Table:
    """Return what the generator itself cost."""
    head = ("process", "connections", "CPU", "peak", "waited", "loop lag p99")
    rows: list[Sequence[str]] = [
        (
            str(it.process),
            words.count(it.connections),
            words.share(it.mean),
            words.share(it.peak),
            words.share(it.starved),
            words.latency(it.lag),
        )
        for it in result.generators
    ]
    return Table(title="Generator", head=head, rows=rows, note=GENERATORS)


def by_node(samples: Sequence[NodeSample]) -> dict[str, list[NodeSample]]:
    """Return the samples of each node in the order of time, nodes by name."""
    ordered = sorted(samples, key=lambda it: (it.node, it.at))
    return {name: list(group) for name, group in groupby(ordered, key=lambda it: it.node)}


# --- inside


def _percentiles(kind: str, it: Percentiles, *, missing: bool) -> Sequence[str]:
    values = (it.p50, it.p90, it.p99, it.p999, it.max)
    never = (words.count(it.missing),) if missing else ()
    return (kind, words.count(it.count), *never, *(words.latency(value).removesuffix(" ms") for value in values))


def _counted(counts: Mapping[str, int], meanings: Mapping[str, str]) -> list[Sequence[str]]:
    ordered = sorted(counts.items(), key=lambda it: (-it[1], it[0]))
    return [(code, meanings.get(code, ""), words.count(count)) for code, count in ordered]


def _node(name: str, samples: Sequence[NodeSample], *, slow: int, void: bool) -> Sequence[str]:
    first, last = samples[0], samples[-1]
    return (
        words.address(name),
        words.share(sum(it.cpu for it in samples) / len(samples)),
        words.share(max(it.cpu for it in samples)),
        words.size(last.resident),
        words.size(last.resident - first.resident),
        words.count(max(it.connections for it in samples)),
        words.count(slow),
        "-" if void else words.latency(max(it.lag for it in samples)),
    )
