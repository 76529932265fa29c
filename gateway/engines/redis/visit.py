"""Short visits to servers that know where others are: sentinels, the nodes of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.contracts.recorder import Recorder
from gateway.engines.redis.address import Address
from gateway.engines.redis.greeting import greet, plainly
from gateway.engines.redis.wire import Wire
from gateway.errors import EngineFault

ANSWERED_WITHIN: Final = 1.0  # seconds for everybody
STRAGGLERS: Final = 0.3  # seconds after the first answer for the others

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Word(Generic[T]):
    """What one of them said."""

    source: Address
    answer: T


async def canvass(
    addresses: Sequence[Address], question: Callable[[Wire, Address], Awaitable[T]], recorder: Recorder
) -> Sequence[Word[T]]:
    """Ask all at once, and return what came soon enough.

    Raises OSError that says of each why, when nobody answered.
    """
    asked = {asyncio.create_task(_visit(address, question, recorder)): address for address in addresses}
    try:
        answered = await _first_and_stragglers(set(asked))
        words = [Word(asked[it], it.result()) for it in answered if it.exception() is None]
        if not words:
            silent = TimeoutError()
            why = [_reason(task.exception() if task in answered else silent, who) for task, who in asked.items()]
            raise OSError("; ".join(dict.fromkeys(why)))
        return words
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _first_and_stragglers(asked: set[asyncio.Task[T]]) -> set[asyncio.Task[T]]:
    """Return what is done when all have answered, or some time after the first good answer."""
    loop = asyncio.get_running_loop()
    until = loop.time() + ANSWERED_WITHIN
    pending, done, good = asked, set[asyncio.Task[T]](), False
    while pending and (left := until - loop.time()) > 0:
        came, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        done |= came
        if not good and any(it.exception() is None for it in came):
            good = True
            until = min(until, loop.time() + STRAGGLERS)
    return done


async def _visit(address: Address, question: Callable[[Wire, Address], Awaitable[T]], recorder: Recorder) -> T:
    """Connect, ask, hang up. Raises OSError or EngineFault; cancelling hangs up."""
    clock = asyncio.get_running_loop().time
    wire = Wire(clock=clock, timeout=ANSWERED_WITHIN, recorder=recorder, pushed=lambda _push: None, lost=_nothing)
    try:
        await greet(wire, address, "visit")
        return await question(wire, address)
    finally:
        await wire.close()


def _reason(error: BaseException | None, address: Address) -> str:
    if isinstance(error, OSError | EngineFault):
        return plainly(error, str(address), ANSWERED_WITHIN)
    return f"{address}: {error}"


def _nothing(_why: str) -> None:
    """A visit that is cut short fails by its own question."""
