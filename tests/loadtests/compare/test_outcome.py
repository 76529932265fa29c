from __future__ import annotations

import msgspec
import pytest

from loadtests.compare.outcome import ACCEPTS, EIGHT, MEMORY, ONE, exact, read, row, weighed, written
from tests.loadtests.compare.made import ROWS, comparison, entrant


def test_a_ratio_is_taken_run_by_run() -> None:
    """A machine that is slow in one run is so for both: the ratio stays, and has no spread."""
    ratio = comparison().ratio(entrant("gateway"), ONE)
    assert ratio is not None
    assert [0.8, 0.8, 0.8] == ratio.runs
    assert 0 == ratio.spread


@pytest.mark.parametrize("name", ["c-loop", "ws"])
def test_there_is_no_ratio_where_there_is_nothing_to_compare(name: str) -> None:
    """Nothing is the share of a C loop that is away, the C loop has none of itself, and memory has none."""
    assert comparison().ratio(entrant("c-loop"), ONE) is None
    assert comparison().ratio(entrant("gateway"), MEMORY) is None
    without = [it for it in ROWS if it.server != name]
    ratio = comparison(without).ratio(entrant("gateway" if name == "c-loop" else name), ONE)
    assert ratio is None


def test_figures_come_by_measure_the_best_first_each_with_its_ratio() -> None:
    """Deliveries count downwards, memory upwards; who was not measured has no line."""
    assert [
        "C loop, one in flight",
        "this gateway, one in flight",
        "this gateway, one in flight, of the C loop",
        "Node ws, one in flight",
        "Node ws, one in flight, of the C loop",
        "this gateway, 8 in flight",
        "this gateway, 8 in flight, of the C loop",
        "C loop, 8 in flight",
        "Node ws, 8 in flight",
        "Node ws, 8 in flight, of the C loop",
        "this gateway, memory per idle connection",
        "Node ws, memory per idle connection",
    ] == [it.name for it in comparison().figures()]
    assert comparison().figure(entrant("ws"), ACCEPTS) is None


def test_who_lost_something_has_no_figure_and_no_ratio() -> None:
    """What is wrong with a server voids its figure and its ratio, and a C loop that lost something voids all ratios."""
    lossy = [row("gateway", ONE, [1.0]), row("c-loop", ONE, [2.0], wrong="1 delivery where 2 were due")]
    made = comparison(lossy)
    ceiling, ratio = made.figure(entrant("c-loop"), ONE), made.ratio(entrant("gateway"), ONE)
    assert ceiling is not None
    assert ratio is not None
    assert "1 delivery where 2 were due" == ceiling.void == ratio.void


def test_a_ceiling_that_did_nothing_divides_nobody() -> None:
    """Runs without a delivery give a ratio of 0, not an error."""
    ratio = comparison([row("gateway", EIGHT, [1.0]), row("c-loop", EIGHT, [0.0])]).ratio(entrant("gateway"), EIGHT)
    assert ratio is not None
    assert [0.0] == ratio.runs


@pytest.mark.parametrize(
    ("delivered", "wrong"),
    [
        (20_000, ""),
        (19_999, "19,999 deliveries where 20,000 were due"),
        (20_001, "20,001 deliveries where 20,000 were due"),
    ],
)
def test_every_publication_reaches_every_subscriber_once(delivered: int, wrong: str) -> None:
    """One delivery too few or too many is said."""
    assert wrong == exact(20, delivered, 1000)
    assert "nothing was published" == exact(0, 0, 1000)


@pytest.mark.parametrize(("costs", "fine"), [([0.1, 0.1], True), ([5.0, 0.0], False), ([5.0, -35.0], False)])
def test_connections_that_weigh_nothing_were_not_weighed(costs: list[float], fine: bool) -> None:
    """One run in which memory did not grow voids the figure, whatever the spread."""
    assert fine == (weighed(costs) == "")


def test_what_is_written_can_be_read() -> None:
    """JSON keeps all runs; what is none is refused."""
    made = comparison(left_out={"Socket.IO": "no node on PATH"})
    assert made == read(written(made))
    with pytest.raises(msgspec.ValidationError):
        read(b"{}")
