"""Writes numbers and names the way all reports write them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
MINUTE, HOUR = 60, 3600


def count(value: float) -> str:
    """Return a number of things: `12,345`."""
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """Return how many a second; few with their parts."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}".removesuffix(".0")


def latency(milliseconds: float | None) -> str:
    """Return it with three digits and its unit: `0.84 ms`, `12.3 ms`, `1,250 ms`; `never` for None."""
    if milliseconds is None:
        return "never"
    if milliseconds >= 100:
        return f"{milliseconds:,.0f} ms"
    return f"{milliseconds:.1f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def share(value: float) -> str:
    """Return what part of a core: `73 %`, `0.4 %`."""
    return f"{value:.0%}".replace("%", " %") if value >= 0.0995 else f"{value * 100:.1f} %"


def size(octets: float) -> str:
    """Return a size in bytes as people read it: `83.4 MiB`."""
    for unit, name in UNITS:
        if abs(octets) >= unit:
            return f"{octets / unit:,.1f} {name}"
    return f"{octets:,.0f} B"


def span(seconds: float) -> str:
    """Return a time: `20 s`, `10 min`, `1 h 30 min`."""
    whole = round(seconds)
    if whole < 2 * MINUTE:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    hours, rest = divmod(whole, HOUR)
    minutes, left = divmod(rest, MINUTE)
    return " ".join(f"{it} {unit}" for it, unit in ((hours, "h"), (minutes, "min"), (left, "s")) if it)


def number(value: float) -> str:
    """Return any number, with as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def named(name: str, value: float) -> tuple[str, str]:
    """Return a figure whose name ends with its unit (`back_95_seconds`) in words: `back 95`, `2.5 s`."""
    label, _, unit = name.rpartition("_")
    write = {"seconds": span, "ms": latency, "bytes": size}.get(unit)
    return (label.replace("_", " "), write(value)) if write and label else (name.replace("_", " "), number(value))


def field(profile: Mapping[str, Any], name: str) -> float:
    """Return a number of a profile; 0 where there is none: a file may hold anything."""
    value = profile.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def clean(text: str) -> str:
    """Return the text on one line, `\ufffd` for what could speak to a terminal or turn the line around."""
    return "".join(it if it.isprintable() else " " if it.isspace() else "\ufffd" for it in text)


def address(url: str) -> str:
    """Return where a node is, without what all such URLs share."""
    _, scheme, rest = url.partition("://")
    return (rest if scheme else url).removesuffix("/metrics")
