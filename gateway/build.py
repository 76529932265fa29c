"""How this gateway was built: for `gateway --version`, and for a metric."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal


def build() -> Literal["compiled", "interpreted"]:
    """Return whether the hot path was compiled (see setup.py); its modules are found, not loaded."""
    hot = find_spec("gateway.hub")
    return "interpreted" if hot is None or str(hot.origin).endswith(".py") else "compiled"
