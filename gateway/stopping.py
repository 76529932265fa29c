"""What the operator asks of a running process, step by step, and how work gives way to it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Stop:
    """What the operator asks for: first to stop, then to hurry, then to leave everything behind."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self.forced = asyncio.Event()

    def ask(self) -> None:
        """Go one step further: a signal arrived."""
        for step in (self.asked, self.hurried, self.forced):
            if not step.is_set():
                log.info("server.stopping", hurry=step is not self.asked)
                step.set()
                return


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Await `work`; None if `event` came first, and then the work is cancelled."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
