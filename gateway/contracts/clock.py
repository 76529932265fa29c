"""Where time comes from."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Seconds as floats."""

    def monotonic(self) -> float:
        """Return the time for deadlines."""

    def wall(self) -> float:
        """Return the Unix time, for tokens and publications."""
