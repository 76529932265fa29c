"""What is drawn of a run: its course second by second, the tail of its latencies, how connections ended."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import ceil, log10
from typing import Final

from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

from loadtests.kit.result import NodeSample, Percentiles, Result, Second
from loadtests.reports import words
from loadtests.reports.drawing import NARROW, Bar, Line, Panel, Point, Span, bars, course, tail
from loadtests.reports.tables import KINDS, by_node

MOST: Final = 5  # lines of nodes; of more, the highest are drawn and the others are one
STEPS: Final = 20  # points of a tail in each power of ten
MIB: Final = 1 << 20
WAITED: Final = 0.05  # share of a second that a generator waited for a core, from which on it is drawn
DAMAGED: Final = (HdrCookieException, HdrLengthException, zlib.error, ValueError)


def drawings(result: Result, *, void: bool) -> list[str]:
    """Return SVGs in the order in which they are read; `void`: without rates and latencies."""
    seconds = float(max((it.at for it in result.seconds), default=0) + 1)
    spans = [it for it in phases(result.seconds) if it.name != "measure"]
    shown = [*(() if void else _clients(result)), *_cost(result, void=void), *_ends(result.seconds)]
    drawn = [course([it], seconds=seconds, told=_told(it), spans=spans, width=NARROW) for it in shown]
    tails = [] if void else [Line(kind, found) for kind in KINDS if (found := by_percentile(getattr(result, kind)))]
    if tails:
        at = next((at + 1 for at, it in enumerate(shown) if it.title.startswith("latency")), 0)
        told = f"Latency by percentile: {', '.join(it.name for it in tails)}"
        drawn.insert(at, tail("latency by percentile, ms", tails, told=told, width=NARROW))
    if result.closes:
        rows = [Bar(name=code, median=count, low=count, high=count) for code, count in sorted(result.closes.items())]
        drawn.append(bars("closes by code", rows, "", width=NARROW))
    return drawn


def phases(seconds: Sequence[Second]) -> list[Span]:
    """Return when which phase was."""
    spans = []
    for name, group in groupby(seconds, key=lambda it: it.phase):
        those = list(group)
        spans.append(Span(name, float(those[0].at), float(those[-1].at + 1)))
    return spans


def by_percentile(it: Percentiles) -> list[Point]:
    """Return 1 / (1 - q) and the value (ms) below which the share q of all lies, for many q.

    Without a histogram, or with one that is damaged, for the five that are known. What never came is part of all: the
    course ends before it.
    """
    if not it.count:
        return []
    if not it.hdr:
        return _known(it)
    try:
        whole = HdrHistogram.decode(it.hdr)
    except DAMAGED:
        return _known(it)
    total = it.count + it.missing
    last = ceil(log10(total) * STEPS)
    all_shares = {10 ** (step / STEPS): 100 - 100 / 10 ** (step / STEPS) for step in range(last)}
    shares = {x: of * total / it.count for x, of in all_shares.items() if of * total <= 100 * it.count}
    values = whole.get_percentile_to_value_dict(list(shares.values()))
    return [*((x, values[share] / 1000) for x, share in shares.items()), *_last(it)]


# --- inside


def _known(it: Percentiles) -> list[Point]:
    known = ((2.0, it.p50), (10.0, it.p90), (100.0, it.p99), (1000.0, it.p999))
    return [*((x, value) for x, value in known if value is not None and x <= it.count), *_last(it)]


def _last(it: Percentiles) -> list[Point]:
    return [] if it.max is None else [(float(it.count), it.max)]


def _told(panel: Panel) -> str:
    return f"{panel.title}, over time: {', '.join(it.name for it in panel.lines)}"


def _clients(result: Result) -> Iterator[Panel]:
    seconds = result.seconds
    if any(it.delivered for it in seconds):
        yield Panel(title="deliveries a second", lines=[_line("delivered", seconds, lambda it: it.delivered)])
    if any(it.published for it in seconds):
        lines = [
            _line("published", seconds, lambda it: it.published),
            _line("acknowledged", seconds, lambda it: it.acknowledged),
        ]
        yield Panel(title="publications a second", lines=lines)
    if any(it.delivery.count for it in seconds):
        lines = [
            _line("p50", seconds, lambda it: it.delivery.p50 if it.delivery.count else None),
            _line("p99", seconds, lambda it: it.delivery.p99 if it.delivery.count else None, peaks=True),
            _line("max", seconds, lambda it: it.delivery.max if it.delivery.count else None, peaks=True),
        ]
        yield Panel(title="latency of delivery, ms", lines=lines, may_be_log=True)


def _cost(result: Result, *, void: bool) -> Iterator[Panel]:
    busiest = _line("busiest generator process", result.seconds, lambda it: it.busy)
    lines = [*_nodes(result, lambda it: it.cpu), busiest]
    if any(it.starved > WAITED for it in result.seconds):
        lines.append(_line("the same, waiting for a core", result.seconds, lambda it: it.starved))
    yield Panel(title="CPU, share of a core", lines=lines)
    if result.nodes:
        yield Panel(title="resident memory, MiB", lines=_nodes(result, lambda it: it.resident / MIB))
        if not void:
            lags = _nodes(result, lambda it: it.lag)
            yield Panel(title="loop lag of the nodes, p99, ms", lines=lags, may_be_log=True)
    connected = _line("clients", result.seconds, lambda it: it.connected)
    yield Panel(title="connections", lines=[connected, *_nodes(result, lambda it: it.connections)])
    if any(it.queue for it in result.nodes):
        yield Panel(title="waiting for slow clients, MiB", lines=_nodes(result, lambda it: it.queue / MIB))
    if any(it.slow for it in result.nodes):
        yield Panel(title="closed for not reading, a second", lines=_nodes(result, lambda it: it.slow))


def _ends(seconds: Sequence[Second]) -> Iterator[Panel]:
    if any(it.closes or it.errors for it in seconds):
        lines = [
            _line("closes", seconds, lambda it: it.closes, peaks=True),
            _line("errors", seconds, lambda it: it.errors, peaks=True),
        ]
        yield Panel(title="closes and errors a second", lines=lines)


def _line(name: str, seconds: Sequence[Second], of: Callable[[Second], float | None], *, peaks: bool = False) -> Line:
    return Line(name, [(float(it.at), of(it)) for it in seconds], peaks)


def _nodes(result: Result, of: Callable[[NodeSample], float]) -> list[Line]:
    """Return a line for each node, or for those with the highest peaks and the mean of all others."""
    courses = {words.address(name): samples for name, samples in by_node(result.nodes).items()}
    drawn = sorted(courses, key=lambda name: -max(map(of, courses[name])))[: MOST - 1 if len(courses) > MOST else MOST]
    lines = [Line(name, [(it.at, of(it)) for it in courses[name]], peaks=True) for name in sorted(drawn)]
    if others := [courses[name] for name in courses if name not in drawn]:
        points = [(these[0].at, sum(map(of, these)) / len(these)) for these in zip(*others, strict=False)]
        lines.append(Line(f"mean of {len(others)} others", points))
    return lines
