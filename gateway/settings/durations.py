"""Spans of time as people write them: `300s`, `1h30m`, or a bare number of seconds."""

from __future__ import annotations

import math
import re
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")
_WRONG: Final = 'should be a duration such as "25s", "1h30m" or "200ms" (a bare number counts seconds)'


def parse_duration(value: object) -> float:
    """Return seconds. Raises ValueError for anything that is no finite span of time, negative ones included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(_WRONG)  # noqa: TRY004 - pydantic makes a fault of a ValueError only
    seconds = _parse_text(value.strip()) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(_WRONG)
    return seconds


def _parse_text(text: str) -> float:
    if _WHOLE.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    try:
        return float(text)
    except ValueError:
        raise ValueError(_WRONG) from None


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads back as the same span, to the millisecond."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


Seconds = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str, when_used="json")
]
"""A setting that is a span of time; the value is seconds."""
