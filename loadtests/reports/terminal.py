"""Shows a run on the terminal: the same as the page and in its order, without the drawings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from loadtests.kit.result import Result
from loadtests.reports.content import Content, content
from loadtests.reports.verdict import Verdict
from loadtests.reports.words import clean

COLOURS: Final[Mapping[str, str]] = {"passed": "green", "failed": "red", "void": "yellow"}


def show(result: Result, console: Console | None = None) -> None:
    """Print the report; plain where nobody looks, fit for 80 columns, and no text of a run is more than text."""
    console = console or Console(highlight=False)
    told = content(result)
    _line(console, f"{told.title}: {told.about}" if told.about else told.title, "bold")
    _judge(console, told.verdict)
    for it in told.remarks:
        _point(console, it, "Note:")
    _key(console, told)
    for table in told.tables:
        _line(console)
        _line(console, f"{table.title} ({table.note})" if table.note else table.title, "bold")
        console.print(_grid(table.head, table.rows, words=table.words, drawn=console.is_terminal))
    _circumstances(console, told)


# --- inside


def _line(console: Console, text: str = "", style: str = "") -> None:
    console.print(Text(clean(text), style=style))


def _point(console: Console, text: str, mark: str = "-") -> None:
    grid = Grid.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark), Text(clean(text)))
    console.print(grid)


def _judge(console: Console, it: Verdict) -> None:
    _line(console, it.headline, f"bold {COLOURS[it.kind]}")
    for point in it.points:
        _point(console, point)
    if it.advice:
        _line(console, "What to do:")
    for step in it.advice:
        _point(console, step)


def _key(console: Console, told: Content) -> None:
    if told.key:
        _line(console)
        rows = [(it.label, it.value, it.note) for it in told.key]
        console.print(_grid(("", "", ""), rows, words=1, drawn=False, notes=True))


def _grid(
    head: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    words: int,
    drawn: bool,
    notes: bool = False,
) -> Grid:
    """Return a table; `notes`: its last column is words, too, and there is no head."""
    names = list(head)
    grid = Grid(
        box=box.SIMPLE_HEAD if drawn else None,
        show_edge=False,
        pad_edge=False,
        show_header=not notes,
        header_style="dim",
        padding=(0, 1),
    )
    for at, name in enumerate(names):
        right = at >= words and not (notes and at == len(names) - 1)
        grid.add_column(Text(name), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        grid.add_row(*(Text(clean(it)) for it in row))
    return grid


def _circumstances(console: Console, told: Content) -> None:
    _line(console)
    _line(console, "Profile as played", "bold")
    _line(console, "  ".join(f"{name}={value}" for name, value in told.profile))
    _line(console)
    for name, value in told.facts:
        _point(console, value, f"{name:<10}")
    _line(console)
    console.print(Text(f"Again: {clean(told.command)}"), soft_wrap=True)
