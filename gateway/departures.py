"""What departed connections still have under way: the end of the node waits for it, nobody else does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, Protocol

import structlog

POLL: Final = 0.02  # seconds between two looks at what is still there

log = structlog.get_logger(__name__)


class Asking(Protocol):
    """A connection, as one that waits for answers."""

    in_flight: int  # engine calls


class Departures:
    """Counts the engine calls of who has gone: publications to be answered, presence to be removed."""

    __slots__ = ("_calls", "_unanswered")

    def __init__(self) -> None:
        self._calls = 0
        self._unanswered: deque[Asking] = deque()

    def expect(self) -> Callable[[object], None]:
        """Return the `done` of one engine call whose outcome matters to nobody; the engine counts its faults."""
        self._calls += 1
        return self._answered

    def left(self, connection: Asking) -> None:
        """Take note that a connection has gone, perhaps before all it had asked for was answered."""
        self._forget()
        if connection.in_flight:
            self._unanswered.append(connection)

    @property
    def calls(self) -> int:
        """How many calls are not answered yet."""
        return self._calls + sum(it.in_flight for it in self._unanswered)

    async def settled(self, tasks: Collection[asyncio.Task[None]], seconds: float) -> None:
        """Wait until all calls are answered and all tasks done; after `seconds` cancel the tasks."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while tasks or self.calls:  # noqa: ASYNC110 - they tell nobody, and it is once in a node's life
                    await asyncio.sleep(POLL)
        if tasks or self.calls:
            log.warning("node.departures_unsettled", tasks=len(tasks), calls=self.calls)
        pending = tuple(tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _answered(self, _: object) -> None:
        self._calls -= 1

    def _forget(self) -> None:
        """Look at two for each that leaves: all have their turn, and one that waits for long keeps nobody else here."""
        for _ in range(min(2, len(self._unanswered))):
            connection = self._unanswered.popleft()
            if connection.in_flight:
                self._unanswered.append(connection)
