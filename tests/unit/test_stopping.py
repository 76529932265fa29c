"""How work gives way to the operator, and what can be said of work that does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.stopping import DEEPEST, Stop, give_way, unless, where
from tests.support.deadlines import PATIENCE


async def _cling(released: asyncio.Event) -> None:
    while not released.is_set():
        with suppress(asyncio.CancelledError):
            await released.wait()


@asynccontextmanager
async def _ends_slowly() -> AsyncIterator[None]:
    yield
    await asyncio.Event().wait()


async def _generating() -> AsyncIterator[None]:
    async with _ends_slowly():
        yield


async def _outer() -> None:
    async for _ in _generating():
        pass


def _names(task: asyncio.Task[None]) -> list[str]:
    return [place.partition(" ")[0] for place in where(task)]


async def test_work_that_does_not_give_way_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling what suppresses it holds nobody for longer than was granted."""
    monkeypatch.setattr("gateway.stopping.UNWIND", 0.01)
    released, stop = asyncio.Event(), Stop()
    stop.ask()
    try:
        async with asyncio.timeout(PATIENCE):
            await unless(stop.asked, _cling(released))
    finally:
        released.set()


async def test_who_gives_way_is_not_named() -> None:
    """Of two that are cancelled, the one that goes on is returned; what the other one raises is dropped."""

    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("on purpose")

    released = asyncio.Event()
    clinging, failing = asyncio.create_task(_cling(released)), asyncio.create_task(fail())
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE):
            assert {clinging} == await give_way(clinging, failing, seconds=0.01)
    finally:
        released.set()
    assert failing.done()
    assert set() == await give_way(clinging)
    assert set() == await give_way()


async def test_where_a_task_waits() -> None:
    """Through coroutines, generators, context managers and another task, down to the innermost await."""
    inner = asyncio.create_task(_outer())

    async def wait_for_it() -> None:
        await inner

    task = asyncio.create_task(wait_for_it())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    names = _names(task)
    assert names[0].endswith("wait_for_it")
    assert ["_outer", "_generating", "_AsyncGeneratorContextManager.__aexit__", "_ends_slowly", "Event.wait"] == names[
        1:
    ]
    assert all(".py:" in place for place in where(task))
    await give_way(task)
    assert [] == where(task)


async def test_a_task_that_waits_very_deep_down() -> None:
    """What is told of it has an end: two tasks that wait for each other have none."""

    async def descend(steps: int) -> None:
        await (descend(steps - 1) if steps else asyncio.Event().wait())

    task = asyncio.create_task(descend(2 * DEEPEST))
    await asyncio.sleep(0)
    assert DEEPEST > len(where(task)) > DEEPEST / 2
    await give_way(task)
