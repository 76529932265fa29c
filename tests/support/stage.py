"""A running server with an application of its own, and what tests of the handshake look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.server import ServerRules, running
from gateway.transports.admission import Admission, TrustedProxies
from gateway.transports.http import HttpLimits
from gateway.transports.wire import WebSocketLimits
from tests.support.deadlines import bounded
from tests.support.rawsocket import DEADLINE, Head, RawSocket
from tests.support.recorder import MemoryRecorder
from tests.support.socketapp import Attached, Rooms


@dataclass(slots=True)
class Stage:
    """A running server and what a test looks at."""

    url: str
    rules: ServerRules
    recorder: MemoryRecorder
    attached: Attached
    rooms: Rooms

    async def waiting(self) -> None:
        """Wait until a route waits."""
        async with asyncio.timeout(DEADLINE):
            await self.rooms.waiting.wait()

    async def turn(self) -> None:
        """Wait until the server has answered somebody else: by then it has read what was there before."""
        _, other = await self.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        other.close()

    async def ask(self, request: bytes, source: str = "127.0.0.1") -> tuple[Head, RawSocket]:
        """Send bytes on a new connection and read the head of the answer."""
        client = await RawSocket.connect(self.url, source=source)
        await client.send(request)
        return await client.head(), client

    async def refused(self, request: bytes, source: str = "127.0.0.1") -> Head:
        """Send bytes and expect an answer that ends the connection."""
        head, client = await self.ask(request, source)
        await client.rest()
        return head


@asynccontextmanager
async def staged(
    *,
    http: HttpLimits | None = None,
    websocket: WebSocketLimits | None = None,
    admission: Admission | None = None,
    proxies: TrustedProxies | None = None,
    attached: Attached | None = None,
) -> AsyncIterator[Stage]:
    """Run a server with these rules; what is not named is as in production."""
    recorder = MemoryRecorder()
    rules = ServerRules(
        recorder=recorder,
        http=http or HttpLimits(),
        websocket=websocket or WebSocketLimits(),
        admission=admission or Admission(),
        proxies=proxies or TrustedProxies(),
        grace=0.1,
    )
    attached = attached or Attached()
    rooms = Rooms(attached)
    async with bounded(running(rooms.app, rules=rules)) as url:
        yield Stage(url, rules, recorder, attached, rooms)
    assert 0 == rules.admission.connections, "every admitted connection is given back"
