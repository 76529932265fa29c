from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.transports.admission import Admission
from gateway.transports.handshake import websocket_protocol
from gateway.transports.websocket import TAKE_OVER
from gateway.transports.wire import WebSocketLimits
from gateway.types import Peer
from tests.support.recorder import MemoryRecorder

App = Callable[[dict[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[None]]


class FakeLink:
    """A socket that keeps what happens to it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.written = b""

    def write(self, data: bytes) -> None:
        """Keep the bytes."""
        self.written += data

    def can_write_eof(self) -> bool:
        """Be like TLS."""
        return False

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Keep the name of any other call."""
        return lambda *_: self.calls.append(name)


class Stage:
    """One handshake for an application, without a server."""

    def __init__(self, app: App) -> None:
        self.admission = Admission()
        self.state = ServerState()
        self.link = FakeLink()
        self.admission.admit("10.0.0.1", 0.0)
        kind = websocket_protocol(WebSocketLimits(), admission=self.admission, recorder=MemoryRecorder())
        self.handshake = kind(cast("Config", SimpleNamespace(loaded_app=app)), self.state, {})
        scope = {"path": "/ws", "headers": [], "extensions": {}}
        self.handshake.begin(cast("asyncio.Transport", self.link), scope, Peer("10.0.0.1", "request-1"), b"")

    async def settle(self) -> None:
        """Wait until the route has returned."""
        await asyncio.gather(*self.state.tasks, return_exceptions=True)


async def test_a_client_that_is_gone_cannot_be_accepted() -> None:
    """The route learns it as an error, which is nobody's fault and not logged; the place is given back."""
    raised: list[Exception] = []

    async def app(_scope: object, receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[None]]) -> None:
        assert {"type": "websocket.connect"} == await receive()
        assert "websocket.disconnect" == (await receive())["type"]
        try:
            await send({"type": "websocket.accept"})
        except OSError as error:
            raised.append(error)
            raise

    stage = Stage(app)
    await asyncio.sleep(0)
    stage.handshake.connection_lost(None)
    with capture_logs() as logs:
        await stage.settle()

    assert [ConnectionResetError] == [type(error) for error in raised]
    assert [] == logs
    assert b"" == stage.link.written
    assert 0 == stage.admission.connections
    assert set() == stage.state.connections


async def test_a_client_that_is_gone_cannot_be_taken_over() -> None:
    """The same between acceptance and take-over."""

    async def app(scope: dict[str, Any], _receive: object, send: Callable[..., Awaitable[None]]) -> None:
        await send({"type": "websocket.http.response.start", "status": 400})
        stage.handshake.connection_lost(None)
        with pytest.raises(ConnectionResetError):
            scope["extensions"][TAKE_OVER](lambda _: None)

    stage = Stage(app)
    await stage.settle()

    assert b"" == stage.link.written


async def test_a_cancelled_route_leaves_no_socket_behind() -> None:
    """When the server cancels a route that has not decided, the link is aborted."""

    async def app(*_: object) -> None:
        await asyncio.Event().wait()

    stage = Stage(app)
    await asyncio.sleep(0)
    for task in stage.state.tasks:
        task.cancel()
    await stage.settle()

    assert ["pause_reading", "set_protocol", "abort"] == stage.link.calls


async def test_the_socket_is_given_away_after_accepting_and_once() -> None:
    """A take-over before the acceptance is an error of the route: 500."""

    async def app(scope: dict[str, Any], *_: object) -> None:
        scope["extensions"][TAKE_OVER](lambda _: None)

    stage = Stage(app)
    with capture_logs() as logs:
        await stage.settle()

    assert stage.link.written.startswith(b"HTTP/1.1 500 ")
    assert ["handshake.failed"] == [entry["event"] for entry in logs]


async def test_where_the_socket_cannot_be_half_closed_it_is_closed() -> None:
    """As under TLS: the refusal is written, the link closed, and aborted if that takes too long."""

    async def app(*_: object) -> None:
        return

    stage = Stage(app)
    await stage.settle()
    stage.handshake.shutdown()  # has nothing left to say

    assert 1 == stage.link.written.count(b"HTTP/1.1 403 ")
    assert ["pause_reading", "set_protocol", "close"] == stage.link.calls
    stage.handshake.connection_lost(None)
