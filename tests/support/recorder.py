"""A recorder that a test can look into."""

from __future__ import annotations

from collections import Counter


class MemoryRecorder:
    """Keeps every count and every observation."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.observations: list[tuple[str, float]] = []

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        """Add to a counter."""
        self.counts[name, label] += n

    def observe(self, name: str, seconds: float) -> None:
        """Keep one value."""
        self.observations.append((name, seconds))
