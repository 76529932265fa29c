"""How long SDKs wait before they try again: exponential, with jitter, capped."""

from __future__ import annotations

import random
from typing import Final

LEAST: Final = 0.5  # seconds
MOST: Final = 20.0
STEPS: Final = 16  # beyond which it does not grow


class Backoff:
    """Of one client, for one purpose."""

    __slots__ = ("_rng", "_tries")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait before the next try."""
        most = LEAST * 2.0 ** min(self._tries, STEPS)
        self._tries += 1
        return min(MOST, LEAST + self._rng.uniform(0.0, min(MOST, most)))

    def succeeded(self) -> None:
        """Begin anew."""
        self._tries = 0
