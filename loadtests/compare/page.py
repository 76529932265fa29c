"""Writes a comparison into docs/performance.md, between two marks, with its pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from loadtests.bench.figures import Figure
from loadtests.compare.contestants import OURS
from loadtests.compare.outcome import ACCEPTS, EIGHT, MEMORY, ONE, Comparison, Entrant, Measure
from loadtests.reports.drawing import Bar, bars

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
PAGE: Final = DOCS / "performance.md"
IMAGES: Final = "images"  # beside the page
BEGIN: Final = "<!-- compare:begin -->"
END: Final = "<!-- compare:end -->"
COLUMNS: Final = (ONE, EIGHT, MEMORY, ACCEPTS)
PICTURES: Final[Mapping[Measure, tuple[str, str]]] = {
    ONE: ("performance-compare.svg", "Deliveries, one publication in flight"),
    EIGHT: ("performance-compare-8.svg", "Deliveries, 8 publications in flight"),
    MEMORY: ("performance-compare-memory.svg", "Memory per idle connection"),
}


def pictures(comparison: Comparison) -> dict[str, str]:
    """Return SVG texts by the names of their files; what is no figure is not drawn."""
    drawn = {}
    for measure, (file, title) in PICTURES.items():
        rows = [_bar(it, made) for it, made in _ranked(comparison, measure) if not made.void]
        if rows:
            drawn[file] = bars(title, rows, measure.unit)
    return drawn


def _ranked(comparison: Comparison, measure: Measure) -> list[tuple[Entrant, Figure]]:
    made = [(it, figure) for it in comparison.entrants if (figure := comparison.figure(it, measure))]
    return sorted(made, key=lambda pair: pair[1].median, reverse=not measure.least)


def _bar(entrant: Entrant, figure: Figure) -> Bar:
    runs = figure.runs
    return Bar(name=entrant.title, median=figure.median, low=min(runs), high=max(runs), emphasis=entrant.name == OURS)


def section(comparison: Comparison, drawn: Mapping[str, str], folder: str = "") -> str:
    """Return the generated part of the page, marks excluded; `folder`: of the pictures, as the page sees it."""
    shown = _shown(drawn, folder)
    return "\n".join((*_conditions(comparison), "", *_table(comparison), "", *shown, *_entrants(comparison)))


def _conditions(comparison: Comparison) -> Iterator[str]:
    machine = comparison.machine
    yield (
        f"Measured {comparison.started[:10]} on {machine.model}, {machine.cores} cores, "
        f"{machine.memory / 2**30:.0f} GiB, {machine.system}, {machine.python}, {comparison.engine}, by"
    )
    yield f"`{comparison.command}`. {comparison.subscribers:,} subscribers of one channel, 100 bytes of data."
    yield "Medians, in brackets how far apart the runs lie; a figure whose runs are more than 15 % apart is none."


def _table(comparison: Comparison) -> Iterator[str]:
    yield "| server | " + " | ".join(f"{it.title}, {it.unit}" for it in COLUMNS) + " |"
    yield "| --- |" + " ---: |" * len(COLUMNS)
    ranked = [it for it, _ in _ranked(comparison, ONE)] or comparison.entrants
    for entrant in ranked:
        cells = (_cell(comparison, entrant, measure) for measure in COLUMNS)
        title = f"**{entrant.title}**" if entrant.name == OURS else entrant.title
        yield f"| {title} | " + " | ".join(cells) + " |"


def _cell(comparison: Comparison, entrant: Entrant, measure: Measure) -> str:
    figure = comparison.figure(entrant, measure)
    if figure is None:
        return ""
    if figure.void:
        return f"none: {figure.void}"
    number = f"{figure.median:,.0f}" if figure.median >= 100 else f"{figure.median:.1f}"
    ratio = comparison.ratio(entrant, measure)
    share = f" = {ratio.median:.2f} x C loop" if ratio and not ratio.void else ""
    return f"{number} ({figure.spread:.0%}){share}"


def _shown(drawn: Mapping[str, str], folder: str) -> Iterator[str]:
    for file, title in PICTURES.values():
        if file in drawn:
            yield f"![{title}]({folder}{file})"
            yield ""


def _entrants(comparison: Comparison) -> Iterator[str]:
    for it in comparison.entrants:
        versions = ", ".join(f"{name} {version}" for name, version in it.versions.items())
        yield f"- {it.title}: {it.remark} ({versions})."
    for title, why in comparison.left_out.items():
        yield f"- {title} was left out: {why}."


def inserted(page: str, text: str) -> str:
    """Return the page with its generated part replaced. Raises ValueError: it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} with an {END} after it")
    return f"{before}{BEGIN}\n{text.strip()}\n{END}{after}"


def write_docs(comparison: Comparison, page: Path = PAGE) -> list[Path]:
    """Write the page's part and the pictures beside it; return what was written. Raises ValueError, OSError."""
    drawn = pictures(comparison)
    changed = inserted(page.read_text(encoding="utf-8"), section(comparison, drawn, f"{IMAGES}/"))
    page.write_text(changed, encoding="utf-8")
    return [page, *_save(drawn, page.parent / IMAGES)]


def write_report(comparison: Comparison, text: bytes, folder: Path) -> list[Path]:
    """Write JSON, table and pictures into a folder of their own; return what was written. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = pictures(comparison)
    data, table = folder / "compare.json", folder / "compare.md"
    data.write_bytes(text)
    table.write_text(section(comparison, drawn) + "\n", encoding="utf-8")
    return [data, table, *_save(drawn, folder)]


def _save(drawn: Mapping[str, str], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for file, svg in drawn.items():
        (folder / file).write_text(svg, encoding="utf-8")
    return [folder / it for it in drawn]
