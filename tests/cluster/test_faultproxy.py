"""The fault proxy: every harm that it offers is done, to whom it is meant, and is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.engines import eventually
from tests.support.exactness import within
from tests.support.faultproxy import FaultProxy, Rule, faultproxy, first, publications

GENEROUS = 30.0
PUSH = b">3\r\n$7\r\nmessage\r\n$6\r\ng.load\r\n$%d\r\n%b\r\n"


async def _answered(what: object) -> object:
    return what


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.fixture(name="proxy")
async def _proxy() -> AsyncIterator[FaultProxy]:
    """Run a proxy before a server that echoes."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with faultproxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


class Caller:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, data: bytes) -> None:
        """Send."""
        self._writer.write(data)

    async def hears(self, data: bytes) -> None:
        """Expect these bytes next."""
        async with asyncio.timeout(GENEROUS):
            assert data == await self._reader.readexactly(len(data))

    async def says(self, data: bytes) -> None:
        """Send, and expect the echo."""
        self.say(data)
        await self.hears(data)

    async def end(self) -> bytes:
        """Expect the end; return what came before it. Raises ConnectionResetError."""
        async with asyncio.timeout(GENEROUS):
            return await self._reader.read()

    def close(self) -> None:
        """Go."""
        self._writer.close()

    def heard(self) -> int:
        """Return how many bytes wait to be read."""
        return len(self._reader._buffer)  # type: ignore[attr-defined] # nothing public looks without waiting


Dial = Callable[..., Awaitable[Caller]]


@pytest.fixture(name="dial")
async def _dial(proxy: FaultProxy) -> AsyncIterator[Dial]:
    """Give a function that connects and hears what it said; all go at the end."""
    callers: list[Caller] = []

    async def dial(hello: bytes = b"hello") -> Caller:
        callers.append(Caller(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        await callers[-1].says(hello)
        return callers[-1]

    yield dial
    for caller in callers:
        caller.close()


async def test_a_stall_holds_back_and_loses_nothing(proxy: FaultProxy, dial: Dial) -> None:
    """While a connection is stalled nothing comes; then all of it does, and others were not touched."""
    victim, other = await dial(b"victim"), await dial(b"other")
    with proxy.stalled("down", only=b"victim"):
        victim.say(b"late")
        for _ in range(20):
            await other.says(b"prompt")
        assert victim.heard() == 0
    await victim.hears(b"late")


async def test_a_stall_may_spare_connections_to_come(proxy: FaultProxy, dial: Dial) -> None:
    """A rule for connections that stood is none for the next one, though it has the same name."""
    victim = await dial(b"name")
    with proxy.stalled(only=b"name", pipes=proxy.chosen(b"name")):
        victim.say(b"late")
        await dial(b"name")
    await victim.hears(b"late")


async def test_a_cut_is_an_end_and_a_reset_a_reset(proxy: FaultProxy, dial: Dial) -> None:
    """FIN and RST reach the client as such, and only the connection they are meant for."""
    cut, torn, other = [await dial(name) for name in (b"cut", b"torn", b"other")]
    assert proxy.cut(b"cut") == 1
    assert await cut.end() == b""
    assert proxy.reset(b"torn") == 1
    with pytest.raises(ConnectionResetError):
        await torn.end()
    await other.says(b"still there")
    assert proxy.count() == 1


async def test_a_delay_delays_each_byte_once(proxy: FaultProxy, dial: Dial) -> None:
    """Many chunks under a delay come late, side by side and in order."""
    caller = await dial()
    with proxy.rule(Rule(way="up", delay=0.2, jitter=0.05)):
        start = time.monotonic()
        for number in range(10):
            caller.say(b"%d" % number)
            await asyncio.sleep(0.01)
        await caller.hears(b"0123456789")
        took = time.monotonic() - start
    assert 0.2 <= took < within(1.0, otherwise=1.9), "one after the other they would take two seconds"


async def test_a_drip_is_slow(proxy: FaultProxy, dial: Dial) -> None:
    """A hundred bytes at 400 a second take a quarter of a second."""
    caller = await dial()
    with proxy.rule(Rule(way="down", drip=400)):
        start = time.monotonic()
        await caller.says(b"x" * 100)
        assert time.monotonic() - start >= 0.15


async def test_truncated_and_swallowed(proxy: FaultProxy, dial: Dial) -> None:
    """Swallowed bytes never come; a truncated stream ends after so many."""
    caller = await dial()
    with proxy.rule(swallowing := Rule(way="down", swallow=True)):
        caller.say(b"gone")
        await eventually(lambda: _answered(swallowing.hits))
    await caller.says(b"here")
    with proxy.rule(Rule(way="down", truncate=3)):
        caller.say(b"abcdef")
        assert await caller.end() == b"abc"


async def test_messages_are_dropped_and_doubled_whole(proxy: FaultProxy, dial: Dial) -> None:
    """The chosen messages are lost or repeated, though the rule came in the middle of one; the rest stays as it was."""
    caller = await dial(b"+OK\r\n")
    one, two, three = (PUSH % (len(it), it) for it in (b"one", b"two", b"three"))
    await caller.says(one[:20])
    dropping = Rule(way="down", drop=first(1, publications("load")))
    doubling = Rule(way="down", double=lambda message: b"three" in message)
    with proxy.rule(dropping, doubling):
        caller.say(one[20:] + two + three + b":1\r\n:2")
        await caller.hears(one[20:] + three + three + b":1\r\n")
    caller.say(b"\r\n")
    await caller.hears(b":2\r\n")
    assert (1, 1) == (dropping.hits, doubling.hits)


async def test_new_connections_are_refused(proxy: FaultProxy, dial: Dial) -> None:
    """Who comes while the proxy refuses is reset, who is there stays."""
    caller = await dial()
    with proxy.refused_all(), pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await dial()
    await caller.says(b"here")


async def test_a_rule_without_effect_fails_the_test(proxy: FaultProxy) -> None:
    """A fault that met nobody proves nothing, so it is no success."""
    with pytest.raises(AssertionError, match="nothing passed"), proxy.stalled():
        pass
    with pytest.raises(AssertionError, match="none of 0"):
        proxy.cut()
    with pytest.raises(AssertionError, match="nobody tried"), proxy.refused_all():
        pass
