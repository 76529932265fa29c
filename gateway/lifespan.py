"""The lifespan of an ASGI application as its server sees it: a failed start is raised, not printed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message

from gateway.stopping import give_way, where

END: Final = 10.0  # seconds that an application has for its end; then it is cancelled

log = structlog.get_logger(__name__)


class Lifespan:
    """Stands in for uvicorn's own, which logs a traceback and exits."""

    should_exit = False  # uvicorn looks at it after `startup`, which raises instead

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Start the application. Raises what it raises; when cancelled, it first ends the application."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._events.put_nowait({"type": "lifespan.startup"})
        task = asyncio.create_task(self._run(scope), name="lifespan")
        up = asyncio.ensure_future(self._up.wait())
        try:
            await asyncio.wait((task, up), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await _ended(task)
            raise
        finally:
            up.cancel()
        if task.done():
            task.result()
        self._task = task

    async def shutdown(self) -> None:
        """End the application; what it raises is logged. One that does not end is left behind.

        After END seconds, and when this is cancelled, the application is cancelled.
        """
        if self._task is None:
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        await _ended(self._task)

    async def _run(self, scope: dict[str, Any]) -> None:
        await self._app(scope, self._events.get, self._heard)

    async def _heard(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._up.set()


class NoLifespan(Lifespan):
    """For an application whose lifespan is somebody else's."""

    async def startup(self) -> None:
        """Do nothing."""


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for an application that was told to end, see `Lifespan.shutdown`."""
    try:
        await asyncio.wait((task,), timeout=END)
        if not task.done():
            log.error("lifespan.hangs", seconds=END, at=where(task))
    finally:
        if not await give_way(task) and not task.cancelled() and (error := task.exception()):
            log.error("lifespan.failed", exc_info=error)
