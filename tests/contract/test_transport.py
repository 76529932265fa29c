"""What every transport promises, over each one found in `gateway/transports/`, on real sockets."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

import gateway.transports
from gateway.contracts.transport import Attach, Transport
from gateway.disconnects import Disconnect
from gateway.server import ServerRules, running
from tests.support.deadlines import bounded
from tests.support.rawsocket import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    RawSocket,
    masked,
    on_uvloop,
    upgrade,
)
from tests.support.recorder import MemoryRecorder
from tests.support.socketapp import Attached, RecordingReceiver, Rooms, stock_uvicorn

FAREWELL = Disconnect(3503, "force disconnect")


def _found() -> list[str]:
    """Name the modules that define `serve`."""
    names = [module.name for module in pkgutil.iter_modules(gateway.transports.__path__)]
    return [name for name in names if hasattr(importlib.import_module(f"gateway.transports.{name}"), "serve")]


TRANSPORTS = _found()


@dataclass(slots=True)
class Stage:
    """A server with one transport, and what its route attaches."""

    url: str
    attached: Attached

    async def pair(self, *headers: str) -> tuple[RawSocket, RecordingReceiver]:
        """Connect, and return both ends."""
        client = await RawSocket.websocket(self.url, "/ws", *headers)
        return client, await self.attached.next()


@asynccontextmanager
async def _stage(name: str, attach: Attach | None = None) -> AsyncIterator[Stage]:
    attached = Attached()
    serve = importlib.import_module(f"gateway.transports.{name}").serve
    rooms = Rooms(attach or attached, serve=serve)
    own = name == "websocket"
    server = running(rooms.app, rules=ServerRules(recorder=MemoryRecorder())) if own else stock_uvicorn(rooms.app)
    async with bounded(server) as url:
        yield Stage(url, attached)


def _has(receiver: RecordingReceiver, count: int) -> bool:
    return len(receiver.messages) >= count


pytestmark = pytest.mark.parametrize("name", TRANSPORTS)


def test_the_suite_covers_both_kinds(name: str) -> None:
    """Every transport on disk is run, those under our own server and those under any other."""
    assert {"websocket", "asgi"} <= set(TRANSPORTS)
    assert name in TRANSPORTS


@on_uvloop
async def test_messages_arrive_as_they_were_sent(name: str) -> None:
    """Text and binary messages reach the receiver whole and in order."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        await client.send(masked(TEXT, "grüße".encode()) + masked(BINARY, b"\xff\x00") + masked(TEXT))
        await receiver.seen(lambda: len(receiver.messages) == 3)
        client.close()

    assert [("grüße".encode(), True), (b"\xff\x00", False), (b"", True)] == receiver.messages


@on_uvloop
async def test_cuts_do_not_matter(name: str) -> None:
    """A message in fragments with a ping between them, sent byte by byte, arrives once."""
    data = masked(TEXT, b"one ", fin=False) + masked(PING, b"?") + masked(CONT, b"two")
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        for index in range(len(data)):
            await client.send(data[index : index + 1])
        await receiver.seen(lambda: receiver.messages)
        pong = await client.frame()
        client.close()

    assert [(b"one two", True)] == receiver.messages
    assert (PONG, b"?") == (pong.opcode, pong.payload)


@on_uvloop
async def test_frames_are_written_whole_and_in_order(name: str) -> None:
    """Frames of every length class, joined in one write, come out one by one."""
    payloads = [b"", b"a" * 125, b"b" * 126, b"c" * 65_535, b"d" * 65_536]
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        framing = receiver.transport.framing
        receiver.transport.write(
            b"".join(framing.frame(payload, index % 2 == 0) for index, payload in enumerate(payloads))
        )
        frames = [await client.frame() for _ in payloads]
        client.close()

    assert payloads == [frame.payload for frame in frames]
    assert [TEXT, BINARY, TEXT, BINARY, TEXT] == [frame.opcode for frame in frames]


@on_uvloop
async def test_the_handshake_tells_who_is_there(name: str) -> None:
    """The peer carries address and request id, and the subprotocol is echoed."""
    async with _stage(name) as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(upgrade("/ws", "Sec-WebSocket-Protocol: chat, other", "X-Request-Id: request-42"))
        head = await client.head()
        receiver = await stage.attached.next()
        client.close()

    assert (101, "chat") == (head.status, head.headers["sec-websocket-protocol"])
    assert ("127.0.0.1", "request-42") == (receiver.transport.peer.address, receiver.transport.peer.request_id)


@on_uvloop
async def test_the_client_closes(name: str) -> None:
    """A close frame of the client is answered, and `lost` says its code, once."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        await client.send(masked(CLOSE, (1001).to_bytes(2) + b"bye"))
        answer = await client.frame()
        await client.rest()
        await receiver.seen(lambda: receiver.losses)

    assert (CLOSE, 1001) == (answer.opcode, answer.code)
    assert [(1001, "client")] == receiver.losses


@on_uvloop
async def test_the_client_vanishes(name: str) -> None:
    """A link that ends without a close frame is lost once; where the server can tell, to the network."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        client.close()
        await receiver.seen(lambda: receiver.losses)

    expected = (None, "network") if name == "websocket" else (1005, "client")  # uvicorn says 1005 for both

    assert [expected] == receiver.losses


@on_uvloop
async def test_we_close(name: str) -> None:
    """The close frame follows what was written; then nothing is written or received any more, and `lost` follows."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.say(b"last words")
        receiver.transport.close(FAREWELL, 5.0)
        receiver.transport.close(Disconnect(3001, "shutdown"), 5.0)
        receiver.say(b"too late")
        words, farewell = await client.frame(), await client.frame()
        await client.send(masked(TEXT, b"too late") + masked(CLOSE, farewell.payload))
        rest = await client.rest()
        await receiver.seen(lambda: receiver.losses)

    assert b"last words" == words.payload
    assert (CLOSE, (3503).to_bytes(2) + b"force disconnect") == (farewell.opcode, farewell.payload)
    assert b"" == rest
    assert [] == receiver.messages
    assert [(3503, "server")] == receiver.losses


@on_uvloop
async def test_a_client_that_does_not_answer_our_close_is_dropped(name: str) -> None:
    """After the grace the link is gone, although the client says nothing."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.transport.close(FAREWELL, 0.05)
        await receiver.seen(lambda: receiver.losses)
        client.close()

    assert [(3503, "server")] == receiver.losses


@on_uvloop
async def test_abort(name: str) -> None:
    """An abort ends the link without a close frame, and `lost` follows."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.transport.abort()
        rest = await client.rest()
        await receiver.seen(lambda: receiver.losses)

    assert b"" == rest
    assert [(None, "server")] == receiver.losses


@on_uvloop
async def test_a_raise_of_the_receiver_ends_in_1011(name: str) -> None:
    """What a receiver raises closes its own link with 1011 and is not heard of by others."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.on_received = lambda _payload: (_ for _ in ()).throw(LookupError("on purpose"))
        await client.send(masked(TEXT, b"first") + masked(TEXT, b"second"))
        farewell = await client.frame()
        client.close()
        await receiver.seen(lambda: receiver.losses)

    assert (CLOSE, 1011) == (farewell.opcode, farewell.code)
    assert [(b"first", True)] == receiver.messages
    assert [(1011, "server")] == receiver.losses


@on_uvloop
async def test_a_raise_of_attach_ends_in_1011(name: str) -> None:
    """When no receiver can be made, the client is told 1011."""

    def fail(_transport: Transport) -> RecordingReceiver:
        raise LookupError("on purpose")

    async with _stage(name, fail) as stage:
        client = await RawSocket.websocket(stage.url)
        farewell = await client.frame()
        client.close()

    assert (CLOSE, 1011) == (farewell.opcode, farewell.code)


@on_uvloop
async def test_hold_reading(name: str) -> None:
    """While the receiver holds, nothing more is delivered, not even of the same read; then all of it, in order."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.on_received = lambda _payload: receiver.transport.hold_reading(hold=True)
        await client.send(b"".join(masked(TEXT, str(number).encode()) for number in range(50)) + masked(PING))
        await receiver.seen(lambda: receiver.messages)
        while_held = list(receiver.messages)
        for count in range(2, 51):
            assert count - 1 == len(receiver.messages)
            receiver.transport.hold_reading(hold=False)
            await receiver.seen(functools.partial(_has, receiver, count))
        receiver.transport.hold_reading(hold=False)
        await client.frame()
        client.close()

    assert [(b"0", True)] == while_held
    assert [(str(number).encode(), True) for number in range(50)] == receiver.messages


@on_uvloop
async def test_hold_reading_from_outside(name: str) -> None:
    """A message that comes after the hold waits, however idle the link was when it was held."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        other, barrier = await stage.pair()
        receiver.transport.hold_reading(hold=True)
        await client.send(masked(TEXT, b"held"))
        for turn in range(1, 6):  # whatever was under way has had its turn when the other link did five
            await other.send(masked(TEXT, b"turn"))
            await barrier.seen(functools.partial(_has, barrier, turn))
        while_held = list(receiver.messages)
        receiver.transport.hold_reading(hold=False)
        await receiver.seen(lambda: receiver.messages)
        client.close()
        other.close()

    assert [] == while_held
    assert [(b"held", True)] == receiver.messages


@on_uvloop
async def test_a_close_ends_a_hold(name: str) -> None:
    """The client's answer to our close frame is heard although reading was held."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.transport.hold_reading(hold=True)
        receiver.transport.close(FAREWELL, 600.0)
        farewell = await client.frame()
        await client.send(masked(TEXT, b"too late") + masked(CLOSE, farewell.payload))
        await client.rest()
        await receiver.seen(lambda: receiver.losses)

    assert [(3503, "server")] == receiver.losses
    assert [] == receiver.messages


@on_uvloop
async def test_a_slow_client_is_told_of(name: str) -> None:
    """Past the high-water mark `writable(False)`, after draining `writable(True)`; nothing is lost between."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        chunk = b"x" * 60_000
        written = 0
        while not receiver.writables and written < 1_000:
            receiver.say(chunk)
            written += 1
        held = receiver.transport.backlog()
        frames = [await client.frame() for _ in range(written)]
        await receiver.seen(lambda: len(receiver.writables) == 2)
        client.close()

    assert [False, True] == receiver.writables
    assert 65_536 < held < 65_536 + 60_100, "told at the frame that passed the mark"
    assert {chunk} == {frame.payload for frame in frames}


@on_uvloop
async def test_one_write_may_be_large(name: str) -> None:
    """A page of history of 6 MiB in one write arrives whole: who has read everything so far is not slow."""
    chunk, count = b"x" * 60_000, 105
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.transport.write(receiver.transport.framing.frame(chunk, text=True) * count)
        frames = [await client.frame() for _ in range(count)]
        await receiver.seen(lambda: len(receiver.writables) == 2)
        receiver.say(b"and on")
        more = await client.frame()
        client.close()

    assert [False, True] == receiver.writables
    assert [chunk] * count == [frame.payload for frame in frames]
    assert b"and on" == more.payload


@on_uvloop
async def test_ping(name: str) -> None:
    """A ping is answered by a pong sooner or later."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        receiver.transport.ping()
        if name == "websocket":
            frame = await client.frame()
            assert (PING, b"") == (frame.opcode, frame.payload)
            await client.send(masked(PONG))
        await receiver.seen(lambda: receiver.pongs)
        client.close()

    assert 1 == receiver.pongs


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (1007, masked(TEXT, b"\xff")),
        (1007, masked(TEXT, b"\xc3", fin=False) + masked(CONT, b"\x28")),
        (1009, masked(BINARY, b"x" * 65_537)),
        (1009, masked(BINARY, b"x" * 40_000, fin=False) + masked(CONT, b"x" * 40_000)),
        (1002, masked(TEXT, b"x", mask=None)),
    ],
    ids=["invalid utf-8", "invalid utf-8 in fragments", "too long", "too long in fragments", "unmasked"],
)
@on_uvloop
async def test_a_broken_rule_has_its_code(name: str, code: int, data: bytes) -> None:
    """What breaks a rule is not delivered and ends the link with the code of that rule."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        await client.send(data)
        farewell = await client.frame()
        client.close()
        await receiver.seen(lambda: receiver.losses)

    assert (CLOSE, code) == (farewell.opcode, farewell.code)
    assert [] == receiver.messages
    assert 1 == len(receiver.losses)


@on_uvloop
async def test_calls_after_the_end_are_harmless(name: str) -> None:
    """A connection that does not know yet may go on calling; nothing happens and nothing is raised."""
    async with _stage(name) as stage:
        client, receiver = await stage.pair()
        client.close()
        await receiver.seen(lambda: receiver.losses)
        transport = receiver.transport
        calls: list[Callable[[], object]] = [
            lambda: receiver.say(b"hello"),
            transport.backlog,
            lambda: transport.hold_reading(hold=True),
            lambda: transport.hold_reading(hold=False),
            transport.ping,
            lambda: transport.close(FAREWELL, 0.01),
            transport.abort,
        ]
        for call in calls:
            call()

    assert 1 == len(receiver.losses)
    assert 0 == receiver.pongs
