"""How near to a promised time a test must see it: exactly on a quiet machine, some times as long elsewhere.

Limits of a few milliseconds are those of a machine of one's own. On one that is shared somebody else's work, or a host
that takes its core away, may cost a loop tens of them once, whatever the code does; a fault in the code costs hundreds.
"""

from __future__ import annotations

_exact = False


def be_exact(wanted: bool) -> None:
    """Hold every limit as it is promised; `--standard-load` does."""
    global _exact  # noqa: PLW0603 - what the command line says holds for the whole run
    _exact = wanted


def within(limit: float, *, otherwise: float) -> float:
    """Return the limit as promised, or so many times of it on a machine of which nothing is known; any unit."""
    return limit if _exact else limit * otherwise
