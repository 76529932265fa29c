"""Files of a run: written whole, read back as they were, refused with a reason."""

from __future__ import annotations

import json
import os
from importlib import util
from pathlib import Path
from threading import Thread

import pytest

from loadtests.kit.result import Result
from loadtests.reports import writing
from tests.support import results


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """All of it, histograms included, beside a page."""
    written = writing.write(results.bad(), tmp_path / "a" / "b")
    assert writing.Written(tmp_path / "a" / "b" / "result.json", tmp_path / "a" / "b" / "report.html") == written
    assert results.bad() == writing.read(written.result)
    assert written.page is not None
    assert written.page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert ["report.html", "result.json"] == sorted(it.name for it in written.result.parent.iterdir())


def test_the_file_is_in_a_stable_order() -> None:
    """That of the fields, each on its line, and of the profile: a run reads the same from its file, and in a diff."""
    text = writing.encoded(results.good())
    assert text == writing.encoded(results.good())
    told = json.loads(text)
    assert list(Result.__struct_fields__) == list(told)
    assert list(results.good().profile) == list(told["profile"])
    assert b'\n "scenario": "fan-out",\n' in text


def test_without_what_draws_there_is_a_file_and_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the small image of a cluster's job."""
    found = util.find_spec
    monkeypatch.setattr(writing, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    assert (tmp_path / "result.json", None) == writing.write(results.good(), tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (b"{}", "names no version"),
        (b'{"version": 9, "what": "a later kit"}', "is of version 9; this kit reads version 1"),
        (b'{"version": 1}', "missing required field"),
        (b"<!doctype html>", "malformed"),
        (b"[" * 50_000, "array"),
        (b'{"x": ' + b"[" * 50_000, "recursion"),
        (b'{"version": "1"}', "Expected `int"),
    ],
)
def test_what_is_no_result_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    """And with the name of the file."""
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(writing.ReportError, match=reason) as refused:
        writing.read(path)
    assert str(path) in str(refused.value)


def test_wrong_fields_are_named(tmp_path: Path) -> None:
    """With their place."""
    path = tmp_path / "some.json"
    told = json.loads(writing.encoded(results.good()))
    told["seconds"][3]["delivered"] = "many"
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(writing.ReportError, match=r"seconds\[3\]\.delivered"):
        writing.read(path)
    path.write_bytes(writing.encoded(results.good()).replace(b"A Processor", b"\xff Processor"))
    with pytest.raises(writing.ReportError, match="is not the result of a run"):
        writing.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """As is a folder."""
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(writing.ReportError, match="cannot be read"):
            writing.read(path)


def test_what_was_there_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody ever reads half a file, and nothing is left beside it."""
    path = tmp_path / "result.json"
    writing.put(path, b"before")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        writing.put(path, b"after")
    assert (b"before", ["result.json"]) == (path.read_bytes(), [it.name for it in tmp_path.iterdir()])


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """It is not replaced by a file, so `--json /dev/stdout` works."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    writing.put(pipe, b"told")
    reader.join(timeout=10)
    assert ([b"told"], True) == (read, pipe.is_fifo())
