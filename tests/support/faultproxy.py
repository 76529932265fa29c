"""A TCP proxy in user space that harms what passes: kernels without netem cannot delay, and a fault is for one link.

A `Rule` says what happens to one way of the connections it is meant for; rules come and go while the proxy runs. Every
rule counts what it did: one that did nothing when it goes fails the test, since the test would prove nothing.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from tests.support.resp import Messages

HOST: Final = "127.0.0.1"
CHUNK: Final = 65536
QUEUED: Final = 64  # chunks on their way; then the sender feels it
HEAD: Final = 4096  # first bytes of a client that are looked at to tell connections apart
TICK: Final = 0.05  # seconds between two drips
COMMANDS, PUBSUB = b"gateway-command", b"gateway-pubsub"  # the names the links of a node give themselves
Way: TypeAlias = Literal["up", "down"]  # towards the server, towards its client
Chooses: TypeAlias = Callable[[bytes], bool]


@dataclass(slots=True, kw_only=True, eq=False)
class Rule:
    """Harm to one way of all connections, or of those whose first bytes hold `only`, or of these `pipes` alone."""

    way: Way
    only: bytes = b""
    pipes: frozenset[Pipe] | None = None
    delay: float = 0.0  # seconds
    jitter: float = 0.0  # seconds more at most; order is kept
    stall: bool = False  # pass nothing on while the rule holds; later, if the connection lives that long
    swallow: bool = False  # take bytes and forget them
    drip: float = 0.0  # bytes a second; 0: as they come
    truncate: int = -1  # pass on so many bytes more, then cut; -1: all
    drop: Chooses | None = None  # forget the RESP messages that this chooses
    double: Chooses | None = None  # pass on twice the RESP messages that this chooses
    hits: int = 0  # chunks or messages that were harmed


@dataclass(eq=False, slots=True)
class Pipe:
    """One connection through the proxy; `head` holds the first bytes its client sent."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    head: bytes = b""
    passed: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})  # bytes
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # rules came or went, or it is over

    def is_for(self, rule: Rule) -> bool:
        """Whether a rule is meant for this connection."""
        return rule.only in self.head and (rule.pipes is None or self in rule.pipes)

    def cut(self) -> None:
        """End it both ways, as a process does that closes its socket: FIN."""
        self._end()
        for writer in (self.client, self.server):
            with suppress(OSError, RuntimeError):
                writer.close()

    def reset(self) -> None:
        """End it both ways with RST."""
        self._end()
        for writer in (self.client, self.server):
            reset(writer)

    def _end(self) -> None:
        self.over = True
        self.changed.set()


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and connects every client to its target."""

    def __init__(self, target: int, host: str = HOST) -> None:
        self.port = 0
        self.rules: list[Rule] = []
        self.refusing = False  # new connections are reset
        self.accepted = 0
        self.refused = 0
        self.pipes: set[Pipe] = set()
        self._target = (host, target)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its address as `engine.url`."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def http_url(self) -> str:
        """Its address as a node's."""
        return f"http://{HOST}:{self.port}"

    def count(self, only: bytes = b"") -> int:
        """Count the connections that stand."""
        return len(self.chosen(only))

    def chosen(self, only: bytes = b"") -> frozenset[Pipe]:
        """Return the connections that stand, for a rule that spares those to come."""
        return frozenset(pipe for pipe in self.pipes if only in pipe.head and not pipe.over)

    @contextmanager
    def rule(self, *rules: Rule) -> Iterator[None]:
        """Apply rules while the body runs. Fails if none of them harmed anything."""
        self.rules += rules
        self._wake()
        try:
            yield
        finally:
            self.rules = [it for it in self.rules if it not in rules]
            self._wake()
        assert any(it.hits for it in rules), f"nothing passed that could be harmed: {rules}"

    @contextmanager
    def stalled(self, *ways: Way, only: bytes = b"", pipes: frozenset[Pipe] | None = None) -> Iterator[None]:
        """Pass nothing on, in these ways or in both, while the body runs; the connections stand."""
        both: tuple[Way, ...] = ("up", "down")
        with self.rule(*(Rule(way=it, only=only, pipes=pipes, stall=True) for it in ways or both)):
            yield

    @contextmanager
    def refused_all(self) -> Iterator[None]:
        """Reset every new connection while the body runs. Fails if none came."""
        before, self.refusing = self.refused, True
        try:
            yield
        finally:
            self.refusing = False
        assert self.refused > before, "nobody tried to connect"

    def cut(self, only: bytes = b"") -> int:
        """Close connections with FIN; return how many. Fails when there are none."""
        return self._end(only, Pipe.cut)

    def reset(self, only: bytes = b"") -> int:
        """Close connections with RST; return how many. Fails when there are none."""
        return self._end(only, Pipe.reset)

    # --- inside

    def _end(self, only: bytes, how: Callable[[Pipe], None]) -> int:
        chosen = self.chosen(only)
        assert chosen, f"none of {len(self.pipes)} connections is to be ended"
        for pipe in chosen:
            how(pipe)
        return len(chosen)

    def _wake(self) -> None:
        for pipe in self.pipes:
            pipe.changed.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Drop everything."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            self.refused += 1
            reset(writer)
            return
        try:
            beyond, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            reset(writer)
            return
        self.accepted += 1
        pipe = Pipe(writer, to_server)
        self.pipes.add(pipe)
        try:
            await asyncio.gather(
                _Flow(self, pipe, "up", reader, to_server).run(), _Flow(self, pipe, "down", beyond, writer).run()
            )
        finally:
            self.pipes.discard(pipe)
            pipe.cut()


class _Flow:
    """One way of one connection."""

    def __init__(
        self, proxy: FaultProxy, pipe: Pipe, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._pipe = pipe
        self._way = way
        self._reader = reader
        self._writer = writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)
        self._messages = Messages()
        self._sent = 0  # bytes that have gone out already of the message that is not complete

    async def run(self) -> None:
        """Pass bytes on until one side ends; then the other is told."""
        await asyncio.gather(self._read(), self._write())

    async def _read(self) -> None:
        due = 0.0
        with suppress(OSError):
            while data := await self._reader.read(CHUNK):
                if self._way == "up" and len(self._pipe.head) < HEAD:
                    self._pipe.head += data[: HEAD - len(self._pipe.head)]
                due = max(due, time.monotonic() + self._delay())
                await self._queue.put((due, data))
        await self._queue.put((due, b""))

    async def _write(self) -> None:
        try:
            while True:
                due, data = await self._queue.get()
                await asyncio.sleep(due - time.monotonic())
                await self._stalled()
                if not data or self._pipe.over:
                    return
                await self._pass(self._chosen(data))
        except (OSError, RuntimeError):  # the latter from uvloop, for one that is gone already
            self._pipe.reset()
        finally:
            self._pipe.cut()
            while not self._queue.empty():  # its reader may wait for room
                self._queue.get_nowait()

    def _rules(self) -> list[Rule]:
        return [it for it in self._proxy.rules if it.way == self._way and self._pipe.is_for(it)]

    def _delay(self) -> float:
        total = 0.0
        for rule in self._rules():
            if rule.delay or rule.jitter:
                rule.hits += 1
                total += rule.delay + random.uniform(0, rule.jitter)
        return total

    async def _stalled(self) -> None:
        seen: set[Rule] = set()
        while (rules := {it for it in self._rules() if it.stall}) and not self._pipe.over:
            for rule in rules - seen:
                rule.hits += 1
            seen |= rules
            self._pipe.changed.clear()
            await self._pipe.changed.wait()

    def _chosen(self, data: bytes) -> bytes:
        """Forget or double whole messages. Under such a rule a message waits until it is complete."""
        whole = self._messages.feed(data)
        rules = [it for it in self._rules() if it.drop is not None or it.double is not None]
        out = bytearray()
        for message in whole:
            out += message[self._sent :] if self._sent else _copies(message, rules)
            self._sent = 0
        if not rules:
            out += self._messages.rest[self._sent :]
            self._sent = len(self._messages.rest)
        return bytes(out)

    async def _pass(self, data: bytes) -> None:
        for rule in self._rules():
            if rule.swallow:
                rule.hits += 1
                return
            if rule.drip:
                rule.hits += 1
                data = await self._drip(data, rule)
            if rule.truncate >= 0:
                rule.hits += 1
                await self._put(data[: rule.truncate])
                rule.truncate = max(0, rule.truncate - len(data))
                if not rule.truncate:
                    self._pipe.cut()
                return
        await self._put(data)

    async def _drip(self, data: bytes, rule: Rule) -> bytes:
        """Pass on slowly; return what is left when the rule goes."""
        step = max(1, int(rule.drip * TICK))
        while data and rule in self._proxy.rules and not self._pipe.over:
            await self._put(data[:step])
            data = data[step:]
            await asyncio.sleep(step / rule.drip)
        return data

    async def _put(self, data: bytes) -> None:
        if data and not self._pipe.over:
            self._pipe.passed[self._way] += len(data)
            self._writer.write(data)
            await self._writer.drain()


@asynccontextmanager
async def faultproxy(target: int, host: str = HOST) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of a port; leaving drops its connections."""
    proxy = FaultProxy(target, host)
    server = await asyncio.start_server(proxy.accept, HOST, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()


def publications(channel: str) -> Chooses:
    """Choose what pub/sub carries in a channel, or in all of a namespace (`load:`): for `drop` and `double`."""
    wanted = f".{channel}".encode() + (b"" if channel.endswith(":") else b"\r\n")

    def chooses(message: bytes) -> bool:
        return message.startswith((b">3\r\n$7\r\nmessage", b">3\r\n$8\r\nsmessage")) and wanted in message

    return chooses


def first(count: int, chooses: Chooses) -> Chooses:
    """Choose only the first so many of these."""
    left = iter(range(count))
    return lambda message: chooses(message) and next(left, None) is not None


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):  # uvloop has no socket any more for who is gone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _copies(message: bytes, rules: list[Rule]) -> bytes:
    for rule in rules:
        if rule.drop is not None and rule.drop(message):
            rule.hits += 1
            return b""
        if rule.double is not None and rule.double(message):
            rule.hits += 1
            message *= 2
    return message
