"""How long clients wait before they try again."""

from __future__ import annotations

import random

import pytest

from loadtests.clients.backoff import LEAST, MOST, Backoff


class Extreme(random.Random):
    """Always draws one end."""

    def __init__(self, *, most: bool) -> None:
        super().__init__()
        self._most = most

    def uniform(self, a: float, b: float) -> float:
        """Return an end."""
        return b if self._most else a


def test_it_grows_up_to_a_cap() -> None:
    """Twice as long with each try, never longer than the cap, and anew after a success."""
    backoff = Backoff(Extreme(most=True))
    waits = [backoff.next() for _ in range(40)]
    assert [1.0, 1.5, 2.5, 4.5, 8.5, 16.5, MOST, MOST] == pytest.approx(waits[:8])
    assert max(waits) == MOST
    backoff.succeeded()
    assert backoff.next() == 1.0


def test_it_is_never_at_once() -> None:
    """However lucky one is."""
    backoff = Backoff(Extreme(most=False))
    assert {LEAST} == {backoff.next() for _ in range(10)}
