from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest

from gateway.engines.redis.address import Address
from gateway.engines.redis.link import Link, _final, _pause
from gateway.engines.redis.wire import Wire
from gateway.errors import EngineFault
from tests.support.engines import GENEROUS, eventually
from tests.support.recorder import MemoryRecorder


@pytest.mark.parametrize(
    ("tries", "refusal", "shortest", "longest"),
    [
        (0, None, 0.0, 0.05),
        (1, None, 0.0, 0.1),
        (4, None, 0.0, 0.8),
        (5, None, 0.0, 1.0),
        (5000, None, 0.0, 1.0),
        (0, EngineFault("lost", "closed by the server"), 0.0, 0.05),
        (0, EngineFault("readonly", "is a replica"), 0.0, 0.05),
        (0, EngineFault("busy", "LOADING"), 2.0, 2.5),
        (0, EngineFault("refused", "ERR max number of clients reached"), 2.0, 2.5),
    ],
)
def test_the_pause_before_another_try(tries: int, refusal: EngineFault | None, shortest: float, longest: float) -> None:
    """Short at first and never above a second, unless the server refuses us: then two links try once a second."""
    pauses = [_pause(tries, refusal) for _ in range(200)]
    assert shortest <= min(pauses)
    assert max(pauses) <= longest
    assert max(pauses) - min(pauses) > (longest - shortest) / 2, "no jitter"


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("WRONGPASS invalid username-password pair", True),
        ("NOAUTH Authentication required.", True),
        ("NOPERM User u has no permissions", True),
        ("ERR DB index is out of range", True),
        ("ERR max number of clients reached", False),
        ("LOADING Valkey is loading the dataset in memory", False),
        ("is a replica, not the primary", False),
    ],
)
def test_some_refusals_are_final(detail: str, expected: bool) -> None:
    """What only the operator can mend is not waited for at the start."""
    assert expected == _final(EngineFault("refused", detail))


async def test_a_connection_that_ends_with_its_last_word_is_no_link(recorder: MemoryRecorder) -> None:
    """A server that answers everything and is gone: no command is taken that nobody would ever answer."""
    first_words = {b"HELLO": b"%0\r\n", b"ROLE": b"*1\r\n$6\r\nmaster\r\n"}
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(65536)
        while reply := next((reply for word, reply in first_words.items() if word in data), b""):
            writer.write(reply)
            data = await reader.read(65536)
        writer.write(b":0\r\n:0\r\n")
        writer.close()
        server.close()
        served.set()

    async def prepare(wire: Wire) -> None:
        await asyncio.gather(wire.ask("A"), wire.ask("B"))

    async def refused() -> bool:
        return "connection refused" in link.fault

    async def locate() -> Address:
        return Address("127.0.0.1", port)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = Link("it", locate, "command", clock=time.monotonic, timeout=1.0, recorder=recorder, prepare=prepare)
    life = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(2 * GENEROUS):
            await served.wait()
            await eventually(refused)
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            link.call(("PING",), answer.set_result)
            assert "down" == (await answer).kind
        assert not link.up
    finally:
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
