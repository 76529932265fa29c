from __future__ import annotations

from functools import partial

from loadtests.bench.calm import TAKEN, Calm
from loadtests.bench.rig import Measured
from loadtests.bench.slices import Amount, interleaved, joined


async def test_slices_of_all_kinds_and_runs_take_turns() -> None:
    """A mood of the machine hits all alike: kinds alternate, runs too, and the first round does not count."""
    order: list[str] = []

    async def slice_of(kind: str) -> int:
        order.append(kind)
        return len(order)

    kinds = {it: partial(slice_of, it) for it in ("ours", "theirs")}
    told: list[str] = []
    runs = await interleaved(Amount(runs=2, slices=2), kinds, told.append, Calm(speed=lambda _: 1.0))
    assert ["ours", "theirs"] * 5 == order
    assert {"ours": [[3, 7], [5, 9]], "theirs": [[4, 8], [6, 10]]} == runs
    assert [TAKEN] * 4 == told


def test_a_run_is_the_mean_of_its_slices_and_its_busiest_generator() -> None:
    """Rates are averaged; a generator that was saturated once is not averaged away."""
    assert [Measured(150, 15, 0.99, 1.5)] == joined([[Measured(100, 10, 0.5, 0.5), Measured(200, 20, 0.99, 1.0)]])


def test_a_trial_is_small_but_something() -> None:
    """However small the share, somebody publishes to somebody."""
    assert 2 == Amount(share=0.0001).clients(1000)
    assert 1000 == Amount().clients(1000)
    assert 0.5 == Amount(quick=True).span(1)
    assert 20 == Amount().span(20)
