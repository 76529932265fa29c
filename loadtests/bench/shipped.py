"""The gateway as it is shipped: with its hot path compiled, where that has been built (`make compiled`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COMPILED: Final = Path(sys.prefix) / "compiled"
INTERPRETED: Final = "LOAD_INTERPRETED"
_STAMP: Final = COMPILED / ".stamp"


class StaleError(RuntimeError):
    """The compiled gateway is older than its source: figures would be of code that is gone."""


def environ() -> Mapping[str, str]:
    """Return the environment in which Python runs the gateway as it is shipped.

    Nothing is returned, and it runs as it is written, if it has not been compiled since it was changed, or if
    `LOAD_INTERPRETED` is set.
    """
    if os.environ.get(INTERPRETED) or not _STAMP.exists() or _newer():
        return {}
    # Or the folder one stands in would come first, and with it the source.
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{COMPILED}:{ROOT}"}


def how() -> str:
    """Return `compiled` or `interpreted`. Raises StaleError."""
    if not os.environ.get(INTERPRETED) and _STAMP.exists() and (newer := _newer()):
        older = f"the compiled gateway is older than {newer.relative_to(ROOT)}"
        raise StaleError(f"{older}: run `make compiled`, or set {INTERPRETED}=1")
    return "compiled" if environ() else "interpreted"


def _newer() -> Path | None:
    built = _STAMP.stat().st_mtime
    return next((it for it in (ROOT / "gateway").rglob("*.py") if it.stat().st_mtime > built), None)
