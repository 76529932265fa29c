from __future__ import annotations

from loadtests.figures import Figure


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


def test_floors() -> None:
    """More is better, or less where the row says so; a miss is shown."""
    assert not Figure("x", [99.0], "times", 100).met
    assert Figure("x", [99.0], "KiB", 100, least=True).met
    assert "MISSED" in Figure("x", [101.0], "KiB", 100, least=True).row()
