"""A small HTTP client for publishers: POST with JSON over connections that are kept, at a tenth of the usual cost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
KEPT: Final = 64  # connections a node


class NotSentError(Exception):
    """No connection: the request certainly had no effect."""


class UnansweredError(Exception):
    """Sent, and no answer came: it may have had its effect."""


@dataclass(slots=True)
class Api:
    """The server API of some nodes. Calls are cancel-safe: a connection whose answer was not read is not used again."""

    key: str
    timeout: float = 5.0  # seconds for a whole call
    _idle: dict[str, list[Pair]] = field(default_factory=dict)

    async def call(self, node: str, method: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """POST to a node; return status and decoded body. Raises NotSentError or UnansweredError."""
        pair = await self._connection(node)
        try:
            async with asyncio.timeout(self.timeout):
                pair[1].write(self._request(node, method, orjson.dumps(body)))
                status, answer = await _answer(pair[0])
        except (OSError, EOFError, TimeoutError) as error:
            pair[1].transport.abort()
            raise UnansweredError(f"{type(error).__name__} {error}") from error
        except BaseException:
            pair[1].transport.abort()
            raise
        self._keep(node, pair)
        return status, answer

    def close(self) -> None:
        """Drop all connections."""
        for pairs in self._idle.values():
            for _, writer in pairs:
                writer.transport.abort()
        self._idle.clear()

    async def _connection(self, node: str) -> Pair:
        idle = self._idle.get(node, [])
        while idle:
            reader, writer = idle.pop()
            if not reader.at_eof() and not writer.transport.is_closing() and reader.exception() is None:
                return reader, writer
            writer.close()
        where = urlsplit(node)
        try:
            async with asyncio.timeout(self.timeout):
                return await asyncio.open_connection(where.hostname, where.port)
        except (OSError, TimeoutError) as error:
            raise NotSentError(str(error)) from error

    def _keep(self, node: str, pair: Pair) -> None:
        idle = self._idle.setdefault(node, [])
        if len(idle) < KEPT:
            idle.append(pair)
        else:
            pair[1].transport.abort()

    def _request(self, node: str, method: str, body: bytes) -> bytes:
        head = (
            f"POST /api/{method} HTTP/1.1\r\nHost: {urlsplit(node).netloc}\r\nX-API-Key: {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    body = await reader.readexactly(int(length or 0))
    return int(head[9:12]), orjson.loads(body) if body.startswith((b"{", b"[")) else body
