"""Draws: values over time, the tail of latencies, bars with their spread; SVG, for light and dark screens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil, floor, log10
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from loadtests.reports.canvas import SMALL, blank, plot, size, write
from loadtests.reports.svg import LIGHT, written
from loadtests.reports.words import clean

WIDE, NARROW = 860, 420
LEFT, RIGHT, FOOT = 56, 16, 26  # around a plot
HEAD, ROW = 26, 17  # its title, and a row of its legend
HEIGHT: Final = 130  # of a plot
MARKS: Final = 22  # above the first plot, for the numbers of marks
POINTS: Final = 300  # of a line; more cannot be seen
ROOM: Final = 0.04  # above and below an axis: a line at its end is as wide as another
STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
TIMES: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
COLOURS: Final = ("blue", "green", "amber", "purple", "pink", "teal")
LOG_FROM: Final = 30.0  # times between the least and the highest: on an even axis, the least would be lost
LETTER: Final = 6.2  # width of one at SIZE: the reader's font is not known here
LONGEST: Final = 34  # letters of a name
MOST_DECADES: Final = 6  # with a label below a tail
BAR: Final = 26  # height of a bar with its gap

DASH: Final = 0.2  # seconds to both sides of a point that stands alone
Point = tuple[float, float | None]
"""Where, and a value; None: there was none, the line is broken."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel. `peaks`: where it has too many points, the highest of neighbours stands for them."""

    name: str
    points: Sequence[Point]
    peaks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines over the same axis, which begins at nothing, or is logarithmic if it may and what it shows is far apart."""

    title: str
    lines: Sequence[Line]
    may_be_log: bool = False
    least: float = 1.0  # where an even axis ends at least


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the time, shaded."""

    name: str
    begins: float
    ends: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row: the median of several runs, and the lowest and highest of them."""

    name: str
    median: float
    low: float
    high: float
    emphasis: bool = False


def course(
    panels: Sequence[Panel],
    *,
    seconds: float,
    told: str,
    spans: Sequence[Span] = (),
    marks: Sequence[float] = (),
    width: int = WIDE,
) -> str:
    """Return panels below each other, over the same time; `marks` are moments, numbered from 1."""
    tops: list[float] = []
    below = float(MARKS if marks else 0)
    for panel in panels:
        below += _head(panel.lines, width)
        tops.append(below)
        below += HEIGHT + FOOT
    figure = blank(width, below)
    for panel, top in zip(panels, tops, strict=True):
        axes = plot(figure, top, HEIGHT, left=LEFT, right=RIGHT)
        _title(figure, panel.title, panel.lines, top)
        _scale(axes, panel)
        _shade(axes, spans, seconds, width)
        _lines(axes, panel)
        _clock(axes, seconds, width)
        for at in marks:
            axes.axvline(at, color=LIGHT["mark"], linewidth=1, alpha=0.55, dashes=(2, 3))
    for number, at in enumerate(marks, 1):
        x = LEFT + at / seconds * (width - LEFT - RIGHT)
        write(figure, x, MARKS - 8, str(number), role="mark", anchor="center", letters=SMALL)
    return written(figure, told)


def tail(title: str, lines: Sequence[Line], *, told: str, width: int = WIDE) -> str:
    """Return values by percentile; a point is 1 / (1 - q) and the value below which the share q of all lies."""
    panel = Panel(title=title, lines=lines, may_be_log=True)
    top = _head(lines, width)
    figure = blank(width, top + HEIGHT + FOOT)
    axes = plot(figure, top, HEIGHT, left=LEFT, right=RIGHT)
    _title(figure, title, lines, top)
    _scale(axes, panel)
    _lines(axes, panel)
    last = max((x for it in lines for x, _ in it.points), default=10.0)
    axes.set_xscale("log")
    axes.set_xlim(1.0, max(10.0, last))
    decades = floor(log10(max(10.0, last)))
    marks = [2.0, *(10.0**it for it in range(1, decades + 1, ceil(decades / MOST_DECADES)))]
    axes.xaxis.set_major_locator(FixedLocator(marks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{100 - 100 / it:.8g} %" for it in marks])
    _keep_inside(axes)
    return written(figure, told)


def bars(title: str, rows: Sequence[Bar], unit: str, *, width: int = WIDE) -> str:
    """Return a bar for each row, in their order, with a whisker from the lowest to the highest and the median in words.

    `unit` follows the title, if there is one; all values count from 0.
    """
    left = max((len(_short(it.name)) for it in rows), default=0) * LETTER + 14
    top = max((max(it.high, it.median) for it in rows), default=0.0) or 1.0
    worded = max((len(amount(it.median)) for it in rows), default=0) * LETTER + 12
    height = len(rows) * BAR
    figure = blank(width, HEAD + height + 10)
    headed = f"{title}, {unit}" if unit else title
    write(figure, 4, HEAD - 9, headed, role="text", weight="bold")
    axes = plot(figure, HEAD, height or 1, left=left, right=worded)
    axes.set(xlim=(0, top), ylim=(max(1, len(rows)) - 0.5, -0.5))
    axes.set_axis_off()
    for at, row in enumerate(rows):
        _bar(axes, at, row)
        y = HEAD + at * BAR + BAR / 2 + 4
        role, weight = ("text", "bold") if row.emphasis else ("text", "normal")
        write(figure, left - 10, y, _short(row.name), role=role, weight=weight, anchor="right")
        x = left + max(row.high, row.median) / top * (width - left - worded) + 8
        write(figure, x, y, amount(row.median), role=role, weight=weight)
    values = "; ".join(f"{it.name} {amount(it.median)} ({amount(it.low)} to {amount(it.high)})" for it in rows)
    return written(figure, f"{headed}: {values}")


def thinned(points: Sequence[Point], *, peaks: bool = False) -> Sequence[Point]:
    """Return at most `POINTS` means, or peaks, of neighbours; a gap stays one, but no peak falls into it."""
    size = max(1, ceil(len(points) / POINTS))
    thin: list[Point] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        values = [value for _, value in group if value is not None]
        gap = not values or (len(values) < len(group) and not peaks)
        thin.append((group[0][0], None if gap else max(values) if peaks else sum(values) / len(values)))
    return thin


def lone(points: Sequence[Point]) -> Sequence[tuple[float, float]]:
    """Return those that have no neighbour, of which a line alone would show nothing: a second between two stalls."""
    values = [None, *(value for _, value in points), None]
    around = zip(values, points, values[2:], strict=False)
    return [(at, value) for before, (at, value), after in around if value is not None and before is after is None]


def rounded_up(value: float) -> float:
    """Return the next number that reads well on an axis."""
    unit = 10.0 ** floor(log10(value))
    return next(step * unit for step in STEPS if step * unit >= value * (1 - 1e-9))


def amount(value: float) -> str:
    """Return a number as short as it reads well: `0.25`, `1,250`, `12.5 M`."""
    for unit, name in ((1e9, " G"), (1e6, " M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- inside


def _rows(lines: Sequence[Line], width: float) -> list[list[tuple[float, int]]]:
    """Return the rows of the legend: where the name of which line stands."""
    rows: list[list[tuple[float, int]]] = [[]]
    x = float(LEFT)
    for index, line in enumerate(lines if len(lines) > 1 else ()):
        needed = 20 + len(_short(line.name)) * LETTER + 12
        if rows[-1] and x + needed > width:
            rows.append([])
            x = float(LEFT)
        rows[-1].append((x, index))
        x += needed
    return [it for it in rows if it]


def _head(lines: Sequence[Line], width: float) -> float:
    return HEAD + ROW * len(_rows(lines, width))


def _title(figure: Figure, title: str, lines: Sequence[Line], top: float) -> None:
    rows = _rows(lines, size(figure)[0])
    write(figure, LEFT, top - 9 - ROW * len(rows), title, role="text", weight="bold")
    for number, row in enumerate(rows):
        y = top - 9 - ROW * (len(rows) - 1 - number)
        for x, index in row:
            colour = COLOURS[index % len(COLOURS)]
            write(figure, x, y, "\u25cf", role=colour)  # a disc
            write(figure, x + 14, y, _short(lines[index].name), role="soft")


def _scale(axes: Axes, panel: Panel) -> None:
    values = [value for it in panel.lines for _, value in it.points if value is not None]
    high = max(values, default=0.0)
    low = min((it for it in values if it > 0), default=high)
    if panel.may_be_log and low > 0 and high / low >= LOG_FROM:
        first, last = floor(log10(low)), ceil(log10(high))
        ticks = [10.0**it for it in range(first, last + 1)]
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(ticks[0] / (1 + ROOM), ticks[-1] * (1 + ROOM))
    else:
        top = rounded_up(max(high, panel.least))
        ticks = [0.0, top / 2, top]
        axes.set_ylim(-ROOM / 2 * top, (1 + ROOM) * top)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([amount(it) for it in ticks])


def _lines(axes: Axes, panel: Panel) -> None:
    for line, colour in zip(panel.lines, cycle(COLOURS), strict=False):
        thin = thinned(line.points, peaks=line.peaks)
        values = [float("nan") if value is None else value for _, value in thin]
        axes.plot([x for x, _ in thin], values, color=LIGHT[colour], linewidth=1.5)
        for at, value in lone(thin):
            axes.plot([at - DASH, at + DASH], [value, value], color=LIGHT[colour], linewidth=4)


def _shade(axes: Axes, spans: Iterable[Span], seconds: float, width: int) -> None:
    for span in spans:
        axes.axvspan(span.begins, span.ends, facecolor=LIGHT["shade"], edgecolor="none", zorder=0)
        room = (span.ends - span.begins) / seconds * (width - LEFT - RIGHT)
        if room > (len(span.name) + 1) * LETTER:
            axes.text(
                (span.begins + span.ends) / 2,
                0.93,
                clean(span.name),
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="top",
                color=LIGHT["soft"],
                fontsize=SMALL,
                parse_math=False,
            )


def _clock(axes: Axes, seconds: float, width: int) -> None:
    step = next((it for it in TIMES if seconds / it <= width / 60), TIMES[-1])
    unit, name = (1, "s") if step < 60 else (60, "min") if step < 3600 else (3600, "h")
    ticks = range(0, int(seconds) + 1, step)
    axes.set_xlim(0.0, seconds)
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.set_xticklabels([f"{at / unit:g}" if at else f"0 {name}" for at in ticks])
    _keep_inside(axes)


def _keep_inside(axes: Axes) -> None:
    """Let the outer labels of the lower axis end where the plot does."""
    first, last = axes.get_xlim()
    for label, at in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True):
        if at == first:
            label.set_horizontalalignment("left")
        elif at > first * (last / first) ** 0.97 if first > 0 else at > 0.97 * last:
            label.set_horizontalalignment("right")


def _bar(axes: Axes, at: int, row: Bar) -> None:
    colour = LIGHT["blue" if row.emphasis else "plain"]
    axes.barh(at, row.median, height=0.62, color=colour)
    if row.low < row.high:
        axes.plot([row.low, row.high], [at, at], color=LIGHT["text"], linewidth=1.2, clip_on=False)
        for it in (row.low, row.high):
            axes.plot([it, it], [at - 0.16, at + 0.16], color=LIGHT["text"], linewidth=1.2, clip_on=False)


def _short(name: str) -> str:
    """Leave out the middle: addresses differ in their end."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}\u2026{name[1 - half :]}"
