"""Draws panels from what Prometheus answered, one SVG for all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from xml.etree import ElementTree as ET

from loadtests.dashboard.answers import Answered
from loadtests.reports.canvas import blank, write
from loadtests.reports.drawing import COLOURS, Line, Panel, Point, amount, course
from loadtests.reports.svg import NAMESPACE, SHEET, written
from loadtests.watching.exposition import quantile

COURSES: Final = {"timeseries", "heatmap"}
COLUMNS: Final = 2
WIDTH: Final = 430
SHARES: Final = (0.5, 0.9, 0.99)  # of a heatmap: an even line says more in print than a shade
LONG: Final = 10.0  # seconds
TILE: Final = 54  # height of the figures at the top
HEADING: Final = 34
UNITS: Final[Mapping[str, tuple[str, float]]] = {  # of Grafana's: what is written after the title, and times how many
    "short": ("", 1.0),
    "s": (", ms", 1000.0),
    "percentunit": (", %", 100.0),
    "bytes": (", MiB", 2.0**-20),
    "Bps": (", KiB/s", 2.0**-10),
}


def picture(answered: Sequence[Answered], marks: Mapping[str, float]) -> str:
    """Return all panels, row by row. `marks` are moments (Unix time) by what happened then, numbered from 1.

    Of what has more lines than there are colours, the highest are drawn; what was nothing all the time is left out.
    """
    told = "Grafana dashboard: " + "; ".join(f"{number} {it}" for number, it in enumerate(marks, 1))
    root = ET.Element("svg", {"xmlns": NAMESPACE, "class": "drawing", "role": "img", "aria-label": told})
    below = 0.0
    rows = defaultdict(list)
    for it in answered:
        rows[it.panel.row].append(it)
    for title, panels in rows.items():
        below += _put(root, _heading(title), 0.0, below)
        tiles = [it for it in panels if it.panel.kind == "stat"]
        if tiles:
            below += _put(root, _tiles(tiles), 0.0, below)
        drawn = [_course(it, marks) for it in panels if it.panel.kind in COURSES and _moves(it)]
        for start in range(0, len(drawn), COLUMNS):
            row = drawn[start : start + COLUMNS]
            below += max(_put(root, it, place * WIDTH, below) for place, it in enumerate(row))
    root.set("viewBox", f"0 0 {COLUMNS * WIDTH} {below:.0f}")
    ET.SubElement(root, "style").text = SHEET
    return ET.tostring(root, encoding="unicode") + "\n"


def lines(answered: Answered) -> list[Line]:
    """Return the lines of a panel, the highest first where they are too many; a heatmap's are percentiles."""
    factor = _unit(answered)[1]
    if answered.panel.kind == "heatmap":
        return list(_percentiles(answered, factor))
    found = [
        Line(
            it.query.name(series.labels), [(at - answered.begin, _number(value, factor)) for at, value in series.points]
        )
        for it in answered.answers
        for series in it.series
    ]
    found.sort(key=lambda it: -sum(value or 0.0 for _, value in it.points))
    return [it for it in found if any(value for _, value in it.points)][: len(COLOURS)] or found[:1]


# --- inside


def _moves(answered: Answered) -> bool:
    return any(value for it in lines(answered) for _, value in it.points)


def _put(root: ET.Element, drawing: str, x: float, y: float) -> float:
    """Put a drawing at a place in another; return its height."""
    part = ET.fromstring(drawing)  # noqa: S314 - we have just drawn it
    for element in part.iter():
        element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    for style in part.findall("style"):
        part.remove(style)
    _, _, width, height = part.attrib["viewBox"].split()
    label = part.attrib["aria-label"]
    part.attrib = {"x": f"{x:g}", "y": f"{y:g}", "width": width, "height": height, "aria-label": label}
    root.append(part)
    return float(height)


def _heading(title: str) -> str:
    figure = blank(COLUMNS * WIDTH, HEADING)
    write(figure, 4, HEADING - 8, title, role="text", weight="bold", letters=15)
    return written(figure, f"Row {title}")


def _tiles(panels: Sequence[Answered]) -> str:
    figure = blank(COLUMNS * WIDTH, TILE)
    said = {it.panel.title: _figures(it) for it in panels}
    letters = sum(max(len(title), 2 * len(text)) + 2 for title, text in said.items())
    x = 4.0
    for title, text in said.items():
        write(figure, x, 18, title, role="soft", letters=10)
        write(figure, x, 42, text, role="green", weight="bold", letters=16)
        x += (max(len(title), 2 * len(text)) + 2) / letters * COLUMNS * WIDTH
    return written(figure, ", ".join(f"{title} {text}" for title, text in said.items()))


def _figures(answered: Answered) -> str:
    unit, factor = UNITS[answered.panel.unit]
    values = [amount(it.points[0][1] * factor) for answer in answered.answers for it in answer.series]
    return f"{' / '.join(values)}{unit.removeprefix(',')}"


def _course(answered: Answered, marks: Mapping[str, float]) -> str:
    panel = answered.panel
    found = lines(answered)
    only = f": {found[0].name}" if len(found) == 1 and len(answered.answers[0].series) > 1 else ""
    title = f"{panel.title}{_unit(answered)[0]}{only}"
    drawn = Panel(title=title, lines=found, least=1e-3)
    begin, end = answered.begin, answered.end
    at = [moment - begin for moment in marks.values()]
    told = f"{panel.row}: {title}: {', '.join(it.name for it in drawn.lines)}"
    return course([drawn], seconds=end - begin, told=told, marks=at, width=WIDTH)


def _unit(answered: Answered) -> tuple[str, float]:
    """Return what is written after the title, and times how many; what takes long is not told in milliseconds."""
    unit = answered.panel.unit
    found = [it for answer in answered.answers for it in answer.series]
    bounds = [float(it.labels["le"]) for it in found if "le" in it.labels]
    high = max(filter(math.isfinite, bounds or [value for it in found for _, value in it.points]), default=0.0)
    return (", s", 1.0) if unit == "s" and high > LONG else UNITS[unit]


def _percentiles(answered: Answered, factor: float) -> Iterator[Line]:
    buckets: dict[float, dict[float, float]] = defaultdict(dict)
    for answer in answered.answers:
        for series in answer.series:
            for at, value in series.points:
                buckets[at][float(series.labels["le"])] = value
    for share in SHARES:
        points: list[Point] = [
            (at - answered.begin, factor * quantile(found, share) if max(found.values()) > 0 else None)
            for at, found in sorted(buckets.items())
        ]
        yield Line(f"p{100 * share:g}", points)


def _number(value: float, factor: float) -> float | None:
    return None if math.isnan(value) or math.isinf(value) else value * factor
