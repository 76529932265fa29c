"""WebSocket frames (RFC 6455) of a client that has thousands of siblings; pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN: Final = 0x80
WHOLE_TEXT: Final = FIN | TEXT
NO_STATUS: Final = 1005
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """Build a client's frame. The key is zero, which masks nothing and costs nothing; the server cannot tell."""
    size = len(payload)
    if size < 126:
        head = bytes((FIN | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((FIN | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((FIN | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def upgrade(host: str, path: str, key: bytes) -> bytes:
    """Build the request for an upgrade."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    ).encode() + b"%b\r\n\r\n" % key


def accepting(key: bytes) -> bytes:
    """Return what a server that speaks WebSocket answers this key with."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def status(head: bytes) -> int:
    """Return the status of a response; 0 if it is none of HTTP."""
    code = head[9:12]
    return int(code) if head.startswith(b"HTTP/1.") and code.isdigit() else 0


def header(head: bytes, name: bytes) -> bytes:
    """Return the value of a header, by its name in lower case; empty without it."""
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return b""


class Reader:
    """Takes a server's bytes and yields whole messages; joins what was fragmented."""

    __slots__ = ("_opcode", "_parts", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._opcode = CONT
        self._parts: list[bytes] = []

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and payload of each message; all of them must be taken before the next bytes."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                start = at + 4 if size == 126 else at + 10
                if end < start:
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
            if end - start < size:
                break
            first, at, payload = data[at], start + size, data[start : start + size]
            if first == WHOLE_TEXT:
                yield TEXT, payload
            else:
                yield from self._other(first, payload)
        self._rest = data[at:] if at < end else b""

    def _other(self, first: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        opcode = first & 15
        if opcode >= CLOSE:
            yield opcode, payload
            return
        self._parts.append(payload)
        self._opcode = opcode or self._opcode
        if first & FIN:
            whole, self._parts = b"".join(self._parts), []
            yield self._opcode, whole


def close_code(payload: bytes) -> int:
    """Return the code of a close frame."""
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_STATUS
