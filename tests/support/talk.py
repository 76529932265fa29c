"""One node that talks all the time while servers fail, and another whose ears are checked for silent gaps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise

from gateway.errors import EngineFault
from gateway.protocol.values import Published, PublishOptions
from gateway.types import Channel, Publication
from tests.support.engines import GENEROUS, Node, outcome

KEPT = PublishOptions(history_size=10_000, history_ttl=60.0, history_meta_ttl=600.0)
EVERY = 0.005  # seconds


class Talk:
    """Publishes in all channels in turn; `faults` are those of publications, with when they were answered."""

    def __init__(self, node: Node, channels: Sequence[Channel]) -> None:
        self.faults: list[tuple[float, Channel, EngineFault]] = []
        self.done: list[tuple[float, Channel]] = []
        self.over = False
        self._node = node
        self._channels = channels

    async def go_on(self) -> None:
        """Talk until it is over; one publication at a time, the next whatever came of it."""
        while not self.over:
            for channel in self._channels:
                await self.say(channel)
                await asyncio.sleep(EVERY)

    async def say(self, channel: Channel) -> bool:
        """Publish once; return whether it succeeded."""
        answer = await outcome(self._node.engine.broker.publish, channel, b"{}", KEPT)
        now = time.monotonic()
        if isinstance(answer, Published):
            self.done.append((now, channel))
            return True
        self.faults.append((now, channel, answer))
        return False

    async def succeeds(self, count: int, channels: Iterable[Channel] | None = None) -> None:
        """Wait until so many more publications succeeded in each of these channels, or in all."""
        for channel in channels or self._channels:
            goal = self.successes(channel) + count
            async with asyncio.timeout(GENEROUS):
                while self.successes(channel) < goal:  # noqa: ASYNC110 - nothing would set an event
                    await asyncio.sleep(EVERY)

    def successes(self, channel: Channel) -> int:
        """Return how many publications succeeded in a channel."""
        return sum(1 for _, name in self.done if name == channel)

    def silence(self, channel: Channel) -> float:
        """Return the longest time without a success, in seconds."""
        times = [at for at, name in self.done if name == channel]
        return max(after - before for before, after in pairwise(times))


@asynccontextmanager
async def talking(node: Node, channels: Sequence[Channel]) -> AsyncIterator[Talk]:
    """Talk in the background; it has begun to succeed when the context is entered."""
    talk = Talk(node, channels)
    task = asyncio.create_task(talk.go_on())
    try:
        await talk.succeeds(5)
        yield talk
    finally:
        talk.over = True
        await task


def gaps(ears: Node, channel: Channel) -> list[tuple[Publication, Publication]]:
    """Return each pair of neighbours that do not follow each other, and nobody said that something may be missing."""
    found: list[tuple[Publication, Publication]] = []
    last: Publication | None = None
    for kind, *what in ears.sink.log:
        if kind == "suspect" and channel in what[0]:
            last = None
        elif kind == "published" and what[0] == channel:
            publication: Publication = what[1]
            if last is not None and (last.epoch, last.offset + 1) != (publication.epoch, publication.offset):
                found.append((last, publication))
            last = publication
    return found


async def heard(talk: Talk, ears: Node, channels: Iterable[Channel]) -> None:
    """Say one more thing in each channel, and wait until it is heard."""
    for channel in channels:
        before = len(ears.sink.data(channel))
        assert await talk.say(channel), talk.faults[-1]
        await ears.sink.until(lambda channel=channel, before=before: len(ears.sink.data(channel)) > before)  # type: ignore[misc] # mypy cannot infer a lambda with defaults
