"""How the layers below the metrics count and measure, without knowing Prometheus."""

from __future__ import annotations

from typing import Protocol


class Recorder(Protocol):
    """Counts and measures under the short names of the table in `gateway/metrics.py`; a wrong name raises KeyError.

    Cheap enough for once per publication or per turn of the loop; never called per delivery.
    """

    __slots__ = ()

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        """Add to a counter; `label` is from a small fixed set, or empty where the counter has none."""

    def observe(self, name: str, seconds: float) -> None:
        """Put one value into a histogram."""
