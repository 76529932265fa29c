"""A WebSocket client on a bare socket: it sends any bytes, cut anywhere, and reads only when told to."""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec
from urllib.parse import urlsplit

import uvloop

P = ParamSpec("P")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3
MASK = b"\x37\xfa\x21\x3d"
DEADLINE = 30.0  # seconds; one generous bound for whatever a test waits for

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """Build a client's frame; `mask` None leaves it unmasked, `rsv` is 1, 2 or 4."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0 if mask is None else 0x80
    length = len(payload)
    if length < 126:
        head = bytes((first, bit | length))
    elif length < 65536:
        head = bytes((first, bit | 126)) + length.to_bytes(2)
    else:
        head = bytes((first, bit | 127)) + length.to_bytes(8)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def upgrade(path: str = "/ws", *headers: str, version: str = "HTTP/1.1", method: str = "GET", key: str = KEY) -> bytes:
    """Build an upgrade request; further headers as `Name: value`."""
    lines = [
        f"{method} {path} {version}",
        "Host: gateway.test",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {key}",
    ]
    if not any(header.lower().startswith("sec-websocket-version") for header in headers):
        lines.append("Sec-WebSocket-Version: 13")
    return "\r\n".join((*lines, *headers, "", "")).encode()


@dataclass(slots=True)
class Head:
    """The head of a response; header names in lower case."""

    status: int
    headers: dict[str, str]


@dataclass(slots=True)
class ReceivedFrame:
    """A frame of the server."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def code(self) -> int:
        """The code of a close frame."""
        return int.from_bytes(self.payload[:2])


class RawSocket:
    """One TCP connection. Every wait is bounded; EOFError = the server closed, also by a reset."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reset = False  # the server ended the connection by a reset
        self.patience = DEADLINE  # for one read
        self.since = time.monotonic()
        self._buffer = b""

    @classmethod
    async def connect(
        cls, base_url: str, *, source: str = "127.0.0.1", receive_buffer: int = 0, segment: int = 0
    ) -> RawSocket:
        """Connect to `http://host:port`, from another loopback address if told so.

        `segment` is the largest that may come: loopback's of 64 KiB do not fit into a small receive buffer, which the
        kernel takes for a window that never opens.
        """
        target = urlsplit(base_url)
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if segment:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        sock.bind((source, 0))
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().sock_connect(sock, (target.hostname, target.port))
        return cls(sock)

    @classmethod
    async def websocket(cls, base_url: str, path: str = "/ws", *headers: str) -> RawSocket:
        """Connect and do the handshake."""
        client = await cls.connect(base_url)
        await client.send(upgrade(path, *headers))
        head = await client.head()
        assert head.status == 101, head
        return client

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        async with asyncio.timeout(DEADLINE):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def head(self) -> Head:
        """Read the head of a response."""
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in lines)
        return Head(int(first.split(" ")[1]), {name.lower(): value for name, _, value in fields})

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._buffer) < size:
            await self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def some(self) -> bytes:
        """Return what there is, or else what comes next."""
        if not self._buffer:
            await self._more()
        data, self._buffer = self._buffer, b""
        return data

    async def frame(self) -> ReceivedFrame:
        """Read one frame of the server."""
        first, length = await self.exactly(2)
        assert length < 128, "a server does not mask"
        if length == 126:
            length = int.from_bytes(await self.exactly(2))
        elif length == 127:
            length = int.from_bytes(await self.exactly(8))
        return ReceivedFrame(first & 0x0F, await self.exactly(length), bool(first & 0x80))

    async def rest(self) -> bytes:
        """Read until the server closes, then close."""
        try:
            while True:
                await self._more()
        except EOFError:
            data, self._buffer = self._buffer, b""
            self.close()
            return data

    def close(self) -> None:
        """Close the socket without a word."""
        self.sock.close()

    async def _more(self) -> None:
        async with asyncio.timeout(self.patience):
            try:
                data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
            except ConnectionError:
                self.reset, data = True, b""
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on the event loop that production uses."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **kwargs))

    return run
