"""What a run leaves behind: a table on the terminal, JSON and a page in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from loadtests.kit.merging import MergeError, together
from loadtests.kit.result import Result
from loadtests.kit.target import TargetError
from loadtests.reports import terminal, writing

FOLDER: Final = Path("load-reports")  # for those who name none; git ignores it
PRINTED: Final = Path("-")  # /dev/stdout cannot be opened by whoever did not open it, as the user of a container
NO_PAGE: Final = "matplotlib or jinja2 is not installed here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where results go; None: nowhere, or the default for `folder`. `json` may be `-`, standard output."""

    json: Path | None = None
    html: Path | None = None
    folder: Path | None = None


def leave(result: Result, outputs: Outputs) -> None:
    """Show a result and write it. Raises TargetError: it cannot be written."""
    terminal.show(result)
    try:
        if outputs.json == PRINTED:
            typer.echo(writing.encoded(result), nl=False)
        elif outputs.json is not None:
            writing.put(outputs.json, writing.encoded(result))
        written = writing.write(result, outputs.folder if outputs.folder is not None else FOLDER / _name(result))
        if written.page is not None and outputs.html is not None:
            writing.put(outputs.html, written.page.read_bytes())
    except OSError as error:
        raise TargetError(f"the report cannot be written: {error}") from None
    if written.page is None:
        typer.echo(f"{written.result} was written; there is no page, since {NO_PAGE}")
    else:
        typer.echo(f"{written.page} and {written.result.name} were written")


def again(paths: Sequence[Path], html: Path | None) -> None:
    """Show the result of an earlier run, or of several as one, and write its page. Raises TargetError."""
    try:
        result = together({str(it): read(it) for it in paths})
    except MergeError as error:
        raise TargetError(str(error)) from None
    terminal.show(result)
    if html is not None:
        try:
            writing.put_page(result, html)
        except ImportError:
            raise TargetError(f"the page cannot be drawn: {NO_PAGE}") from None
        except OSError as error:
            raise TargetError(f"the page cannot be written: {error}") from None


def read(path: Path) -> Result:
    """Return what a run has left. Raises TargetError."""
    try:
        return writing.read(path)
    except writing.ReportError as error:
        raise TargetError(str(error)) from None


def _name(result: Result) -> str:
    return f"{result.scenario}-{result.started[:19].replace(':', '').replace('-', '').replace('T', '-')}"
