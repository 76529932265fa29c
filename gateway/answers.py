"""From callbacks to `await`: for work of several steps, and for HTTP requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar, TypeVarTuple, Unpack

from gateway.contracts.broker import Done
from gateway.errors import EngineFault

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


async def answer(call: Callable[[Unpack[Ts], Done[T]], None], *args: *Ts) -> T:
    """Make an engine call and wait for its `done`. Raises EngineFault.

    Cancelling is safe for the engine: the call goes on and its answer is dropped.
    """
    future: asyncio.Future[T | EngineFault] = asyncio.get_running_loop().create_future()

    def done(value: T | EngineFault) -> None:
        if not future.done():
            future.set_result(value)

    call(*args, done)
    value = await future
    if isinstance(value, EngineFault):
        raise value
    return value


async def answers(call: Callable[[Unpack[Ts], Done[T]], None], calls: Sequence[tuple[*Ts]]) -> list[T | EngineFault]:
    """Make many engine calls and wait until each was answered; faults stand in their places.

    Cancelling is safe as for `answer`. A task for each would cost more than the calls.
    """
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    came: dict[int, T | EngineFault] = {}

    def nth(place: int) -> Done[T]:
        def done(value: T | EngineFault) -> None:
            came[place] = value
            if len(came) == len(calls) and not future.done():
                future.set_result(None)

        return done

    if calls:
        for place, args in enumerate(calls):
            call(*args, nth(place))
        await future
    return [came[place] for place in range(len(calls))]
