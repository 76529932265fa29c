"""The clients of the generator in Python, as `generator.c` has them: WebSocket clients and HTTP backends."""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

ROLE, SOURCE, HOST, PORT, PATH, SUBPROTOCOL, READY, FIRST, PING, PONG, ACK = range(11)


class Crowd(Protocol):
    """All clients together, as one of them sees them."""

    gone: int

    def deliver(self, payload: bytes) -> None:
        """A subscriber got this."""

    def acknowledged(self) -> None:
        """A publication was answered."""


def frame(payload: bytes) -> bytes:
    """Build a masked text frame; the key is zero, so the payload goes out as it is."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class Client(asyncio.Protocol):
    """One client of the plan."""

    def __init__(self, fields: list[str], load: Crowd) -> None:
        self.fields = fields
        self.load = load
        self.ready = asyncio.get_running_loop().create_future()
        self.link: asyncio.Transport | None = None
        self._rest = b""
        self._upgraded = False
        self._ping, self._ack = fields[PING].encode(), fields[ACK].encode()
        self._pong = frame(fields[PONG].encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.link = transport  # type: ignore[assignment] # a stream, as uvloop has it
        self.greet()

    def greet(self) -> None:
        """Say the first words."""
        wanted = f"Sec-WebSocket-Protocol: {self.fields[SUBPROTOCOL]}\r\n" if self.fields[SUBPROTOCOL] != "-" else ""
        request = (
            f"GET {self.fields[PATH]} HTTP/1.1\r\nHost: {self.fields[HOST]}:{self.fields[PORT]}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{wanted}\r\n"
        )
        self.write(request.encode())

    def close(self) -> None:
        """Hang up."""
        if self.link is not None:
            self.link.close()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self.link is not None:
            self.link.write(data)

    def data_received(self, data: bytes) -> None:
        """Take whole frames."""
        data = self._rest + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._accept(head)
        self._rest = self._take(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Be gone."""
        self.load.gone += 1
        if not self.ready.done():
            self.ready.set_exception(ConnectionResetError("a client was refused or cut off"))

    def _accept(self, head: bytes) -> None:
        if b" 101 " not in head[:16]:
            self.close()
            return
        self._upgraded = True
        if self.fields[FIRST] != "-":
            for first in self.fields[FIRST].split("\x1d"):
                self.write(frame(first.replace("\x1e", "\n").encode()))
        if self.fields[READY] == "-":
            self.ready.set_result(None)

    def _take(self, data: bytes) -> bytes:
        at = 0
        while len(data) - at >= 2:
            size, head = data[at + 1] & 127, 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            if len(data) - at < head + size:
                break
            self._message(data[at + head : at + head + size])
            at += head + size
        return data[at:]

    def _message(self, payload: bytes) -> None:
        if payload == self._ping:
            self.write(self._pong)
        elif not self.ready.done():
            if self.fields[READY].encode() in payload:
                self.ready.set_result(None)
        elif self.fields[ROLE] == "S":
            self.load.deliver(payload)
        elif payload.startswith(self._ack):
            self.load.acknowledged()


class Poster(Client):
    """A publisher by HTTP: one request at a time on a connection that is kept."""

    asked = False

    def greet(self) -> None:
        """Be ready: HTTP has no first words."""
        self.ready.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take a whole answer."""
        self._rest += data
        head, end, body = self._rest.partition(b"\r\n\r\n")
        _, found, length = head.lower().partition(b"\r\ncontent-length:")
        if not end or not found or len(body) < int(length.split(b"\r\n", 1)[0]):
            return
        self._rest, self.asked = b"", False
        if head[9:12] != b"200" or not body.startswith(self._ack):
            sys.stderr.write(f"generator: refused: {body[:200]!r}\n")
            self.close()
            return
        self.load.acknowledged()

    def post(self, body: bytes) -> None:
        """Send a request."""
        self.asked = True
        more = f"{self.fields[FIRST]}\r\n" if self.fields[FIRST] != "-" else ""
        head = f"POST {self.fields[PATH]} HTTP/1.1\r\nHost: {self.fields[HOST]}\r\n{more}"
        self.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
