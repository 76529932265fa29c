"""A whole node in this process on real sockets, asked to stop as a signal would; and clients who answer a close."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from gateway.app import Gateway, create_gateway
from gateway.listening import listen
from gateway.server import Listener, ServerRules, serve_until_stopped
from gateway.settings import Settings
from gateway.stopping import Stop
from tests.support.rawsocket import CLOSE, DEADLINE, TEXT, RawSocket, ReceivedFrame, masked

KEY = "key"


@dataclass
class Serving:
    """A node on ports of its own."""

    made: Gateway
    url: str
    internal: str
    stop: Stop
    ending: asyncio.Task[None]
    http: httpx.AsyncClient

    async def ready(self) -> tuple[int, Any]:
        """Ask whether it wants traffic."""
        answered = await self.http.get(f"{self.internal}/health/ready")
        return answered.status_code, answered.json()

    async def until_ready(self) -> None:
        """Wait until it wants traffic."""
        async with asyncio.timeout(DEADLINE):
            while (await self.ready())[0] != 200:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)

    async def post(self, body: Any) -> httpx.Response:
        """Ask it to drain."""
        return await self.http.post(f"{self.internal}/api/drain", json=body, headers={"X-API-Key": KEY})

    async def ended(self) -> None:
        """Wait for its end."""
        async with asyncio.timeout(DEADLINE):
            await self.ending

    async def until(self, stage: str) -> None:
        """Wait until its drain has come so far."""
        async with asyncio.timeout(DEADLINE):
            while self.made.node.drain.stage.value != stage:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    *,
    split: bool = True,
    shared: str = "",
    engine: str = "memory://",
    prefix: str = "t",
    command_timeout: float = 1.5,
    client: Mapping[str, Any] | None = None,
    channel: Mapping[str, Any] | None = None,
    **shutdown: str,
) -> AsyncIterator[Serving]:
    """Run a node; without `split` all is served on one port, without settings of its clients everybody may come.

    `shared`: the URL of another node whose port is taken, too; "any" for a port that another node may take.
    """
    sections = {
        "client": client or {"insecure": True},
        "channel": channel or {},
        "http_api": {"key": KEY},
        "engine": {"url": engine, "prefix": prefix, "command_timeout": command_timeout},
        "http_server": {"internal_port": 0 if split else None, "connections_per_ip": 0},
        "shutdown": shutdown,
    }
    made = create_gateway(Settings.model_validate(sections))
    port = urlsplit(shared).port or 0
    sockets = [listen("127.0.0.1", port, reuse_port=bool(shared)), *(listen("127.0.0.1", 0) for _ in range(split))]
    listeners = [Listener(made.public, sockets[0], shared=bool(shared))]
    if made.internal is not None:
        listeners.append(Listener(made.internal, sockets[1], websockets=False))
    urls = [f"http://127.0.0.1:{it.getsockname()[1]}" for it in sockets]
    rules = ServerRules(recorder=made.metrics, admission=made.admission, drain=made.node.drain)
    stop, started = Stop(), asyncio.Event()
    ending = asyncio.create_task(serve_until_stopped(listeners, rules=rules, stop=stop, started=started.set))
    async with asyncio.timeout(DEADLINE):
        await started.wait()
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
        try:
            yield Serving(made, urls[0], urls[-1], stop, ending, http)
        finally:
            for _ in range(3):
                stop.ask()
            async with asyncio.timeout(DEADLINE):
                await ending


@dataclass
class Guest:
    """A client that answers the close frame, and knows when it came."""

    socket: RawSocket
    frames: list[ReceivedFrame] = field(default_factory=list)
    closed_at: float = 0.0

    def ask(self, **command: Any) -> bytes:
        """Build a command."""
        return masked(TEXT, json.dumps(command).encode())

    async def moved(self) -> int:
        """Read up to the close frame and answer it; return its code. The link must end without a reset."""
        while True:
            frame = await self.socket.frame()
            self.frames.append(frame)
            if frame.opcode == CLOSE:
                break
        self.closed_at = asyncio.get_running_loop().time()
        await self.socket.send(masked(CLOSE, frame.payload[:2]))
        assert b"" == await self.socket.rest()
        assert not self.socket.reset
        return frame.code

    def messages(self) -> list[Any]:
        """Return what was said before the close."""
        return [json.loads(line) for it in self.frames if it.opcode == TEXT for line in it.payload.splitlines()]


async def guest(url: str, *, room: str = "") -> Guest:
    """Connect a client that speaks Centrifuge JSON, and subscribe if a room is named."""
    it = Guest(await RawSocket.websocket(url, "/connection/websocket"))
    await it.socket.send(it.ask(id=1, connect={}))
    it.frames.append(await it.socket.frame())
    if room:
        await it.socket.send(it.ask(id=2, subscribe={"channel": room}))
        while not any(message.get("id") == 2 for message in it.messages()):
            it.frames.append(await it.socket.frame())
    return it
