from __future__ import annotations

import json

from loadtests.bench.figures import Figure


def test_a_figure_is_the_middle_run() -> None:
    """One lucky or unlucky run decides nothing."""
    figure = Figure("x", [100.0, 90.0, 104.0, 101.0, 99.0], "messages/s")
    assert figure.median == 100.0
    assert round(figure.spread, 2) == 0.14
    assert figure.void == ""
    assert figure.met


def test_runs_that_disagree_are_no_figure() -> None:
    """A spread over 15 % voids the row, and the table says so."""
    figure = Figure("x", [100.0, 84.0, 100.0], "messages/s")
    assert "spread" in figure.void
    assert "VOID" in figure.row()


def test_a_saturated_generator_measures_itself() -> None:
    """A busy generator voids the row."""
    assert "generator" in Figure("x", [1.0], "messages/s", busy=0.99).void


def test_a_wrong_run_is_no_figure_however_alike_its_runs_are() -> None:
    """What a scenario says against its own runs stands, and nothing divides by a median of nothing."""
    figure = Figure("x", [0.0], "times", 1, wrong="no node on PATH")
    assert figure.void == "no node on PATH"
    assert "VOID: no node on PATH" in figure.row()
    assert not figure.met


def test_must_and_goal_are_two_things() -> None:
    """A row that must be reached and is wished to be better says both."""
    row = Figure("x", [1.7], "times", 1.6, goal=2.0).row()
    assert ">= 1.6 ok" in row
    assert ">= 2 not yet" in row


def test_a_program_is_told_what_the_table_says() -> None:
    """The JSON has runs, median and verdict of each row."""
    told = json.loads(json.dumps(Figure("x", [1.0, 3.0, 2.0], "times", 1.6, goal=2.0).told()))
    assert [1.0, 3.0, 2.0] == told["runs"]
    assert (2.0, 1.0, "spread over 15 %", True) == (told["median"], told["spread"], told["void"], told["met"])


def test_floors() -> None:
    """More is better, or less where the row says so; a miss is shown."""
    assert not Figure("x", [99.0], "times", 100).met
    assert Figure("x", [99.0], "KiB", 100, least=True).met
    assert "MISSED" in Figure("x", [101.0], "KiB", 100, least=True).row()
