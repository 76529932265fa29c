"""Ends of waits that have none of their own: a fault then fails a test, and does not hang the run."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

PATIENCE: Final = 60.0  # seconds; what takes so long here never ends

T = TypeVar("T")


@asynccontextmanager
async def bounded(context: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a context, each within `PATIENCE`; the body takes as long as it likes.

    Two deadlines, not one that pauses: the two halves of a fixture run in tasks of their own.
    """
    stack = AsyncExitStack()
    async with asyncio.timeout(PATIENCE):
        entered = await stack.enter_async_context(context)
    try:
        yield entered
    finally:
        async with asyncio.timeout(PATIENCE):
            await stack.aclose()


async def said(
    process: asyncio.subprocess.Process, what: str, *, told: bytes | None = None, within: float = PATIENCE
) -> tuple[bytes, bytes]:
    """Wait for the end of a process and return what it wrote; one that does not end is killed, and named."""
    try:
        return await asyncio.wait_for(process.communicate(told), within)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"{what} did not end in {within:g} s") from None


@contextmanager
def killed_after(process: subprocess.Popen[Any], seconds: float) -> Iterator[None]:
    """Kill a process if the body takes longer: who reads from it, or waits for it, then sees its end."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
