"""A tiny application with a WebSocket route, and receivers to look into: for tests of transports and server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from gateway.contracts.transport import Attach, Receiver, Transport
from gateway.transports import websocket as websocket_transport
from tests.support.rawsocket import DEADLINE

Serve: TypeAlias = Callable[..., Awaitable[None]]


class RecordingReceiver:
    """Keeps all that a transport tells; `seen` waits until enough was told."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.messages: list[tuple[bytes, bool]] = []
        self.pongs = 0
        self.writables: list[bool] = []
        self.losses: list[tuple[int | None, str]] = []
        self.on_received: Callable[[bytes], None] = lambda _payload: None
        self._changed = asyncio.Event()

    def received(self, payload: bytes, text: bool) -> None:
        """Keep a message, then do what the test wants."""
        self.messages.append((payload, text))
        self._changed.set()
        self.on_received(payload)

    def ponged(self) -> None:
        """Count."""
        self.pongs += 1
        self._changed.set()

    def writable(self, yes: bool) -> None:
        """Keep."""
        self.writables.append(yes)
        self._changed.set()

    def lost(self, code: int | None, initiator: Literal["client", "server", "network"]) -> None:
        """Keep."""
        self.losses.append((code, initiator))
        self._changed.set()

    def say(self, payload: bytes, text: bool = True) -> None:
        """Write one message."""
        self.transport.write(self.transport.framing.frame(payload, text))

    async def seen(self, enough: Callable[[], object]) -> None:
        """Wait, for a bounded time, until `enough()` is true."""
        async with asyncio.timeout(DEADLINE):
            while not enough():
                self._changed.clear()
                await self._changed.wait()


class EchoReceiver(RecordingReceiver):
    """Sends every message back and keeps none."""

    def received(self, payload: bytes, text: bool) -> None:
        """Send it back."""
        self.say(payload, text)


class Attached:
    """Collects the receivers that a route attaches, in order."""

    def __init__(self, make: Callable[[Transport], RecordingReceiver] = RecordingReceiver) -> None:
        self._make = make
        self._new: asyncio.Queue[RecordingReceiver] = asyncio.Queue()
        self.all: list[RecordingReceiver] = []

    def __call__(self, transport: Transport) -> Receiver:
        """Be an `Attach`."""
        receiver = self._make(transport)
        self.all.append(receiver)
        self._new.put_nowait(receiver)
        return receiver

    async def next(self) -> RecordingReceiver:
        """Wait for the next one."""
        async with asyncio.timeout(DEADLINE):
            return await self._new.get()


class Rooms:
    """Routes for every way a handshake can end."""

    def __init__(self, attach: Attach, *, serve: Serve = websocket_transport.serve) -> None:
        self._attach = attach
        self._serve = serve
        self.waiting = asyncio.Event()  # a route waits: for the test, its client or the end of the server
        self.go = asyncio.Event()  # the test lets the route `/late` go on
        self.app = Starlette(
            routes=[
                Route("/plain", self.plain, methods=["GET", "POST"]),
                WebSocketRoute("/", self.taken),
                WebSocketRoute("/ws", self.taken),
                WebSocketRoute("/raises", self.raises),
                WebSocketRoute("/returns", self.returns),
                WebSocketRoute("/denies", self.denies),
                WebSocketRoute("/abandons", self.abandons),
                WebSocketRoute("/closes", self.closes),
                WebSocketRoute("/sends", self.sends),
                WebSocketRoute("/late", self.late),
                WebSocketRoute("/waits", self.waits),
                WebSocketRoute("/half", self.half),
                WebSocketRoute("/dawdles", self.dawdles),
            ]
        )

    async def plain(self, request: Request) -> Response:
        """Say who asks."""
        assert request.client is not None
        return PlainTextResponse(f"{request.client.host} {request.url.scheme}")

    async def taken(self, websocket: WebSocket) -> None:
        """Give the socket away; the first subprotocol offered is taken."""
        offered = websocket.scope["subprotocols"]
        await self._serve(websocket, subprotocol=offered[0] if offered else None, attach=self._attach)

    async def raises(self, _websocket: WebSocket) -> None:
        """Fail before accepting."""
        raise LookupError("on purpose")

    async def returns(self, _websocket: WebSocket) -> None:
        """Answer nothing."""

    async def denies(self, websocket: WebSocket) -> None:
        """Refuse with a response of its own."""
        await websocket.send_denial_response(PlainTextResponse("teapot", 418, {"X-Why": "because", "Retry-After": "7"}))

    async def abandons(self, websocket: WebSocket) -> None:
        """Accept and give the socket to nobody."""
        await websocket.accept()

    async def closes(self, websocket: WebSocket) -> None:
        """Accept only to say why not."""
        await websocket.accept()
        await websocket.close(3500, "invalid token")

    async def sends(self, websocket: WebSocket) -> None:
        """Use the socket as if this were plain ASGI."""
        await websocket.accept()
        await websocket.send_text("hello")

    async def late(self, websocket: WebSocket) -> None:
        """Give the socket away when the test says so."""
        self.waiting.set()
        await self.go.wait()
        await self._serve(websocket, subprotocol=None, attach=self._attach)

    async def waits(self, websocket: WebSocket) -> None:
        """Decide nothing."""
        await websocket.receive()
        self.waiting.set()
        await websocket.receive()

    async def half(self, websocket: WebSocket) -> None:
        """Begin to refuse, and do not end."""
        await websocket.send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        self.waiting.set()
        await asyncio.Event().wait()

    async def dawdles(self, websocket: WebSocket) -> None:
        """Accept and keep the socket."""
        await websocket.accept()
        self.waiting.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def stock_uvicorn(app: Starlette) -> AsyncIterator[str]:
    """Serve on uvicorn as it comes, on a free port."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=65_536,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=5,  # or a test that fails while a link stands would wait here for ever
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[sock])
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        await server.shutdown(sockets=[sock])
