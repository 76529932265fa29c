"""The files of a run: JSON for machines and for later, and the page for people."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from loadtests.kit.result import VERSION, Result

RESULT: Final = "result.json"
PAGE: Final = "report.html"
NEEDED: Final = ("matplotlib", "jinja2")  # to draw; the small image of a cluster's job is without


class ReportError(ValueError):
    """A file that is not the result of a run, or of one that this kit cannot read; the text says which and why."""


class Written(NamedTuple):
    """Where a run was written; `page` None: nothing here can draw it."""

    result: Path
    page: Path | None


class _Version(msgspec.Struct):
    version: int | None = None


def write(result: Result, folder: Path) -> Written:
    """Write both into the folder, which is made; what was there is replaced at once or stays. Raises OSError."""
    put(folder / RESULT, encoded(result))
    page = folder / PAGE if all(map(find_spec, NEEDED)) else None
    if page is not None:
        put_page(result, page)
    return Written(folder / RESULT, page)


def put_page(result: Result, path: Path) -> None:
    """Write the page alone. Raises OSError, ImportError: what draws it is not installed."""
    from loadtests.reports.page import html  # noqa: PLC0415 - slow to import, and not everywhere

    put(path, html(result).encode())


def put(path: Path, content: bytes) -> None:
    """Write a file, and its folder if there is none, so that nobody ever reads half of it. Raises OSError."""
    if path.exists() and not path.is_file():  # a pipe or /dev/stdout: nothing can take its place
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> Result:
    """Return what a run has left. Raises ReportError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}") from None
    try:
        version = msgspec.json.decode(text, type=_Version).version
        result = msgspec.json.decode(text, type=Result) if version == VERSION else None
    except (ValueError, RecursionError) as error:  # what is no JSON, no UTF-8, of another shape, or without an end
        raise ReportError(f"{path} is not the result of a run: {error}") from None
    if version is None:
        raise ReportError(f"{path} is not the result of a run: it names no version")
    if result is None:
        raise ReportError(f"{path} is of version {version}; this kit reads version {VERSION}")
    return result


def encoded(result: Result) -> bytes:
    """Return its JSON, a field a line, always in the order of the fields."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"
