"""A client of either dialect on a real WebSocket, that sends one thing and waits for what it wants to hear."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE: Final = 20.0
PING: Final = "{}"  # of the Centrifuge protocol, and its answer


class Speaker:
    """One connection; `heard` is all that came, `closed_at` the wall clock when it was closed."""

    def __init__(self, link: ClientConnection) -> None:
        self.link = link
        self.heard: list[dict[str, Any]] = []
        self.closed_at = 0.0
        self.patience = PATIENCE  # seconds for anything to come
        self._came = asyncio.Event()
        self._refs = 0

    async def listen(self) -> None:
        """Take in what comes until the link is closed."""
        with suppress(ConnectionClosed):
            async for message in self.link:
                if message == PING:
                    await self.link.send(PING)
                    continue
                self.heard += map(json.loads, str(message).splitlines())
                self._came.set()
        self.closed_at = time.time()
        self._came.set()

    async def tell(self, **message: Any) -> None:
        """Send one message."""
        await self.link.send(json.dumps(message))

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Send a Centrifuge command and return its reply; a close is returned as its code."""
        self._refs += 1
        ref = self._refs
        with suppress(ConnectionClosed):
            await self.tell(id=ref, **command)
        return await self.hear(lambda it: it.get("id") == ref)

    async def hear(self, wanted: Callable[[Mapping[str, Any]], object], since: int = 0) -> dict[str, Any]:
        """Return the first message that is wanted, from the one with this number on; or how the link was closed."""
        async with asyncio.timeout(self.patience):
            while True:
                for message in self.heard[since:]:
                    if wanted(message):
                        return message
                if self.closed_at:
                    return {"closed": self.link.close_code}
                self._came.clear()
                await self._came.wait()

    async def closed(self) -> int:
        """Wait for the close and return its code."""
        return int((await self.hear(lambda _: False))["closed"])

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of a chat kind so far."""
        return [it for it in self.heard if it.get("type") == kind]

    def published(self) -> list[Any]:
        """Return the data of the publications that a Centrifuge client has heard."""
        return [it["push"]["pub"]["data"] for it in self.heard if "pub" in it.get("push", {})]


@asynccontextmanager
async def speaking(url: str, path: str = "/connection/websocket", **how: Any) -> AsyncIterator[Speaker]:
    """Connect to a node at this HTTP address."""
    async with connect(url.replace("http", "ws", 1) + path, proxy=None, **how) as link:
        speaker = Speaker(link)
        listening = asyncio.create_task(speaker.listen())
        try:
            yield speaker
        finally:
            await link.close()
            await listening


@asynccontextmanager
async def connected(url: str, token: str = "") -> AsyncIterator[Speaker]:
    """Connect in the Centrifuge dialect."""
    async with speaking(url) as speaker:
        answer = await speaker.ask(connect={"token": token} if token else {})
        assert "connect" in answer, answer
        yield speaker


def outcome(answer: Mapping[str, Any]) -> str:
    """Return what came of a command: ok, or the code of the error or of the close."""
    if "closed" in answer:
        return str(answer["closed"])
    return str(answer["error"]["code"]) if "error" in answer else "ok"
