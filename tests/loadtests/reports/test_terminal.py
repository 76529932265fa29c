"""The report on the terminal."""

from __future__ import annotations

from io import StringIO

import msgspec
import pytest
from rich.console import Console
from rich.text import Text

from loadtests.kit.result import Result
from loadtests.reports import terminal
from tests.support import results


def shown(result: Result, *, width: int = 80, looked_at: bool = False) -> str:
    """Return what is printed."""
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=looked_at, highlight=False, color_system="standard" if looked_at else None
    )
    terminal.show(result, console)
    return out.getvalue()


def test_the_order_is_that_of_the_page() -> None:
    """The verdict first, the command that repeats it last."""
    text = shown(results.bad())
    head = ("fan-out: 1,000", "FAILED: 6 things", "silent gap", "Note:", "deliveries/s")
    tables = ("Latency (", "Audit (", "Closes", "Refusals", "Generator (", "Nodes (")
    places = [text.index(it) for it in (*head, *tables, "Profile as played", "target", "Again: ")]
    assert sorted(places) == places


def test_figures_are_shown() -> None:
    """With their units; those of the audit, too."""
    text = shown(results.good())
    assert "PASSED" in text
    for words in ("26.5 ms", "20,000", "440", "127.0.0.1:8000", "expect.lost=0", "Valkey 8.1.8"):
        assert words in text


def test_all_that_a_result_holds_is_shown() -> None:
    """Figures of the scenario, why an expectation could not be judged, what never came, who was slow."""
    text = " ".join(shown(results.bad()).split())
    for words in ("back 95 2.3 s", "back 100 4.9 s", "but nothing of this was measured", "never delivered 8",
                  "clients slow lag p99",
                  "delivered twice to one subscription 1"):  # fmt: skip
        assert words in text


def test_a_saturated_run_shows_no_latency_and_no_rate() -> None:
    """But why, and what to do."""
    text = shown(results.saturated())
    assert "VOID: the generator was saturated" in text
    assert "What to do:" in text
    assert "--processes 4" in text
    for words in ("26.5", "34.2", "deliveries/s", "p99.9", "Latency"):
        assert words not in text


@pytest.mark.parametrize("looked_at", [True, False])
def test_nothing_is_wider_than_80_columns(looked_at: bool) -> None:
    """But the command, which is one line to copy."""
    text = shown(results.bad(), looked_at=looked_at)
    lines = Text.from_ansi(text).plain.splitlines()
    assert all(len(it) <= 80 for it in lines if not it.startswith("Again: "))
    assert f"Again: {results.bad().command}" in lines


def test_it_is_plain_where_nobody_looks() -> None:
    """No colours, no lines: a log and `grep` take it as it is."""
    assert shown(results.bad()).isascii()
    assert "\x1b[" not in shown(results.bad())
    assert "\x1b[" in shown(results.bad(), looked_at=True)


def test_hostile_texts_stay_texts() -> None:
    """Neither does rich take them as its own marks, nor a terminal as orders."""
    hostile = "[red]x[/red] [/] \x1b]0;title\x07\x1b[2J \u202e :boom:"
    run = msgspec.structs.replace(
        results.bad(), scenario=hostile, target=hostile, remarks=[hostile], command=hostile, closes={hostile: 3}
    )
    text = shown(run, looked_at=True)
    assert 5 <= text.count("[red]x[/red] [/]")
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert ":boom:" in text


def test_a_narrow_terminal_loses_nothing() -> None:
    """Long words are folded."""
    text = "".join(shown(results.bad(), width=40).split())
    assert "http://127.0.0.1:8001/metricscouldnotberead" in text


def test_without_a_console_it_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """As a command does."""
    terminal.show(results.good())
    assert "PASSED" in capsys.readouterr().out
