"""Requests that come all at once begin a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from starlette.types import Message, Receive, Scope, Send

from auth_service.api.turns import Turns


class Rounds:
    """Counts the turns of the loop, and notes in which of them each request began."""

    def __init__(self) -> None:
        self.turn = 0
        self.began: list[tuple[int, str]] = []

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Note a request."""
        self.began.append((self.turn, scope["path"]))

    async def count(self) -> None:
        """Count for ever."""
        while True:
            await asyncio.sleep(0)
            self.turn += 1


@asynccontextmanager
async def counting(rounds: Rounds) -> AsyncIterator[None]:
    """Count turns meanwhile."""
    task = asyncio.create_task(rounds.count())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _receive() -> Message:
    raise AssertionError


async def _send(_: Message) -> None:
    raise AssertionError


def request(turns: Turns, path: str, kind: str = "http") -> asyncio.Task[None]:
    """Send a request."""
    return asyncio.ensure_future(turns({"type": kind, "path": path}, _receive, _send))


async def test_a_burst_begins_a_few_at_a_time_in_order() -> None:
    """Of 50 requests at once no turn begins more than 8, each turn begins some, and the first come first."""
    rounds = Rounds()
    turns = Turns(rounds, at_once=8)
    async with counting(rounds):
        await asyncio.gather(*(request(turns, str(number)) for number in range(50)))
    assert [str(number) for number in range(50)] == [path for _, path in rounds.began]
    numbers = [turn for turn, _ in rounds.began]
    assert [8, 8, 8, 8, 8, 8, 2] == [numbers.count(turn) for turn in sorted(set(numbers))]
    assert all(later - earlier <= 2 for earlier, later in pairwise(sorted(set(numbers))))


async def test_whoever_comes_alone_does_not_wait() -> None:
    """One request after another begins in the turn in which it came."""
    rounds = Rounds()
    turns = Turns(rounds, at_once=1)
    for number in range(5):
        task = request(turns, str(number))
        await asyncio.sleep(0)
        assert number + 1 == len(rounds.began)
        await task


async def test_late_comers_do_not_overtake() -> None:
    """A request that comes while others wait takes its place behind them."""
    rounds = Rounds()
    turns = Turns(rounds, at_once=2)
    tasks = [request(turns, str(number)) for number in range(6)]
    for number in range(6, 12):
        await asyncio.sleep(0)
        tasks.append(request(turns, str(number)))
    await asyncio.gather(*tasks)
    assert [str(number) for number in range(12)] == [path for _, path in rounds.began]


async def test_those_who_left_hold_nobody_up() -> None:
    """Requests that are cancelled while they wait cost the others nothing."""
    rounds = Rounds()
    turns = Turns(rounds, at_once=2)
    tasks = [request(turns, str(number)) for number in range(12)]
    await asyncio.sleep(0)
    for task in tasks[2:10]:
        task.cancel()
    await asyncio.wait(tasks)
    assert ["0", "1", "10", "11"] == [path for _, path in rounds.began]
    await request(turns, "after")
    assert "after" == rounds.began[-1][1]


async def test_other_kinds_do_not_queue() -> None:
    """What is no request passes at once."""
    rounds = Rounds()
    turns = Turns(rounds, at_once=1)
    await asyncio.gather(*(request(turns, str(number), "lifespan") for number in range(5)))
    assert 1 == len({turn for turn, _ in rounds.began})
    assert 5 == len(rounds.began)
