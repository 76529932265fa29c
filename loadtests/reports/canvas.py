"""An empty figure, plots on it, and words at points of it, in units of the SVG that it becomes."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.reports.svg import LIGHT
from loadtests.reports.words import clean

SIZE: Final = 11.0  # of letters
SMALL: Final = 10.0
UNITS: Final = 72  # in an inch: one is a point, and a pixel of the SVG


def blank(width: float, height: float) -> Figure:
    """Return a figure of this size with nothing on it."""
    return Figure(figsize=(width / UNITS, height / UNITS), dpi=UNITS)


def size(figure: Figure) -> tuple[float, float]:
    """Return its width and height."""
    width, height = figure.get_size_inches() * UNITS
    return float(width), float(height)


def plot(figure: Figure, top: float, height: float, *, left: float, right: float) -> Axes:
    """Return an empty plot whose upper edge is so far from the figure's."""
    width, whole = size(figure)
    axes = figure.add_axes((left / width, 1 - (top + height) / whole, (width - left - right) / width, height / whole))
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(which="both", length=0, labelsize=SMALL, labelcolor=LIGHT["soft"], pad=6)
    axes.grid(axis="y", color=LIGHT["grid"], linewidth=1, clip_on=False)
    axes.set_axisbelow(True)
    return axes


def write(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    *,
    role: str,
    anchor: str = "left",
    weight: str = "normal",
    letters: float = SIZE,
) -> None:
    """Put a text at a point counted from the upper left."""
    width, height = size(figure)
    figure.text(
        x / width,
        1 - y / height,
        clean(text),
        color=LIGHT[role],
        ha=anchor,
        va="baseline",
        fontweight=weight,
        fontsize=letters,
        parse_math=False,
    )
