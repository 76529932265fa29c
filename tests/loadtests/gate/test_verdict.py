from __future__ import annotations

from random import Random

import pytest

from loadtests.bench.gate.verdict import FEWEST, Outcome, interval, judge

BOUND = 0.85


def sequential(truth: float, noise: float, seed: int, most: int = 25) -> Outcome:
    """Judge after each round as the gate does, until there is a verdict or the time is over."""
    chance, values = Random(seed), list[float]()
    for _ in range(most):
        values.append(chance.gauss(truth, noise * truth))
        if (found := judge(values, BOUND).outcome) is not Outcome.OPEN:
            return found
    return Outcome.OPEN


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1, 0.2, 0.4])
def test_noise_is_never_taken_for_a_fall(noise: float) -> None:
    """However much a healthy node's rounds differ, none of five hundred runs finds a fall."""
    found = [sequential(1.0, noise, seed) for seed in range(500)]
    assert Outcome.FELL not in found


@pytest.mark.parametrize(("truth", "noise"), [(0.82, 0.02), (0.8, 0.05), (0.7, 0.09), (0.5, 0.1)])
def test_a_real_fall_is_found(truth: float, noise: float) -> None:
    """A node that fell by more than the bound and the noise allow is found nearly always, and never called healthy."""
    found = [sequential(truth, noise, seed) for seed in range(500)]
    assert Outcome.HOLDS not in found
    assert found.count(Outcome.FELL) > 440


def test_a_healthy_node_is_let_through() -> None:
    """On a quiet machine there is a verdict, and soon."""
    assert {Outcome.HOLDS} == {sequential(1.0, 0.03, seed, FEWEST) for seed in range(200)}


def test_too_few_rounds_say_nothing() -> None:
    """Eleven that agree are not enough, twelve are."""
    assert Outcome.OPEN is judge([0.1] * (FEWEST - 1), BOUND).outcome
    assert Outcome.FELL is judge([0.1] * FEWEST, BOUND).outcome
    assert Outcome.OPEN is judge([], BOUND).outcome


def test_a_machine_with_two_moods_is_no_fall() -> None:
    """When a good part of the rounds are as fast as ever, the others were disturbed and not slower code."""
    found = judge([0.4] * 29 + [1.0] * 11, BOUND)
    assert found.high < BOUND
    assert Outcome.OPEN is found.outcome


def test_what_is_near_the_bound_stays_open() -> None:
    """Rounds on both sides of it decide nothing, and the judgement says how far they lie apart."""
    found = judge([0.84, 0.86] * 10, BOUND)
    assert Outcome.OPEN is found.outcome
    assert "both sides" in found.why
    assert 0.02 < found.spread < 0.03


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """In 99 of 100 runs, and it is as narrow as that allows."""
    chance = Random(1)
    held, wide = 0, 0.0
    for _ in range(2000):
        low, high = interval([chance.expovariate(1.0) for _ in range(25)])
        held += low <= 0.6931 <= high
        wide += high - low
    assert 0.985 < held / 2000 <= 1
    assert wide / 2000 < 1.4
    assert (0.0, float("inf")) == interval([1.0, 2.0])
