"""Numbers as people read them: counts, bytes, bits a second, times and shares, and ranges of these."""

from __future__ import annotations

from collections.abc import Callable
from math import isinf
from typing import Final, TypeAlias

from loadtests.plan.workload import PlanError

Words: TypeAlias = Callable[[float], str]

UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
EXACT: Final = 1e5  # from here on three digits say enough


def parsed(text: str) -> float:
    """Return a number that may end in k, M or G and may hold `_`. Raises PlanError."""
    unit = text[-1:] if text[-1:] in UNITS else ""
    try:
        return float(text.removesuffix(unit)) * UNITS[unit]
    except ValueError:
        raise PlanError(f"{text!r} is no number; these are: 250000, 250_000, 250k, 0.25M") from None


def count(value: float) -> str:
    """Return `7`, `12,300`, `1.2 M`."""
    if isinf(value):
        return "never ends"
    if value >= EXACT:
        unit = "G" if value >= 1e9 else "M" if value >= 1e6 else "k"
        return f"{_short(value / UNITS[unit])} {unit}"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def bits(value: float) -> str:
    """Return `3.2 Gbit/s`, from bits a second."""
    return _scaled(value, 1000, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))


def size(value: float) -> str:
    """Return `1.5 GiB`, from bytes."""
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def share(value: float) -> str:
    """Return `12 %`."""
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 1 or not percent else f"{percent:.1g} %"


def seconds(value: float) -> str:
    """Return `12 s`, `3 min`, `never`."""
    if isinf(value):
        return "never"
    return f"{value:.0f} s" if value < 300 else f"{value / 60:.0f} min"


def spanned(low: float, value: float, high: float | None, words: Words) -> str:
    """Return `12 (9-17)`; `12` alone if there is no more to say."""
    spread = between(low, value, high, words)
    return f"{words(value)} ({spread})" if spread else words(value)


def between(low: float, value: float, high: float | None, words: Words) -> str:
    """Return `9-17`, `9-?` if the upper end cannot be done, nothing if all read the same.

    What more servers take off may be less at the upper end of the costs than in the middle, so ends are put in order.
    """
    known = (low, value) if high is None else (low, value, high)
    ends = [words(min(known)), "?" if high is None else words(max(known))]
    return "" if ends[0] == ends[1] == words(value) else "-".join(ends)


def _scaled(value: float, step: float, units: tuple[str, ...]) -> str:
    at = 0
    while at < len(units) - 1 and value >= step:
        value, at = value / step, at + 1
    return f"{_short(value)} {units[at]}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2g}"
