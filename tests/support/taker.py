"""A server on a real socket that takes orders as the gateway does, remembers them, and fails as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.ports import free_port

KEY = "the key of the gateway"


class Taker:
    """Answers `POST /api/revoke`; `answer` is what it answers, None: nothing at all."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.calls = 0
        self.answer: tuple[int, Any] | None = (200, {"result": {}})
        self.port = free_port()  # of a range that nobody connects from: it is free when we come back
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it answers, or did."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the port it had before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=64)

    async def stop(self) -> None:
        """Be gone, connections included."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                await self._one(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
        finally:
            self._writers.discard(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        self.calls += 1
        if self.answer is None:
            return
        status, content = self.answer
        if head[0] != "POST /api/revoke HTTP/1.1":
            status = 404
        elif fields.get("x-api-key") != KEY:
            status = 401
        elif status == 200 and isinstance(content, dict) and "result" in content:
            self.orders.append(body)
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text))
        await writer.drain()


@asynccontextmanager
async def taking() -> AsyncIterator[Taker]:
    """Run one."""
    taker = Taker()
    await taker.start()
    try:
        yield taker
    finally:
        await taker.stop()
