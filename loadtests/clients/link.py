"""One WebSocket connection of a client: the upgrade, frames, pings, and how it ended."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Final, cast

from loadtests.clients import frames

GONE: Final = 1006  # without a close frame
LONGEST_HEAD: Final = 65_536  # bytes of a response's head; more is no answer
_KEY: Final = base64.b64encode(os.urandom(16))  # one for all: it proves that the other side speaks WebSocket
_ACCEPT: Final = frames.accepting(_KEY)


class HandshakeError(Exception):
    """The server answered the upgrade with something else; `status` 0: with no HTTP, or not at all."""

    def __init__(self, status: int, detail: str = "", retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {detail}".strip())
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


class Link(asyncio.Protocol):
    """A connection: `told` is called with each text message, `ended` once with the close code.

    `upgraded` is done when the handshake is, or raises HandshakeError; `lost` when the connection has ended. `heard`
    is set by every byte, for whoever looks whether it went silent.
    """

    __slots__ = (
        "_ended",
        "_head",
        "_host",
        "_path",
        "_reader",
        "_told",
        "_transport",
        "closed",
        "heard",
        "lost",
        "upgraded",
    )

    def __init__(self, host: str, path: str, *, told: Callable[[bytes], None], ended: Callable[[int], None]) -> None:
        self.closed = GONE
        self.heard = True
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host, self._path = host, path
        self._told, self._ended = told, ended
        self._transport: asyncio.Transport | None = None
        self._head: bytes | None = b""  # of the response; None once it is done
        self._reader = frames.Reader()

    @property
    def open(self) -> bool:
        """Whether it can be written to."""
        return self._transport is not None

    def send(self, message: bytes) -> None:
        """Send a text message; nothing happens on a link that is gone."""
        if self._transport is not None:
            self._transport.write(frames.masked(message))

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._transport is not None:
            self._transport.write(frames.masked((1000).to_bytes(2, "big"), frames.CLOSE))
            self._transport.close()

    def cut(self) -> None:
        """Drop the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def read(self, on: bool) -> None:
        """Stop reading, or go on."""
        if self._transport is not None:
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    # --- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(frames.upgrade(self._host, self._path, _KEY))

    def connection_lost(self, _: Exception | None) -> None:
        """Be gone."""
        self._transport = None
        self._refuse(HandshakeError(0, "hung up during the handshake"))
        self._ended(self.closed)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take whole messages."""
        self.heard = True
        if self._head is not None:
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                if len(head) > LONGEST_HEAD:
                    self._refuse(HandshakeError(0, "a head without an end"))
                return
            self._head = None
            if not self._accepted(head, data):
                return
        for opcode, payload in self._reader.take(data):
            if opcode == frames.TEXT:
                self._told(payload)
            else:
                self._control(opcode, payload)

    # --- inside

    def _accepted(self, head: bytes, body: bytes) -> bool:
        status = frames.status(head)
        if status == 101 and frames.header(head, b"sec-websocket-accept") == _ACCEPT:
            if not self.upgraded.done():
                self.upgraded.set_result(None)
            return True
        wait = frames.header(head, b"retry-after")
        said = body[:200].decode(errors="replace").strip()
        self._refuse(HandshakeError(status, said, float(wait) if wait.isdigit() else 0.0))
        return False

    def _refuse(self, error: HandshakeError) -> None:
        if not self.upgraded.done():
            self.upgraded.set_exception(error)
            self.upgraded.exception()  # whoever gave up waiting does not ask for it
        self.cut()

    def _control(self, opcode: int, payload: bytes) -> None:
        if self._transport is None:
            return
        if opcode == frames.PING:
            self._transport.write(frames.masked(payload, frames.PONG))
        elif opcode == frames.CLOSE:
            self.closed = frames.close_code(payload)
            self._transport.write(frames.masked(payload[:2], frames.CLOSE))
            self._transport.close()
