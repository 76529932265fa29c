from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.engines.redis import visit
from gateway.engines.redis.address import Address
from gateway.engines.redis.greeting import greet
from gateway.engines.redis.visit import ANSWERED_WITHIN, STRAGGLERS, canvass
from gateway.engines.redis.wire import Wire
from tests.support.exactness import within
from tests.support.ports import free_port
from tests.support.recorder import MemoryRecorder

NEVER = 60.0  # seconds; nobody waits for them


@asynccontextmanager
async def answering(name: str, after: float) -> AsyncIterator[Address]:
    """Run a server that greets at once, and says its name so many seconds after it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                if b"HELLO" not in data:
                    await asyncio.wait([gone], timeout=after)
                writer.write(b"%0\r\n" if b"HELLO" in data else f"+{name}\r\n".encode())
        finally:
            writer.close()

    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        gone.set_result(None)
        server.close()


async def name_of(wire: Wire, _address: Address) -> str:
    """Ask for a name."""
    answer: bytes = await wire.ask("NAME")
    return answer.decode()


async def test_who_never_answers_is_not_waited_for(recorder: MemoryRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first good answer others have a moment; who refuses us meanwhile is no answer."""
    moment, limit = within(STRAGGLERS, otherwise=7.0), within(ANSWERED_WITHIN, otherwise=30.0)
    monkeypatch.setattr(visit, "STRAGGLERS", moment)
    monkeypatch.setattr(visit, "ANSWERED_WITHIN", limit)
    async with AsyncExitStack() as servers:
        there = [
            await servers.enter_async_context(answering(name, after))
            for name, after in (("quick", 0.0), ("slow", STRAGGLERS / 3), ("silent", NEVER))
        ]
        began = time.monotonic()
        words = await canvass([*there, Address("127.0.0.1", free_port())], name_of, recorder)
        assert time.monotonic() - began < limit
        assert {("quick", there[0]), ("slow", there[1])} == {(word.answer, word.source) for word in words}


async def test_when_nobody_answers_it_is_said_of_each_why(recorder: MemoryRecorder) -> None:
    """One is silent, one is not there: the line names both, and comes in time."""
    nobody = Address("127.0.0.1", free_port())
    async with answering("silent", NEVER) as silent:
        began = time.monotonic()
        with pytest.raises(OSError, match="no answer within 1 s") as caught:
            await canvass([silent, nobody], name_of, recorder)
        assert time.monotonic() - began < within(2 * ANSWERED_WITHIN, otherwise=5.0)
    assert f"cannot connect to {silent} (no answer" in str(caught.value)
    assert f"cannot connect to {nobody} (connection refused)" in str(caught.value)


class Abandoned(Wire):
    """A connection whose maker is cancelled in the turn in which it is made."""

    maker: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stand, and be given up."""
        super().connection_made(transport)
        self.maker.cancel()


async def test_a_connection_made_too_late_holds_nobody_up(recorder: MemoryRecorder) -> None:
    """Cancelled just as the connection stands, a visitor hangs up and is done; nothing is left open."""

    async def visit(wire: Wire, address: Address) -> None:
        try:
            await greet(wire, address, "visit")
        finally:
            await wire.close()

    async with answering("late", NEVER) as address:
        clock = asyncio.get_running_loop().time
        wire = Abandoned(clock=clock, timeout=1.0, recorder=recorder, pushed=lambda _: None, lost=lambda _: None)
        wire.maker = asyncio.ensure_future(visit(wire, address))
        done, _ = await asyncio.wait({wire.maker}, timeout=5.0)
        assert {wire.maker} == done, "it waits for an end of which nobody will tell it"
        assert wire.maker.cancelled()
