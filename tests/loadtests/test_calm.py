from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest

from loadtests.bench import calm
from loadtests.bench.calm import KEPT, REPEATED, TAKEN, Calm, speed


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(calm, "PAUSE", 0.001)


async def rounds(*speeds: float, patience: float = 10.0) -> tuple[list[str], int, list[float]]:
    """Take a round of one kind on a core that is so fast at each look; return what was told, the result, looks left."""
    looks = list(speeds)
    told: list[str] = []
    numbers: Iterator[int] = iter(range(100))

    async def measure() -> int:
        return next(numbers)

    watch = Calm(cores=(0,), patience=patience, speed=lambda _: looks.pop(0))
    results = await watch.round({"ours": measure}, told.append)
    return told, results["ours"], looks


async def test_all_of_a_round_are_repeated_together() -> None:
    """What is measured beside something else has the same moods, and no connection waits long for its next turn."""
    looks = [100.0, 60.0, 100.0, 100.0]
    order: list[str] = []

    async def slice_of(kind: str) -> int:
        order.append(kind)
        return len(order)

    watch = Calm(cores=(0,), speed=lambda _: looks.pop(0))
    kinds = {it: partial(slice_of, it) for it in ("ours", "theirs")}
    assert {"ours": 3, "theirs": 4} == await watch.round(kinds, lambda _: None)
    assert ["ours", "theirs"] * 2 == order


async def test_a_round_between_two_fast_looks_is_taken() -> None:
    """Nothing is put off while the core does what it can."""
    assert ([TAKEN], 0, []) == await rounds(100, 90)


async def test_a_round_after_which_the_core_is_slow_is_repeated_when_it_is_fast_again() -> None:
    """Whatever came out, it is thrown away; the next is begun when the core is fast."""
    assert ([REPEATED, TAKEN], 1, []) == await rounds(100, 60, 65, 70, 99, 100)


async def test_faster_than_ever_tells_that_the_looks_before_were_slow() -> None:
    """What was taken for fast may have been slow: that round is taken, later ones are judged by the new best."""
    assert ([TAKEN], 0, []) == await rounds(60, 100)
    assert ([REPEATED, TAKEN], 1, []) == await rounds(100, 84.9, 100, 85)


async def test_patience_ends() -> None:
    """On a machine that is never left alone rounds are taken as they are, and it is told."""
    assert ([KEPT], 0, []) == await rounds(100, 60, patience=0.0)
    told, _, _ = await rounds(100, *[60] * 50, patience=0.01)
    assert KEPT == told[-1]


def test_a_look_tells_the_speed_of_this_machine() -> None:
    """It is a rate, above nothing, and leaves the process on the cores where it was."""
    usual = os.sched_getaffinity(0)
    assert speed(0) > 1
    assert usual == os.sched_getaffinity(0)
