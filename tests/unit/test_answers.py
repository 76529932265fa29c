from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.answers import answer, answers
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


async def test_many_answers_stand_in_the_order_of_the_calls() -> None:
    """However they come, and with faults in their places; no call is no wait."""
    asked: list[tuple[int, Done[int]]] = []
    task = asyncio.create_task(answers(lambda number, done: asked.append((number, done)), [(1,), (2,), (3,)]))
    await asyncio.sleep(0)
    fault = EngineFault("down")
    for number, done in reversed(asked):
        assert not task.done()
        done(fault if number == 2 else number * 10)
    assert [10, fault, 30] == await task
    assert [] == await answers(lambda _number, _done: None, [])


async def test_many_answers_after_cancelling_are_dropped() -> None:
    """The engine may finish its calls after the waiter has gone."""
    asked: list[Done[int]] = []
    task = asyncio.create_task(answers(lambda _, done: asked.append(done), [(1,)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asked[0](1)
