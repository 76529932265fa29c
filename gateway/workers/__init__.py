"""Several nodes on one port: a small parent starts them, passes signals on, and starts again what died."""

from __future__ import annotations

from typing import Final

UP: Final = b"1"  # what a worker writes to its parent when all its ports answer
