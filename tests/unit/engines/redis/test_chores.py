from __future__ import annotations

import asyncio

from gateway.engines.redis.chores import Chores


async def test_a_task_that_dies_is_a_fault_that_stays() -> None:
    """Whether it raises or just ends, its name is among the dead."""
    chores, ended = Chores(), asyncio.Event()

    async def ends() -> None:
        ended.set()

    def raises() -> None:
        raise RuntimeError("a chore that fails")

    chores.start("ends", ends())
    chores.every(0.0, "raises", raises)
    async with asyncio.timeout(5):
        while len(chores.dead) < 2:  # noqa: ASYNC110 - turns of the loop are all that is waited for
            await asyncio.sleep(0)
    expected = {"redis: background task ends died", "redis: background task raises died"}
    assert expected == set(chores.dead)
    await chores.aclose()


async def test_closing_is_no_death() -> None:
    """Tasks that are cancelled at the end are awaited and not reported."""
    chores, cleaned = Chores(), asyncio.Event()

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    chores.start("long", long())
    await asyncio.sleep(0)
    await chores.aclose()
    assert cleaned.is_set()
    assert [] == chores.dead
