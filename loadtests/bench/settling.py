"""Waits until everything that was published has arrived, so that nothing is left over for what is measured next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

GLANCE: Final = 0.01  # seconds between two looks


class Counting(Protocol):
    """Who publishes and takes deliveries, counted since the beginning."""

    published: int
    deliveries: int


async def settle(load: Counting, command: Sequence[str]) -> str:
    """Wait as `settle PATIENCE EACH` of `generator.c` does; return the line to print."""
    patience, each = float(command[0]), int(command[1])
    seen, stop = load.deliveries, time.monotonic() + patience
    while load.deliveries < load.published * each and time.monotonic() < stop:
        await asyncio.sleep(GLANCE)
        if seen != load.deliveries:
            seen, stop = load.deliveries, time.monotonic() + patience
    return f"settled {load.published} {load.deliveries}"
