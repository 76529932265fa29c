"""A relay between clients and a node that knows frames: it loses messages, holds them back, hangs up, or speaks TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from loadtests.clients import frames


def kept(payload: bytes) -> bool:
    """Lose nothing."""
    del payload
    return True


class Relay:
    """Passes on what a node says, message by message, if `keeps` says so, and if it is not `held`."""

    def __init__(self, node: str) -> None:
        where = urlsplit(node)
        self.keeps: Callable[[bytes], bool] = kept
        self.held = asyncio.Event()
        self.held.set()  # set: it lets pass
        self.url = ""
        self._node = (where.hostname, where.port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def hang_up(self) -> None:
        """Drop all connections without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        server_reader, server_writer = await asyncio.open_connection(*self._node)
        self._writers |= {writer, server_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, server_writer))
                tasks.create_task(self._pump_messages(server_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers -= {writer, server_writer}
            for it in (writer, server_writer):
                it.transport.abort()

    async def end(self) -> None:
        """Hang up, and wait until nothing is relayed any more."""
        self.hang_up()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _pump_messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        messages = frames.Reader()
        while data := await reader.read(65_536):
            for opcode, payload in messages.take(data):
                await self.held.wait()
                if opcode != frames.TEXT or self.keeps(payload):
                    writer.write(_unmasked(opcode, payload))
        raise ConnectionResetError


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    raise ConnectionResetError


def _unmasked(opcode: int, payload: bytes) -> bytes:
    whole = frames.masked(payload, opcode)
    head = 2 if len(payload) < 126 else 4
    return bytes((whole[0], whole[1] & 0x7F)) + whole[2:head] + payload


@asynccontextmanager
async def relay(node: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Relay]:
    """Run one in front of a node; yields it with its `url`."""
    made = Relay(node)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        with suppress(OSError):
            await made.end()
        await server.wait_closed()
