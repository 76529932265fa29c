from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.plan.reconnect import BACK, HORIZON, Storm, play

STORM = Storm(lost=100_000, nodes=10, cpu=0.4, accept=0.001, admitted=500, redis=1e9)


def test_nobody_waits_where_there_is_room_for_all() -> None:
    """With room for all at once, everybody is back after the first pause of a client, and nobody is refused."""
    course = play(replace(STORM, lost=100, admitted=0))
    assert course.bound == "backoff"
    assert course.refused == 0
    assert 0.5 <= course.half <= course.all <= 1.25


def test_admission_holds_them_up() -> None:
    """A bucket of 50 a second on ten nodes lets 500 a second in, and the storm takes at least as long as that says."""
    course = play(replace(STORM, admitted=50))
    assert (course.bound, course.accepts) == ("admission", 500)
    assert course.all >= 0.99 * 100_000 / 500 - 2
    assert course.all < 3 * 100_000 / 500


def test_the_core_holds_them_up() -> None:
    """Without a limit, what is left of ten cores is what there is: half a core each for milliseconds."""
    course = play(replace(STORM, admitted=0))
    assert course.bound == "cpu"
    assert course.accepts == pytest.approx(10 * 0.5 / 0.001)


def test_redis_holds_them_up() -> None:
    """What the servers can enter in a second bounds all nodes together."""
    course = play(replace(STORM, redis=700.0))
    assert (course.bound, course.accepts) == ("redis", 700)


def test_no_room_at_all() -> None:
    """Nodes that are full let nobody in: it never ends, and the account of it does."""
    course = play(replace(STORM, cpu=0.95))
    assert course.half == course.most == course.all == inf
    assert course.moments == []


def test_hardly_any_room() -> None:
    """Who would be back after the horizon counts as never."""
    course = play(replace(STORM, admitted=0.1))
    assert course.all == inf
    assert course.half == inf
    assert course.moments[-1].at == pytest.approx(HORIZON)


def test_nobody_was_lost() -> None:
    """No storm, no course."""
    course = play(replace(STORM, lost=0))
    assert (course.half, course.all, course.refused, course.bound) == (0, 0, 0, "backoff")


@settings(max_examples=40, deadline=None)
@given(lost=st.floats(1, 1e5), nodes=st.integers(1, 100), cpu=st.floats(0, 0.7), admitted=st.floats(200, 5000))
def test_everybody_is_somewhere(lost: float, nodes: int, cpu: float, admitted: float) -> None:
    """Attempts are let in or refused, no tick lets in more than it can, and the share that is back only grows."""
    storm = Storm(lost=lost, nodes=nodes, cpu=cpu, accept=0.001, admitted=admitted, redis=1e9)
    course = play(storm)
    back = [it.back for it in course.moments]
    assert back == sorted(back)
    assert back[-1] <= 1 + 1e-6
    tried = sum(it.tried for it in course.moments) * 0.25
    assert tried == pytest.approx(course.refused + back[-1] * lost, rel=1e-6)
    assert all(it.let_in * 0.25 <= admitted * nodes * 1.25 + 1e-6 for it in course.moments)
    assert course.half <= course.most <= course.all
    assert back[-1] >= BACK


@settings(max_examples=20, deadline=None)
@given(lost=st.floats(1000, 1e6), more=st.floats(1.5, 5))
def test_more_accepts_bring_them_back_sooner(lost: float, more: float) -> None:
    """Twice the room never makes it last longer."""
    slow = play(replace(STORM, lost=lost, admitted=100))
    fast = play(replace(STORM, lost=lost, admitted=100 * more))
    assert fast.all <= slow.all + 0.25
