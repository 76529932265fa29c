"""The last calls of links that are gone: when very many go at once, those who stay do not wait for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

TURN_SECONDS: Final = 0.002  # of one turn of the loop; two thousand at once held it for half a second


class Partings:
    """Makes the calls in order: at once while a turn has time for it, then in the next turns."""

    __slots__ = ("_booked", "_now", "_spent", "_waiting")

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0  # seconds of this turn
        self._booked = False

    def part(self, last: Callable[[], None]) -> None:
        """Make one more call, which must not raise."""
        self._waiting.append(last)
        if not self._booked:
            self._book()
        self._work()

    def _turn(self) -> None:
        self._booked = False
        self._spent = 0.0
        if self._waiting:
            self._book()
            self._work()

    def _book(self) -> None:
        self._booked = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _work(self) -> None:
        while self._waiting and self._spent < TURN_SECONDS:
            began = self._now()
            self._waiting.popleft()()
            self._spent += self._now() - began
