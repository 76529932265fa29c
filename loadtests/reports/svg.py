"""Makes of what matplotlib draws an SVG that follows the reader's light or dark screen and asks for no inline style."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Final
from warnings import catch_warnings, simplefilter
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from loadtests.reports.words import clean

PALETTE: Final[Mapping[str, tuple[str, str]]] = {  # on a light and on a dark ground
    "text": ("#1f2328", "#f0f6fc"),
    "soft": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#3d444d"),
    "shade": ("#eff2f5", "#1c2128"),
    "plain": ("#afb8c1", "#656c76"),
    "mark": ("#cf222e", "#f85149"),
    "blue": ("#0969da", "#4493f8"),
    "green": ("#1a7f37", "#3fb950"),
    "amber": ("#9a6700", "#d29922"),
    "purple": ("#8250df", "#ab7df8"),
    "pink": ("#bf3989", "#db61a2"),
    "teal": ("#1b7c83", "#39c5cf"),
}
LIGHT: Final[Mapping[str, str]] = {role: light for role, (light, _) in PALETTE.items()}
ROLES: Final[Mapping[str, str]] = {light: role for role, light in LIGHT.items()}
FONT: Final = "system-ui, sans-serif"
NAMESPACE: Final = "http://www.w3.org/2000/svg"
LONG: Final = re.compile(r"-?\d+\.\d{2,}")
LETTER: Final = {"fill": "f", "stroke": "s"}
KEPT: Final = {"fill", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-weight", "text-anchor"}
OPAQUE: Final = {"opacity", "fill-opacity", "stroke-opacity"}


def _rules(column: int) -> str:
    return " ".join(
        f".drawing .{letter}-{role} {{ {what}: {colours[column]} }}"
        for role, colours in PALETTE.items()
        for what, letter in LETTER.items()
    )


SHEET: Final = (
    f".drawing {{ font-family: {FONT} }} .drawing path {{ stroke-linejoin: round }} {_rules(0)} "
    f"@media screen and (prefers-color-scheme: dark) {{ {_rules(1)} }}"
)
"""The style inside each drawing, always the same text: a page can allow it by its digest. Paper is always light."""


def bare(drawing: str) -> str:
    """Return it without its style, for a page that has it."""
    return drawing.replace(f"<style>{SHEET}</style>", "")


def written(figure: Figure, told: str) -> str:
    """Return the figure as an SVG, the same text for the same figure; `told` is for who does not see it."""
    FigureCanvasSVG(figure)
    drawn = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": told}), catch_warnings():
        simplefilter("ignore")  # that matplotlib's own font lacks a letter: the reader's font shows it
        figure.savefig(drawn, format="svg", metadata=nothing, transparent=True)
    root = ET.fromstring(drawn.getvalue())  # noqa: S314 - matplotlib wrote it, and texts in it are clean
    for element in root.iter():
        _settle(element)
    _prune(root)
    root.attrib = {
        "xmlns": NAMESPACE,
        "class": "drawing",
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": clean(told),
    }
    ET.SubElement(root, "style").text = SHEET
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode") + "\n"


def _settle(element: ET.Element) -> None:
    """Turn the style into attributes and classes, and write numbers as short as can be seen."""
    element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    if element.tag != "clipPath":
        element.attrib.pop("id", None)
    element.attrib.pop("transform", None)  # nothing is turned: matplotlib writes rotations by 0
    style = dict(_declared(element.attrib.pop("style", "")))
    classes = [f"{letter}-{ROLES[style[what]]}" for what, letter in LETTER.items() if style.get(what) in ROLES]
    element.attrib.update({name: value for name, value in style.items() if name in KEPT | OPAQUE})
    if classes:
        element.attrib["class"] = " ".join(classes)
    for name in ("d", "x", "y", "width", "height", "stroke-dasharray"):
        if name in element.attrib:
            element.attrib[name] = " ".join(LONG.sub(_rounded, element.attrib[name]).split())


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _declared(style: str) -> Iterable[tuple[str, str]]:
    for it in style.split("; "):
        name, colon, value = it.partition(": ")
        if colon:
            yield name.strip(), value.strip()


def _prune(root: ET.Element) -> None:
    """Take away what shows nothing, and the sheet that matplotlib brings: it would speak to the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if not any(map(_shows, child.iter())):
                parent.remove(child)


def _shows(element: ET.Element) -> bool:
    if element.tag == "path":
        return element.attrib.get("fill") != "none" or "stroke" in element.attrib
    return element.tag in {"text", "rect"}
