from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocket

from gateway.disconnects import Disconnect
from gateway.transports import asgi
from tests.support.socketapp import Attached, RecordingReceiver


class Channel:
    """ASGI's two callables: `receive` gives what the test puts, `send` blocks or fails as the test wants."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.fail = False
        self.websocket = WebSocket({"type": "websocket", "headers": []}, self.incoming.get, self._send)
        self.incoming.put_nowait({"type": "websocket.connect"})

    async def _send(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            if self.fail:
                raise OSError("gone")
            await asyncio.Event().wait()


async def _serve(channel: Channel) -> tuple[asyncio.Task[None], RecordingReceiver]:
    attached = Attached()
    task = asyncio.ensure_future(asgi.serve(channel.websocket, subprotocol=None, attach=attached))
    return task, await attached.next()


async def test_a_receiver_that_never_stops_writing_loses_the_link() -> None:
    """The buffer is bounded, also against our own side."""
    task, receiver = await _serve(Channel())
    for _ in range(2 * asgi.HARD_LIMIT // 60_000):
        receiver.say(b"x" * 60_000)
    async with asyncio.timeout(5):
        await task

    assert [False] == receiver.writables
    assert [(None, "server")] == receiver.losses
    assert asgi.HARD_LIMIT + 120_000 > receiver.transport.backlog()


async def test_one_write_beyond_the_limit_is_no_arrears() -> None:
    """The first write may be of any size; the second one comes from somebody who does not listen."""
    task, receiver = await _serve(Channel())
    receiver.say(b"x" * (asgi.HARD_LIMIT + 1))
    assert [False] == receiver.writables
    assert [] == receiver.losses
    receiver.say(b"more")
    async with asyncio.timeout(5):
        await task

    assert [(None, "server")] == receiver.losses


async def test_a_server_that_does_not_take_our_close_is_left_after_the_grace() -> None:
    """A blocked `send` does not hold the route for ever."""
    task, receiver = await _serve(Channel())
    receiver.say(b"stuck")
    receiver.transport.close(Disconnect(3008, "slow"), 0.01)
    await task

    assert [(3008, "server")] == receiver.losses


async def test_a_server_that_fails_to_send() -> None:
    """Its error means that the client is gone; no code was said."""
    channel = Channel()
    task, receiver = await _serve(channel)
    channel.fail = True
    receiver.say(b"hello")
    await task

    assert [(None, "network")] == receiver.losses


async def test_a_link_that_broke() -> None:
    """1006 is no code of a close frame, but the server's word for a broken link."""
    channel = Channel()
    task, receiver = await _serve(channel)
    channel.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await task

    assert [(None, "network")] == receiver.losses


async def test_a_client_that_leaves_while_it_is_held() -> None:
    """Nobody waits for a receiver that reads no more, or a server that goes down would."""
    channel = Channel()
    task, receiver = await _serve(channel)
    receiver.transport.hold_reading(hold=True)
    channel.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    async with asyncio.timeout(5):
        await task

    assert [(1001, "client")] == receiver.losses


async def test_a_cancelled_route() -> None:
    """A server that goes down cancels the route; the receiver hears of it all the same."""
    task, receiver = await _serve(Channel())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert 1 == len(receiver.losses)
