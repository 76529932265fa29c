"""The ASGI side of a WebSocket handshake: a route decides, then gives the socket away or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar, Final

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.contracts.recorder import Recorder
from gateway.contracts.transport import Attach
from gateway.disconnects import INTERNAL_ERROR, Disconnect
from gateway.transports.admission import DRAINING, Admission, answer
from gateway.transports.link import WebSocketTransport
from gateway.transports.partings import Partings
from gateway.transports.unattended import NOBODY
from gateway.transports.upgrade import Scope, denial, switching
from gateway.transports.websocket import TAKE_OVER
from gateway.transports.wire import WebSocketLimits
from gateway.types import Peer

FORBIDDEN: Final = answer("403 Forbidden", "forbidden\n")
FAILED: Final = answer("500 Internal Server Error", "internal server error\n")

log = structlog.get_logger(__name__)


class _Phase(Enum):
    ASKED = 0  # nothing is answered yet
    REFUSING = 1  # a response has begun
    ACCEPTED = 2  # 101 is out, the socket is still ours
    TAKEN = 3  # the transport has it
    OVER = 4


class Handshake(asyncio.Protocol):
    """One handshake. Nothing is read from the socket until a transport has it: what comes early waits there.

    uvicorn knows it as its WebSocket protocol class; the subclass made by `websocket_protocol` carries the rules.
    """

    limits: ClassVar[WebSocketLimits]
    admission: ClassVar[Admission]
    partings: ClassVar[Partings]
    recorder: ClassVar[Recorder]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        """Take what uvicorn gives to every protocol; the state of the lifespan is in the scope already."""
        del app_state
        self._app = config.loaded_app
        self._connections: set[Any] = server_state.connections
        self._tasks = server_state.tasks
        self._phase = _Phase.ASKED
        self._asked = False
        self._gone = asyncio.Event()
        self._denial: tuple[int, list[tuple[bytes, bytes]]] = (0, [])
        self._body: list[bytes] = []
        self._taken: WebSocketTransport | None = None
        self._link: asyncio.Transport
        self._scope: Scope
        self._peer: Peer
        self._early = b""
        self._deadline: asyncio.TimerHandle | None = None

    def begin(self, link: asyncio.Transport, scope: Scope, peer: Peer, early: bytes) -> None:
        """Take over from the HTTP protocol; `early` is what followed the request in the same read."""
        link.pause_reading()
        self._link, self._scope, self._peer, self._early = link, scope, peer, early
        scope["extensions"][TAKE_OVER] = self._take_over
        link.set_protocol(self)
        self._connections.add(self)
        task = asyncio.get_running_loop().create_task(self._run(), name="handshake")
        task.add_done_callback(self._tasks.discard)
        self._tasks.add(task)

    # --- what the event loop and uvicorn call

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client went before anything was decided, or after a refusal."""
        self._phase = _Phase.OVER
        if self._deadline is not None:
            self._deadline.cancel()
        self._connections.discard(self)
        self.admission.release(self._peer.address)
        self._gone.set()

    def shutdown(self) -> None:
        """The server goes down."""
        if self._phase is _Phase.ACCEPTED:
            self._unattended(INTERNAL_ERROR)
        elif self._phase is not _Phase.TAKEN:
            self._refuse(DRAINING.choose())

    def abort(self) -> None:
        """Drop the link at once."""
        self._link.abort()

    # --- the ASGI application and its channels

    async def _run(self) -> None:
        """Root of one route: a raise ends as 500 or 1011, a return without an answer as 403 or 1011."""
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception as error:
            if not isinstance(error, ConnectionResetError) or not self._gone.is_set():
                log.exception("handshake.failed", path=self._scope["path"], request_id=self._peer.request_id)
            self._conclude(FAILED)
        else:
            self._conclude(FORBIDDEN)
        finally:
            if self._phase in (_Phase.ASKED, _Phase.REFUSING, _Phase.ACCEPTED):
                self._link.abort()  # cancelled
            self._scope = {}  # it refers back to us
            self._taken = None

    def _conclude(self, response: bytes) -> None:
        if self._phase in (_Phase.ASKED, _Phase.REFUSING):
            self._refuse(response)
        elif self._phase is _Phase.ACCEPTED:
            log.error("handshake.abandoned", path=self._scope["path"], request_id=self._peer.request_id)
            self._unattended(INTERNAL_ERROR)
        elif self._taken is not None and response is FAILED:
            self._taken.close(INTERNAL_ERROR, self.limits.close_timeout)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        await self._gone.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._gone.is_set():
            raise ConnectionResetError("the client went away during the handshake")
        match (self._phase, message["type"]):
            case (_Phase.ASKED, "websocket.accept"):
                self._accept(message.get("subprotocol"), message.get("headers") or ())
            case (_Phase.ASKED, "websocket.close"):
                self._refuse(FORBIDDEN)
            case (_Phase.ASKED, "websocket.http.response.start"):
                self._denial = (message["status"], list(message.get("headers") or ()))
                self._phase = _Phase.REFUSING
            case (_Phase.REFUSING, "websocket.http.response.body"):
                self._body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self._refuse(denial(*self._denial, b"".join(self._body)))
            case (_Phase.ACCEPTED, "websocket.close"):
                self._unattended(Disconnect(message.get("code") or 1000, message.get("reason") or ""))
            case _:
                raise RuntimeError(f"{message['type']} is not for a handshake: frames go through the transport")

    def _accept(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._link.write(switching(self._scope["headers"], subprotocol, headers))
        self._phase = _Phase.ACCEPTED

    def _refuse(self, response: bytes) -> None:
        """Answer; the link is aborted if the client does not take the answer in time."""
        if self._phase is _Phase.OVER:
            return
        self._phase = _Phase.OVER
        self._link.write(response)
        if self._link.can_write_eof():
            self._link.write_eof()  # closing with input unread would reset the link and lose the response
            self._link.resume_reading()
        else:
            self._link.close()
        self._deadline = asyncio.get_running_loop().call_later(self.limits.close_timeout, self._link.abort)

    # --- giving the socket away

    def _take_over(self, attach: Attach) -> None:
        if self._gone.is_set():
            raise ConnectionResetError("the client went away during the handshake")
        if self._phase is not _Phase.ACCEPTED:
            raise RuntimeError("accept first, and give the socket away once")
        transport = self._transport()
        self.recorder.count("handshakes", "ok")
        try:
            transport.attach(attach, self._early)
        except Exception:
            transport.close(INTERNAL_ERROR, self.limits.close_timeout)
            raise

    def _unattended(self, disconnect: Disconnect) -> None:
        """Close an accepted link that has no connection behind it."""
        transport = self._transport()
        transport.attach(lambda _: NOBODY, b"")
        transport.close(disconnect, self.limits.close_timeout)

    def _transport(self) -> WebSocketTransport:
        self._phase = _Phase.TAKEN
        self._connections.discard(self)
        self._taken = WebSocketTransport(
            self._link,
            peer=self._peer,
            limits=self.limits,
            admission=self.admission,
            connections=self._connections,
            partings=self.partings,
            recorder=self.recorder,
        )
        return self._taken


def websocket_protocol(limits: WebSocketLimits, *, admission: Admission, recorder: Recorder) -> type[Handshake]:
    """Make the class that uvicorn takes as `ws`; it works together with that of `http_protocol` only."""
    rules = {"limits": limits, "admission": admission, "partings": Partings(), "recorder": recorder}
    return type("GatewayHandshake", (Handshake,), rules)
