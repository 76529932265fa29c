"""Hostile clients: what they send, slower, faster, longer or other than any good client would."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.rawsocket import CLOSE, TEXT, Head, RawSocket, upgrade

CENTRIFUGE = "/connection/websocket"
NO_MASK = bytes(4)  # masks by nothing: a valid frame, and as fast to make as it is to copy
PATIENCE = 45.0  # seconds; who is not cut off by then never will be


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when the node ended a connection."""

    at: float  # monotonic
    after: float  # seconds since it connected
    code: int | None = None  # of the close frame; None = there was none
    status: int | None = None  # of an HTTP answer


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Build a client's frame of any size at the price of a copy."""
    first, length = (0x80 if fin else 0) | opcode, len(payload)
    if length < 126:
        return bytes((first, 0x80 | length)) + NO_MASK + payload
    if length < 65_536:
        return bytes((first, 0x80 | 126)) + length.to_bytes(2) + NO_MASK + payload
    return bytes((first, 0x80 | 127)) + length.to_bytes(8) + NO_MASK + payload


def lines(*commands: dict[str, Any]) -> bytes:
    """Build one text frame that holds these commands."""
    return frame(TEXT, b"\n".join(json.dumps(command).encode() for command in commands))


async def upgraded(
    url: str, path: str = CENTRIFUGE, *, source: str, receive_buffer: int = 0, headers: Iterable[str] = ()
) -> RawSocket:
    """Open a WebSocket and say nothing."""
    client = await RawSocket.connect(url, source=source, receive_buffer=receive_buffer)
    await client.send(upgrade(path, *headers))
    head = await client.head()
    assert head.status == 101, head
    return client


async def connected(
    url: str, token: str, *, source: str, channels: Iterable[str] = (), receive_buffer: int = 0
) -> RawSocket:
    """Open a connection of the Centrifuge protocol, identified and subscribed."""
    client = await upgraded(url, source=source, receive_buffer=receive_buffer)
    asked = [{"subscribe": {"channel": channel}} for channel in channels]
    for number, command in enumerate([{"connect": {"token": token}}, *asked], 1):
        answer = await ask(client, {"id": number, **command})
        assert "error" not in answer, answer
    return client


async def ask(client: RawSocket, command: dict[str, Any]) -> dict[str, Any]:
    """Send one command and return its reply; pushes that come before are dropped."""
    await client.send(lines(command))
    while True:
        for answer in await heard(client):
            if answer.get("id") == command["id"]:
                return answer


async def heard(client: RawSocket) -> list[dict[str, Any]]:
    """Return what the next data frame says. Raises AssertionError with the code if it is a close frame."""
    came = await client.frame()
    assert came.opcode != CLOSE, came.code
    return [json.loads(line) for line in came.payload.split(b"\n")] if came.opcode == TEXT else []


async def handshake(url: str, *, source: str, request: bytes | None = None) -> tuple[RawSocket, Head, float]:
    """Connect and ask for an upgrade; return the socket, the answer, and the seconds that it took."""
    began = time.monotonic()
    client = await RawSocket.connect(url, source=source)
    await client.send(upgrade(CENTRIFUGE) if request is None else request)
    head = await client.head()
    return client, head, time.monotonic() - began


def visits(url: str, source: str, seconds: float, pause: float = 0.1) -> list[float]:
    """Come and go as a good client does; return how long each handshake took.

    It blocks: run it in a thread, since the loop of the attackers is too busy to tell the time.
    """
    target, until, times = urlsplit(url), time.monotonic() + seconds, []
    assert target.hostname
    while time.monotonic() < until:
        began = time.monotonic()
        with socket.create_connection((target.hostname, target.port or 80), PATIENCE, (source, 0)) as client:
            client.sendall(upgrade(CENTRIFUGE))
            assert client.recv(65_536).startswith(b"HTTP/1.1 101 ")
        times.append(time.monotonic() - began)
        time.sleep(pause)
    return times


def _end(client: RawSocket, **how: int | None) -> Ending:
    now = time.monotonic()
    return Ending(now, now - client.since, **how)


async def ending(client: RawSocket) -> Ending:
    """Read frames until the node closes, however long that takes."""
    client.patience = PATIENCE
    while True:
        try:
            came = await client.frame()
        except EOFError:
            return _end(client)
        if came.opcode == CLOSE:
            return _end(client, code=came.code)


async def http_ending(client: RawSocket) -> Ending:
    """Read whatever the node answers until it closes."""
    client.patience = PATIENCE
    answer = await client.rest()
    return _end(client, status=int(answer.split(b" ", 2)[1]) if answer else None)


async def dripping(client: RawSocket, data: bytes, pause: float) -> Ending:
    """Send a byte at a time, for ever, until the node closes; the first `data` once, its last byte again and again."""
    reader = asyncio.ensure_future(http_ending(client))
    loop = asyncio.get_running_loop()
    sent = 0
    while not reader.done():
        with suppress(OSError):
            await loop.sock_sendall(client.sock, data[sent : sent + 1] or data[-1:])
        sent += 1
        await asyncio.wait((reader,), timeout=pause)
    return reader.result()


async def sipping(client: RawSocket, size: int, pause: float) -> Ending:
    """Read a few bytes at a time until the link is cut."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if not await loop.sock_recv(client.sock, size):
                    return _end(client)
            except ConnectionError:
                return _end(client)
            await asyncio.sleep(pause)


async def flooding(client: RawSocket, data: bytes, seconds: float) -> int:
    """Send the same bytes again and again without reading; return how many bytes went out before the link was cut."""
    loop = asyncio.get_running_loop()
    sent, until = 0, loop.time() + seconds
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            while loop.time() < until:
                await loop.sock_sendall(client.sock, data)
                sent += len(data)
                await asyncio.sleep(0)
    return sent


async def paced(client: RawSocket, frames: Iterable[bytes], rate: float) -> int:
    """Send frames at a rate per second, until there are no more or the link is cut; return how many went out."""
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    with suppress(OSError):
        for each in frames:
            await loop.sock_sendall(client.sock, each)
            sent += 1
            ahead = began + sent / rate - loop.time()
            if ahead > 0.005:
                await asyncio.sleep(ahead)
    return sent
