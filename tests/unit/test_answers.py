from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.answers import answer
from gateway.contracts.broker import Done
from gateway.errors import EngineFault


async def test_the_value_is_returned_and_arguments_are_passed_on() -> None:
    """A call that completes by callback can be awaited."""

    def add(one: int, two: int, done: Done[int]) -> None:
        asyncio.get_running_loop().call_soon(done, one + two)

    assert 5 == await answer(add, 2, 3)


async def test_a_fault_is_raised() -> None:
    """An EngineFault that is handed to `done` is raised by the await."""
    fault = EngineFault("down")

    def fail(done: Done[None]) -> None:
        asyncio.get_running_loop().call_soon(done, fault)

    with pytest.raises(EngineFault) as raised:
        await answer(fail)
    assert fault is raised.value


async def test_an_answer_after_cancelling_is_dropped() -> None:
    """The engine may finish its call after the waiter has gone."""
    asked: list[Done[Any]] = []
    task = asyncio.create_task(answer(asked.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asked[0]("late")
