"""Somebody who sits in many channels and writes down who comes and who goes, as the node tells it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect

from tests.support.newcomers import token

WATCHER = "watcher"  # the user


class Move(NamedTuple):
    """One connection that came or went; `at` in monotonic seconds."""

    at: float
    channel: str
    client: str
    user: str


@dataclass(slots=True)
class Watcher:
    """What was seen so far, in order; others than the watcher only."""

    joins: list[Move] = field(default_factory=list)
    leaves: list[Move] = field(default_factory=list)

    def left(self, since: float) -> dict[str, Move]:
        """Return who left, by connection."""
        return {it.client: it for it in self.leaves if it.at >= since}

    def take(self, push: dict[str, Any]) -> None:
        """Write down a join or leave."""
        for kind, moves in (("join", self.joins), ("leave", self.leaves)):
            info = push.get(kind, {}).get("info")
            if info is not None and info["user"] != WATCHER:
                moves.append(Move(time.monotonic(), push["channel"], info["client"], info["user"]))


async def _listen(link: ClientConnection, watcher: Watcher) -> None:
    async for message in link:
        for line in str(message).split("\n"):
            if line == "{}":
                await link.send("{}")
            else:
                answer = json.loads(line)
                assert "error" not in answer, answer
                watcher.take(answer.get("push", {}))
    raise ConnectionError(f"the watcher was closed: {link.close_code} {link.close_reason}")


@asynccontextmanager
async def watching(url: str, channels: Iterable[str]) -> AsyncIterator[Watcher]:
    """Watch channels of a node, whose URL begins with ws://; fails if the watcher lost its connection."""
    watcher = Watcher()
    async with connect(url, proxy=None, compression=None, ping_interval=None) as link:
        await link.send(json.dumps({"id": 1, "connect": {"token": token(WATCHER)}}))
        for number, channel in enumerate(channels, 2):
            await link.send(json.dumps({"id": number, "subscribe": {"channel": channel, "join_leave": True}}))
        task = asyncio.create_task(_listen(link, watcher))
        try:
            yield watcher
        finally:
            over = task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert not over, "the watcher went before the end"
