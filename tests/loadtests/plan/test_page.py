from __future__ import annotations

import re
from pathlib import Path

import pytest

from loadtests.plan import page
from loadtests.plan.command import app
from loadtests.plan.named import NAMED
from loadtests.plan.workload import PlanError

DOCS = Path(page.__file__).parent.parent.parent / "docs"


def test_the_page_says_what_the_model_says() -> None:
    """Tables of docs/topics/scaling.md are those of today's constants; `python -m loadtests plan page` writes them."""
    text = (DOCS / page.PAGE).read_text(encoding="utf-8")
    assert page.filled(text) == text


def test_the_figure_is_what_the_model_draws() -> None:
    """It is drawn the same each time, and the one in the documentation is of today's constants."""
    assert page.figure() == page.figure() == (DOCS / page.FIGURE).read_text(encoding="utf-8")


def test_the_page_has_a_table_for_each_named_workload() -> None:
    """Every mark is there once, with a row for each size."""
    text = (DOCS / page.PAGE).read_text(encoding="utf-8")
    for name in NAMED:
        (found,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
        assert found.count("\n") == 2 + len(page.SIZES)
    assert "<!-- constants -->" in text


def test_a_stale_page_is_brought_up_to_date(tmp_path: Path) -> None:
    """What stood between the marks goes, what stood outside stays."""
    (tmp_path / "topics").mkdir()
    (tmp_path / "images").mkdir()
    target = tmp_path / page.PAGE
    target.write_text("before\n<!-- rooms -->\nold\n<!-- /rooms -->\nafter\n", encoding="utf-8")
    page.write(tmp_path)
    text = target.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- rooms -->\n| connections |")
    assert text.endswith("<!-- /rooms -->\nafter\n")
    assert "old" not in text
    assert (tmp_path / page.FIGURE).read_text(encoding="utf-8").startswith("<svg")


def test_no_page(tmp_path: Path) -> None:
    """A folder without the page is named."""
    with pytest.raises(PlanError, match=r"scaling\.md cannot be read"):
        page.write(tmp_path)


def test_the_examples_of_the_page_are_commands() -> None:
    """Every call that the page shows names options that there are."""
    text = (DOCS / page.PAGE).read_text(encoding="utf-8")
    shown = set(re.findall(r" (--[a-z][a-z-]+)", text)) - {"--json", "--workers", "--help"}
    known = {it for group in _options() for it in group}
    assert shown <= known


def _options() -> list[list[str]]:
    import typer.main  # noqa: PLC0415 - of this helper alone

    group = typer.main.get_command(app)
    commands = [group, *getattr(group, "commands", {}).values()]
    return [list(it.opts) for command in commands for it in command.params]
