"""Time that a test turns by hand."""

from __future__ import annotations


class ManualClock:
    """Stands still until told otherwise."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_800_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """Return the time for deadlines."""
        return self._monotonic

    def wall(self) -> float:
        """Return the Unix time."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let both clocks run on."""
        self._monotonic += seconds
        self._wall += seconds
