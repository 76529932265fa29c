from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.transports.partings import TURN_SECONDS, Partings


class Slow:
    """Last calls that take a known time, by a clock that only they move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made: list[int] = []
        self.partings = Partings(now=lambda: self.now)

    def part(self, *numbers: int, seconds: float) -> None:
        """Have so many calls made."""
        for number in numbers:
            self.partings.part(self._call(number, seconds))

    def _call(self, number: int, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds
            self.made.append(number)

        return call


async def turn() -> None:
    """Let the loop go round once."""
    await asyncio.sleep(0)


async def test_a_few_are_over_at_once() -> None:
    """Who goes alone is gone when the call returns, as everybody would expect."""
    slow = Slow()
    slow.part(1, 2, 3, seconds=TURN_SECONDS / 4)
    assert [1, 2, 3] == slow.made


async def test_many_are_spread_over_turns_in_their_order() -> None:
    """A turn makes calls until its time is spent, and newcomers go behind those who wait."""
    slow = Slow()
    slow.part(1, 2, 3, 4, 5, seconds=TURN_SECONDS * 0.6)
    assert [1, 2] == slow.made
    slow.part(6, seconds=TURN_SECONDS * 0.6)
    assert [1, 2] == slow.made
    await turn()
    assert [1, 2, 3, 4] == slow.made
    await turn()
    assert [1, 2, 3, 4, 5, 6] == slow.made


async def test_a_new_turn_has_all_its_time() -> None:
    """What a turn has spent is forgotten with it, also when nobody was left over."""
    slow = Slow()
    slow.part(1, seconds=TURN_SECONDS)
    slow.part(2, seconds=0.0)
    assert [1] == slow.made
    await turn()
    assert [1, 2] == slow.made
    await turn()
    slow.part(3, seconds=0.0)
    assert [1, 2, 3] == slow.made


async def test_one_that_takes_long_does_not_stop_the_next() -> None:
    """A call longer than a turn may be is made whole; the next one has its own turn."""
    slow = Slow()
    slow.part(1, 2, seconds=TURN_SECONDS * 10)
    assert [1] == slow.made
    await turn()
    assert [1, 2] == slow.made
