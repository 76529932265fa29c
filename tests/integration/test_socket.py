"""The socket after the take-over, bare: broken rules, floods, clients that do not read."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from pathlib import Path

import pytest

from gateway.disconnects import Disconnect
from gateway.transports.link import HEARD_OUT
from gateway.transports.wire import WebSocketLimits
from tests.support.exactness import within
from tests.support.rawsocket import CLOSE, DEADLINE, PING, PONG, TEXT, Head, RawSocket, masked, on_uvloop, upgrade
from tests.support.socketapp import Attached, EchoReceiver
from tests.support.stage import Stage, staged


def _resident() -> int:
    """Return the bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@on_uvloop
async def test_no_delay() -> None:
    """Small frames are not held back by the kernel, and what was set on the listening socket is inherited."""
    async with staged() as stage:
        client = await RawSocket.websocket(stage.url)
        receiver = await stage.attached.next()
        link = receiver.transport._link.get_extra_info("socket")  # type: ignore[attr-defined] # not in the contract
        client.close()

        assert 0 != link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert 10_000 == link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 2 * 65_536 == link.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)  # Linux doubles what it is told


@on_uvloop
async def test_a_client_that_breaks_a_rule_reads_which() -> None:
    """What it had sent beyond does not turn the close frame into a reset."""
    async with staged() as stage:
        client = await RawSocket.websocket(stage.url)
        await client.send(masked(TEXT, b"\xff") + b"x" * 3_000_000)
        farewell = await client.frame()
        await client.rest()

        assert 1007 == farewell.code
        assert not client.reset


@on_uvloop
async def test_a_client_that_floods_on_after_its_end_is_not_listened_to() -> None:
    """What can still be under way is read, so that the close frame arrives; a flood stays where it comes from."""
    async with staged() as stage:
        client = await RawSocket.websocket(stage.url)
        with pytest.raises(ConnectionError):  # noqa: PT012 - the loop is the attack
            async with asyncio.timeout(DEADLINE):
                while True:
                    await client.send(masked(TEXT, b"\xff") + bytes(1_000_000))
        client.close()

        assert HEARD_OUT <= stage.recorder.counts["received_bytes", ""] <= HEARD_OUT + 1_000_000


@on_uvloop
async def test_a_ping_flood_is_cut_by_its_budget() -> None:
    """A client over its budget of control frames is told 3013, and at once."""
    async with staged() as stage:
        client = await RawSocket.websocket(stage.url)
        receiver = await stage.attached.next()
        await client.send(masked(PING, b"x") * 100)
        frames = [await client.frame() for _ in range(21)]
        client.close()
        await receiver.seen(lambda: receiver.losses)

        assert [PONG] * 20 == [frame.opcode for frame in frames[:20]]
        assert 3013 == frames[20].code
        assert [(3013, "server")] == receiver.losses


@on_uvloop
async def test_a_ping_flood_that_is_not_read_is_aborted() -> None:
    """Without that budget the unread answers are bounded, and with them the memory."""
    async with staged(websocket=WebSocketLimits(control_rate=0.0)) as stage:
        client = await RawSocket.connect(stage.url, receive_buffer=4096)
        await client.send(upgrade())
        await client.head()
        receiver = await stage.attached.next()
        flood = masked(PING, b"x" * 125) * 1000
        before, began = _resident(), time.monotonic()
        with pytest.raises(ConnectionError):  # noqa: PT012 - the loop is the attack
            async with asyncio.timeout(DEADLINE):
                while True:
                    await client.send(flood)
        client.close()
        await receiver.seen(lambda: receiver.losses)

        assert [(None, "server")] == receiver.losses
        assert time.monotonic() - began < within(2.0, otherwise=4.0)
        assert _resident() - before < 2 * 1024 * 1024
        assert 1 == stage.recorder.counts["transport_aborts", "backlog"]


@on_uvloop
async def test_answered_pings_do_not_add_up() -> None:
    """A client that reads its pongs may go on for ever, also past what may be outstanding."""
    async with staged(websocket=WebSocketLimits(control_rate=0.0, control_backlog=1000)) as stage:
        client = await RawSocket.websocket(stage.url)
        for _ in range(50):
            await client.send(masked(PING, b"x" * 100))
            assert PONG == (await client.frame()).opcode
        client.close()


@on_uvloop
async def test_a_client_that_never_reads_is_gone_after_the_close() -> None:
    """With a full buffer a close still ends, by abort after its grace."""
    async with staged() as stage:
        client = await RawSocket.connect(stage.url, receive_buffer=4096)
        await client.send(upgrade())
        await client.head()
        receiver = await stage.attached.next()
        while receiver.transport.backlog() < 200_000:
            receiver.say(b"x" * 50_000)
        receiver.transport.close(Disconnect(3008, "slow"), 0.1)
        await receiver.seen(lambda: receiver.losses)
        client.close()

        assert [(3008, "server")] == receiver.losses


async def test_plain_asyncio() -> None:
    """The same works on the event loop of the standard library, from early frame to goodbye."""
    async with staged(attached=Attached(EchoReceiver)) as stage:
        head, client = await stage.ask(upgrade() + masked(TEXT, b"early"))
        assert 101 == head.status
        assert b"early" == (await client.frame()).payload
        await client.send(masked(PING, b"x"))
        assert PONG == (await client.frame()).opcode
        receiver = await stage.attached.next()
        receiver.transport.close(Disconnect(3001, "shutdown"), 5.0)
        assert 3001 == (await client.frame()).code
        await client.send(masked(CLOSE, (3001).to_bytes(2)))
        await client.rest()
        assert 503 == (await _drained(stage)).status


async def _drained(stage: Stage) -> Head:
    stage.rules.admission.draining = True
    return await stage.refused(upgrade())
