"""The WebSocket transport over plain ASGI: for other servers and for test clients.

The contract is the same, the means are not: a task writes, the route's coroutine reads for as long as the link
lives, and every frame is an awaited message. Pings are the server's own business, so `ping` is answered at once; the
kernel's buffer cannot be seen, so `backlog` counts what the server has not taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, MutableMapping
from struct import Struct
from typing import Any, Final

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.contracts.transport import Attach, Framing, Receiver
from gateway.disconnects import INTERNAL_ERROR, TOO_BIG, Disconnect
from gateway.transports.unattended import NOBODY, Initiator
from gateway.transports.upgrade import request_id
from gateway.types import Peer

HIGH_WATER: Final = 65_536
LOW_WATER: Final = HIGH_WATER // 4
HARD_LIMIT: Final = 4_194_304  # bytes; who goes on writing beyond it, told long since to stop, loses the link
MESSAGE_SIZE: Final = 65_536
CLOSE_TIMEOUT: Final = 2.0  # seconds
ABNORMAL: Final = 1006  # how servers say that there was no close frame

_header = Struct("!?I")
log = structlog.get_logger(__name__)


class AsgiFraming:
    """A flag for text and the length ahead of the payload: not a wire format, the transport takes it apart again."""

    name = "asgi"

    def frame(self, payload: bytes, text: bool) -> bytes:
        """Return the whole frame."""
        return _header.pack(text, len(payload)) + payload


FRAMING: Final = AsgiFraming()


async def serve(websocket: WebSocket, *, subprotocol: str | None, attach: Attach) -> None:
    """Accept and carry frames until the link is gone. Raises whatever `attach` raises; the client then gets 1011.

    Cancelling drops the link; `lost` is called all the same.
    """
    await websocket.accept(subprotocol=subprotocol)
    address = websocket.client.host if websocket.client else ""
    transport = AsgiTransport(websocket, Peer(address, request_id(websocket.scope["headers"])))
    try:
        receiver = attach(transport)
    except Exception:
        await websocket.close(INTERNAL_ERROR.code, INTERNAL_ERROR.reason)
        raise
    await transport.run(receiver)


class AsgiTransport:
    """One live link over ASGI's two channels."""

    framing: Framing = FRAMING

    def __init__(self, websocket: WebSocket, peer: Peer) -> None:
        self.peer = peer
        self._websocket = websocket
        self._receiver: Receiver = NOBODY
        self._outgoing: deque[bytes] = deque()
        self._backlog = 0
        self._paused = False
        self._open = True
        self._wake = asyncio.Event()  # for the writer: frames, or the end
        self._reading = asyncio.Event()
        self._reading.set()
        self._farewell: Disconnect | None = None
        self._code: int | None = None
        self._initiator: Initiator = "network"
        self._gone = asyncio.Event()

    # --- Transport: what the connection calls

    def write(self, frames: bytes) -> None:
        """Send whole frames."""
        if not self._open or not frames:
            return
        if self._backlog > HARD_LIMIT:  # before this write: a single one may be larger than that
            self.abort()
            return
        self._outgoing.append(frames)
        self._backlog += len(frames)
        self._wake.set()
        if self._backlog > HIGH_WATER and not self._paused:
            self._paused = True
            self._tell(self._receiver.writable, False)

    def backlog(self) -> int:
        """Return the bytes that the server has not taken."""
        return self._backlog

    def hold_reading(self, hold: bool) -> None:
        """Stop or resume taking messages from the server."""
        if hold and self._open:
            self._reading.clear()
        else:
            self._reading.set()

    def ping(self) -> None:
        """Take the server's word: it pings by itself, and says so when the client is gone."""
        if self._open:
            asyncio.get_running_loop().call_soon(self._ponged)

    def close(self, disconnect: Disconnect, grace: float) -> None:
        """Send what is queued and the close frame within `grace` seconds, else abort."""
        if not self._open:
            return
        self._leave(disconnect.code, "server")
        self._farewell = disconnect
        asyncio.get_running_loop().call_later(grace, self._gone.set)

    def abort(self) -> None:
        """Drop the link at once."""
        self._leave(None, "server")
        self._gone.set()

    # --- the life of the link

    async def run(self, receiver: Receiver) -> None:
        """Read and write until the client has gone, the close frame is out or somebody aborts."""
        self._receiver = receiver
        tasks = [asyncio.ensure_future(work()) for work in (self._read, self._write, self._gone.wait)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tell(receiver.lost, self._code, self._initiator)

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._disconnected(message.get("code"))  # though the receiver holds: it is let go
                return
            await self._reading.wait()
            if self._open:
                self._take(message)

    def _disconnected(self, code: int | None) -> None:
        if code == ABNORMAL:
            self._leave(None, "network")
        else:
            self._leave(code, "client")

    def _take(self, message: MutableMapping[str, Any]) -> None:
        text = message.get("text")
        payload = message["bytes"] if text is None else text.encode()
        if len(payload) > MESSAGE_SIZE:
            self.close(TOO_BIG, CLOSE_TIMEOUT)
        else:
            self._tell(self._receiver.received, payload, text is not None)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outgoing:
                    await self._send(self._outgoing.popleft())
                if self._farewell is not None:
                    await self._websocket.close(self._farewell.code, self._farewell.reason)
                    return
        except (WebSocketDisconnect, OSError, RuntimeError):  # the server's ways to say that the client is gone
            self._leave(None, "network")

    async def _send(self, frames: bytes) -> None:
        position = 0
        while position < len(frames):
            text, length = _header.unpack_from(frames, position)
            position += _header.size
            payload = frames[position : position + length]
            position += length
            await (self._websocket.send_text(payload.decode()) if text else self._websocket.send_bytes(payload))
        self._backlog -= len(frames)
        if self._paused and self._backlog <= LOW_WATER:
            self._paused = False
            if self._open:
                self._tell(self._receiver.writable, True)

    def _ponged(self) -> None:
        if self._open:
            self._tell(self._receiver.ponged)

    def _leave(self, code: int | None, initiator: Initiator) -> None:
        if self._open:
            self._open = False
            self._code, self._initiator = code, initiator
        self._reading.set()
        self._wake.set()

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        try:
            call(*args)
        except Exception:
            log.exception("connection.failed", address=self.peer.address, request_id=self.peer.request_id)
            self.close(INTERNAL_ERROR, CLOSE_TIMEOUT)
