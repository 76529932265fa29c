"""What `run` leaves and `report` shows again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtests.cli import app
from loadtests.kit import outputs
from loadtests.kit.outputs import Outputs
from loadtests.kit.target import TargetError
from loadtests.reports import writing
from tests.support import results


def test_a_run_leaves_a_table_a_file_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it was asked to, and says where."""
    extra, page = tmp_path / "x" / "extra.json", tmp_path / "x" / "extra.html"
    outputs.leave(results.good(), Outputs(json=extra, html=page, folder=tmp_path / "run"))
    said = capsys.readouterr().out
    assert "PASSED" in said
    assert f"{tmp_path / 'run'}/report.html and result.json were written" in "".join(said.splitlines(keepends=True))
    assert results.good() == outputs.read(tmp_path / "run" / "result.json") == outputs.read(extra)
    assert (tmp_path / "run" / "report.html").read_bytes() == page.read_bytes()


def test_a_result_can_be_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between table and last line, so that it can be cut out of a log: from the one line `{` to the one line `}`."""
    outputs.leave(results.good(), Outputs(json=outputs.PRINTED, folder=tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert (1, 1) == (lines.count("{"), lines.count("}"))
    cut = lines[lines.index("{") : lines.index("}") + 1]
    assert (tmp_path / "result.json").read_text(encoding="utf-8").splitlines() == cut


def test_without_a_folder_each_run_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by scenario and time."""
    monkeypatch.chdir(tmp_path)
    outputs.leave(results.good(), Outputs())
    assert (tmp_path / "load-reports" / "fan-out-20261122-201500" / "report.html").is_file()


def test_what_cannot_be_drawn_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run on a machine without what draws has its table and its file."""
    monkeypatch.setattr(writing, "find_spec", lambda _: None)
    outputs.leave(results.good(), Outputs(folder=tmp_path, html=tmp_path / "page.html"))
    said = capsys.readouterr().out
    assert "PASSED" in said
    assert "there is no page" in said
    assert ["result.json"] == [it.name for it in tmp_path.iterdir()]


def test_a_report_is_shown_again(tmp_path: Path) -> None:
    """The same table, and the same page as after the run; a broken one ends like a passed one: it was shown."""
    outputs.leave(results.bad(), Outputs(folder=tmp_path))
    page = tmp_path / "again.html"
    ended = CliRunner().invoke(app, ["report", str(tmp_path / "result.json"), "--html", str(page)])
    assert (0, True) == (ended.exit_code, "FAILED: 6 things did not hold" in ended.output)
    assert (tmp_path / "report.html").read_bytes() == page.read_bytes()


def test_what_is_no_report_ends_with_a_reason(tmp_path: Path) -> None:
    """In one line, and with 2."""
    path = tmp_path / "result.json"
    path.write_text("{}", encoding="utf-8")
    ended = CliRunner().invoke(app, ["report", str(path)])
    assert (2, 1) == (ended.exit_code, ended.output.count("\n"))
    assert "is not the result of a run" in ended.output


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """After a run and again."""
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(TargetError, match="cannot be written"):
        outputs.leave(results.good(), Outputs(folder=blocked / "run"))
    kept = tmp_path / "kept.json"
    kept.write_bytes(writing.encoded(results.good()))
    with pytest.raises(TargetError, match="cannot be written"):
        outputs.again([kept], blocked / "page.html")


def test_a_page_without_what_draws_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is missing."""
    monkeypatch.setitem(sys.modules, "loadtests.reports.page", None)
    kept = tmp_path / "kept.json"
    kept.write_bytes(writing.encoded(results.good()))
    with pytest.raises(TargetError, match="not installed"):
        outputs.again([kept], tmp_path / "page.html")
