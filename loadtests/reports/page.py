"""One page that holds all of a run: nothing in it comes from elsewhere, and nothing in it can run."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loadtests.kit.result import Result
from loadtests.reports.content import content
from loadtests.reports.figures import drawings
from loadtests.reports.svg import SHEET, bare
from loadtests.reports.words import clean

HERE: Final = Path(__file__).parent


def html(result: Result) -> str:
    """Return the page of a run; the same text for the same run. No text of a run can become more than text."""
    told = content(result)
    style = f"{(HERE / 'page.css').read_text(encoding='utf-8')}{SHEET}"
    drawn = [bare(it) for it in drawings(result, void=told.verdict.kind == "void")]
    return (
        _templates()
        .get_template("page.html")
        .render(
            told=told,
            policy=policy(style),
            style=Markup(style),  # noqa: S704 - our own files
            drawings=[Markup(it) for it in drawn],  # noqa: S704 - texts in it are escaped
        )
    )


def policy(style: str) -> str:
    """Return the content security policy: this style sheet, and nothing else from anywhere."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_final,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _final(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
