from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from loadtests.compare.command import compare

APP = typer.Typer()
APP.command()(compare)


@pytest.mark.parametrize(("words", "why"), [(["sockjs"], "no peer"), (["--quick", "--write-docs"], "not for the docs")])
def test_bad_input_is_refused_before_anything_runs(words: list[str], why: str) -> None:
    """An unknown peer, and docs made of what is no figure, end with exit code 2 and a reason."""
    done = CliRunner().invoke(APP, words)
    assert 2 == done.exit_code
    assert why in " ".join(done.output.replace("│", " ").split())
