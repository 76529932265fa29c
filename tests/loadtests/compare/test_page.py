from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.compare.outcome import ONE, row, written
from loadtests.compare.page import BEGIN, END, PAGE, PICTURES, inserted, pictures, section, write_docs, write_report
from tests.loadtests.compare.made import comparison


def test_the_table_has_a_row_for_each_server_the_fastest_first() -> None:
    """A figure stands with its spread and its share of the C loop; a void one is none, and says why."""
    lines = section(comparison(), {}).splitlines()
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert [
        "| C loop | 131,250 (10%) | 150,500 (1%) |  |  |",
        "| **this gateway** | 105,000 (10%) = 0.80 x C loop | 805,000 (1%) = 5.35 x C loop | 5.5 (4%) |  |",
        "| Node ws | 90,500 (1%) = 0.69 x C loop | none: spread over 15 % | 11.8 (2%) |  |",
    ] == rows


def test_a_reader_learns_how_to_repeat_it() -> None:
    """Machine, date, command, versions, how each was set up, and who was left out, are on the page."""
    text = section(comparison(left_out={"Socket.IO": "no node on PATH"}), {})
    for said in (
        "Measured 2026-11-22 on A processor, 2 cores, 24 GiB, Linux 6, CPython 3.11.7, Valkey 8.1.8",
        "`python -m loadtests compare`",
        "- Node ws: how ws is set up (ws 1.2).",
        "- Socket.IO was left out: no node on PATH.",
    ):
        assert said in text


def test_what_is_no_figure_is_not_drawn() -> None:
    """Each measure has a picture of its figures; one that has none has no picture."""
    assert {file for file, _ in PICTURES.values()} == set(pictures(comparison()))
    [(file, svg)] = pictures(comparison([row("ws", ONE, [1.0, 1.0]), row("gateway", ONE, [1.0, 2.0])])).items()
    assert PICTURES[ONE][0] == file
    assert "Node ws" in svg
    assert "this gateway" not in svg


def test_only_the_part_between_the_marks_changes() -> None:
    """What people wrote around it stays, and a second run replaces the first."""
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    assert f"# Title\n\n{BEGIN}\nnew\n{END}\n\nafter\n" == inserted(page, "\nnew\n\n")
    assert inserted(page, "new") == inserted(inserted(page, "other"), "new")


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_page_without_a_place_is_left_alone(page: str) -> None:
    """Marks that are missing, or in the wrong order, are an error."""
    with pytest.raises(ValueError, match="there is no"):
        inserted(page, "new")


def test_the_docs_have_a_place_for_it() -> None:
    """docs/performance.md carries the marks."""
    assert "new" in inserted(PAGE.read_text(encoding="utf-8"), "new")


def test_docs_are_written_with_their_pictures(tmp_path: Path) -> None:
    """The page links pictures that lie in the folder of images beside it."""
    page = tmp_path / "performance.md"
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    files = write_docs(comparison(), page)
    assert [page, *(tmp_path / "images" / file for file, _ in PICTURES.values())] == files
    for file, _ in PICTURES.values():
        assert f"(images/{file})" in page.read_text(encoding="utf-8")
        assert (tmp_path / "images" / file).read_text(encoding="utf-8").startswith("<")


def test_a_report_is_a_folder_by_itself(tmp_path: Path) -> None:
    """All runs, the table and the pictures lie beside each other."""
    made, folder = comparison(), tmp_path / "new" / "report"
    files = write_report(made, written(made), folder)
    assert files == [it for it in files if it.parent == folder and it.is_file()]
    assert written(made) == (folder / "compare.json").read_bytes()
    assert f"({PICTURES[ONE][0]})" in (folder / "compare.md").read_text(encoding="utf-8")
