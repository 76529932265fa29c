"""What the operator asks of a running process, step by step, and how work gives way to it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, TypeVar

import structlog

GIVE_WAY: Final = 1.0  # seconds that a task has from its cancellation to its end; then it is left behind
UNWIND: Final = 15.0  # seconds for cancelled work that ends others in its turn, an application for one
DEEPEST: Final = 200  # awaits to look through; tasks that wait for each other make a circle
STEPS: Final = (asyncio.Task, CoroutineType, AsyncGeneratorType, GeneratorType)  # what leads on to the next await

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
    """Await `work`; None if `event` came first, and then the work is cancelled; if it goes on, it is left behind."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        await give_way(waiting, task, seconds=UNWIND)


async def give_way(*tasks: asyncio.Task[Any], seconds: float = GIVE_WAY) -> set[asyncio.Task[Any]]:
    """Cancel tasks, and return those that go on nevertheless, so many seconds later. What others raise is dropped."""
    for task in tasks:
        task.cancel()
    ended = asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait((ended,), timeout=seconds)
    return {task for task in tasks if not task.done()}


def where(task: asyncio.Task[Any]) -> list[str]:
    """Return where a task waits, its innermost await last: `get_stack` of a task knows the outermost alone."""
    places: list[str] = []
    step: Any = task
    for _ in range(DEEPEST):
        frame = None
        match step:
            case asyncio.Task():
                step = step.get_coro()
            case CoroutineType():
                frame, step = step.cr_frame, step.cr_await
            case AsyncGeneratorType():
                frame, step = step.ag_frame, step.ag_await
            case GeneratorType():
                frame, step = step.gi_frame, step.gi_yieldfrom
            case None:
                break
            case _:  # an iterator in between, of `__anext__` for one: the collector alone sees through it
                step = next((it for it in gc.get_referents(step) if isinstance(it, STEPS)), None)
        if frame is not None:
            places.append(f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})")
    return places
