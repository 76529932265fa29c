"""`python -m loadtests.compare`: the same as `python -m loadtests compare`."""

from __future__ import annotations

import typer

from loadtests.compare.command import compare

typer.run(compare)
