from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.plan import constants
from loadtests.plan.workload import PlanError


def test_the_kit_brings_constants_that_say_where_they_come_from() -> None:
    """Each is within its range, explained, and what was measured says when and on what."""
    for name, it in constants.read().items():
        assert it.low <= it.value <= it.high, name
        assert it.source, name
        assert it.about, name
        assert it.basis != "measured" or (it.date and it.machine), name


def test_microseconds_become_seconds() -> None:
    """Costs are in seconds and bytes, at either end of their range."""
    known = constants.read()
    known["node.write"] = replace(known["node.write"], value=8.0, low=7.0, high=9.0)
    known["memory.connection"] = replace(known["memory.connection"], value=5000.0)
    assert known.costs().node.write == pytest.approx(8e-6)
    assert known.costs("low").node.write == pytest.approx(7e-6)
    assert known.costs("high").node.write == pytest.approx(9e-6)
    assert known.costs().memory.connection == 5000


def test_written_and_read_again(tmp_path: Path) -> None:
    """What was written is read as it was, quotes and backslashes in a source too."""
    known = constants.read()
    known["node.write"] = replace(known["node.write"], source='a "row" of C:\\bench', value=8.125)
    path = tmp_path / "mine.toml"
    constants.write(known, path)
    assert constants.read(path) == known


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[node.write]", "[node.wrote]"), "lacks node.write.*knows no node.wrote"),
        (("[redis.push]", "[radish.push]"), "lacks redis.push.*knows no radish.push"),
        (('unit = "us"', 'unit = "miles"'), "unit must be one of us, bytes"),
        (('basis = "measured"', 'basis = "dreamt"'), "basis one of measured, derived, assumed"),
        (("low = 7.3", "low = 70"), "node.write: 0 <= low <= value <= high"),
        (("low = 7.3", "low = -1"), "node.write: 0 <= low <= value <= high"),
        (("low = 7.3", "low = nan"), "node.write: 0 <= low <= value <= high"),
        (("low = 7.3", 'low = "few"'), "node.write: could not convert"),
        (("low = 7.3", "law = 7.3"), "node.write: .*law"),
        (("[node.write]", "[node.write"), "cannot be read"),
    ],
)
def test_a_file_with_a_fault(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    """Whatever is wrong in a file is named, with where it stands."""
    text = constants.SHIPPED.read_text(encoding="utf-8")
    assert change[0] in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(PlanError, match=words):
        constants.read(path)


def test_no_such_file(tmp_path: Path) -> None:
    """A missing file, and one that is no text, are refused."""
    with pytest.raises(PlanError, match="cannot be read"):
        constants.read(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="cannot be read"):
        constants.read(tmp_path / "binary.toml")
