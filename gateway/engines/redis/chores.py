"""The background tasks of an engine: kept, named, logged when they die, awaited at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Chores:
    """The one owner. A task that ends by itself is a fault that stays: it takes the node out of readiness."""

    def __init__(self) -> None:
        self.dead: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run this until `aclose`; returns what ends it before."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task.cancel

    def every(self, seconds: float, name: str, work: Callable[[], None]) -> None:
        """Call this again and again."""

        async def again() -> None:
            while True:
                await asyncio.sleep(seconds)
                work()

        self.start(name, again())

    async def aclose(self) -> None:
        """Cancel all and wait for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            log.error("engine.task_died", task=task.get_name(), exc_info=task.exception())
            self.dead.append(f"redis: background task {task.get_name()} died")
