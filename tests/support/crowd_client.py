"""One light Centrifuge client of a crowd: framing, connect, subscribe with recovery, pings; it notes what it sees."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from gateway.types import Position
from loadtests.oracle import Log

OPENING: Final = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CONNECT: Final = 1  # the id of the connect command
TEXT, CLOSE, PING = 0x81, 0x88, 0x89
CUT: Final = 1006  # gone without a close frame
INSUFFICIENT: Final = 3010
RESUBSCRIBE: Final = range(2500, 3000)
TLS_GOODBYE: Final = 1.0  # seconds for the other side to say that it has heard the end of TLS
TRY_AGAIN: Final = (0.25, 2.0)  # seconds; a subscription that was refused for now


class RefusedError(Exception):
    """The node answered the handshake with another status than 101, or the connect command with an error."""

    def __init__(self, status: int, retry_after: float = 0.0) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Build a masked frame; the key is zero, so the payload goes out as it is."""
    size = len(payload)
    head = bytes((opcode, 0x80 | size)) if size < 126 else bytes((opcode, 0xFE)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


@dataclass(slots=True)
class Ears:
    """Whom a link tells what it sees besides the logs."""

    delivered: Callable[[float], None]  # the publisher's time inside the data
    answered: Callable[[int, Mapping[str, Any]], None]  # replies to commands the crowd sent itself


class Link(asyncio.Protocol):
    """One connection of a client; it ends with its socket. `closed` is the code, `CUT` without a close frame."""

    def __init__(
        self, node: str, token: str, logs: Mapping[str, Log], ears: Ears, trust: ssl.SSLContext | None = None
    ) -> None:
        self.node = node
        self.closed = CUT
        self.heard = time.monotonic()
        self.ping = 0.0  # seconds between pings as the node promised; 0: none
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.refusals: list[int] = []  # error codes of subscriptions
        self._loop = loop
        self._token = token
        self._logs = logs
        self._ears = ears
        self._trust = trust
        self._asked: dict[int, tuple[str, Position | None]] = {}
        self._ids = CONNECT
        self._rest = b""
        self._upgraded = False
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket, within: float) -> None:
        """Connect with this socket and wait for the connect reply. Raises OSError, TimeoutError or RefusedError."""
        where, ours = urlsplit(self.node), True
        try:
            async with asyncio.timeout(within):
                await self._loop.sock_connect(sock, (where.hostname or "", where.port or 80))
                ours = False  # whatever comes now, uvloop closes the descriptor, also where it forgets the object
                secure: Mapping[str, Any] = (
                    {"ssl": self._trust, "server_hostname": where.hostname, "ssl_shutdown_timeout": TLS_GOODBYE}
                    if self._trust
                    else {}
                )
                await self._loop.create_connection(lambda: self, sock=sock, **secure)
                await self.opened
        except BaseException:
            (sock.close if ours else sock.detach)()
            raise

    def send(self, command: Mapping[str, Any]) -> int:
        """Send a command of the crowd's own; return its id, by which `answered` is told."""
        self._ids += 1
        self.write(frame(orjson.dumps({"id": self._ids, **command})))
        return self._ids

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens on a link that is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def leave(self) -> None:
        """Close as a client does that goes."""
        self.write(frame((1000).to_bytes(2, "big"), CLOSE))
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Drop the socket without a word."""
        if self._transport is not None:
            self._transport.abort()

    def hold_reading(self, hold: bool) -> None:
        """Stop reading, as a client does that is stuck; or go on."""
        assert self._transport is not None
        (self._transport.pause_reading if hold else self._transport.resume_reading)()

    # --- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = transport  # type: ignore[assignment] # a stream, as uvloop has it
        self.write(OPENING % urlsplit(self.node).netloc.encode())

    def connection_lost(self, _: Exception | None) -> None:
        """Be gone."""
        self._transport = None
        for log in self._logs.values():
            if self.closed == INSUFFICIENT and log.listening:
                log.told("disconnected")
            else:
                log.away()
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError(f"{self.node} hung up during the handshake"))
            self.opened.exception()  # whoever gave up waiting does not ask for it
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take whole frames."""
        self.heard = time.monotonic()
        data = self._rest + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if not self._accepted(head):
                return
        self._rest = self._take(data)

    # --- inside

    def _accepted(self, head: bytes) -> bool:
        self._upgraded = head.startswith(b"HTTP/1.1 101")
        if not self._upgraded:
            if not self.opened.done():
                self.opened.set_exception(RefusedError(int(head[9:12]), _retry_after(head)))
            self.cut()
            return False
        commands: list[Mapping[str, Any]] = [{"id": CONNECT, "connect": {"token": self._token}}]
        commands += [self._subscription(channel) for channel in self._logs]
        self.write(frame(b"\n".join(map(orjson.dumps, commands))))
        return True

    def _subscription(self, channel: str) -> Mapping[str, Any]:
        self._ids += 1
        held = self._logs[channel].position
        self._asked[self._ids] = (channel, held)
        since = {} if held is None else {"recover": True, "offset": held.offset, "epoch": held.epoch}
        return {
            "id": self._ids,
            "subscribe": {"channel": channel, "positioned": True, "recoverable": True, "join_leave": False, **since},
        }

    def _take(self, data: bytes) -> bytes:
        at, end = 0, len(data)
        while end - at >= 2:
            size, head = data[at + 1] & 127, 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            if end - at < head + size:
                break
            self._frame(data[at], data[at + head : at + head + size])
            at += head + size
        return data[at:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            for line in payload.split(b"\n"):
                self._message(line)
        elif opcode == CLOSE:
            self.closed = int.from_bytes(payload[:2], "big") if payload else 1005
            self.write(frame(payload[:2], CLOSE))
            if self._transport is not None:
                self._transport.close()
        elif opcode == PING:
            self.write(frame(payload, 0x8A))

    def _message(self, line: bytes) -> None:
        if line == b"{}":
            self.write(frame(b"{}"))
            return
        message = orjson.loads(line)
        push = message.get("push")
        if push is None:
            self._reply(message["id"], message)
        elif "pub" in push:
            self._publication(self._logs[push["channel"]], push["pub"])
        elif "unsubscribe" in push:
            self._unsubscribed(push["channel"], push["unsubscribe"]["code"])

    def _publication(self, log: Log, publication: Mapping[str, Any]) -> None:
        number = _number(publication)
        log.publication(publication.get("offset", 0), number, publication.get("epoch", ""))
        if number:
            self._ears.delivered(publication["data"]["at"])

    def _unsubscribed(self, channel: str, code: int) -> None:
        log = self._logs[channel]
        if code not in RESUBSCRIBE:
            log.away()
            self.refusals.append(code)
            return
        log.told("unsubscribed")
        self.write(frame(orjson.dumps(self._subscription(channel))))

    def _reply(self, number: int, message: Mapping[str, Any]) -> None:
        error = message.get("error")
        if number == CONNECT:
            self._connected(error, message.get("connect", {}))
        elif number not in self._asked:
            self._ears.answered(number, message)
        elif error is not None:
            channel, _ = self._asked.pop(number)
            self.refusals.append(error["code"])
            if error.get("temporary"):
                self._loop.call_later(random.uniform(*TRY_AGAIN), self._subscribe_again, channel)
        else:
            self._subscribed(*self._asked.pop(number), message.get("subscribe", {}))

    def _connected(self, error: Mapping[str, Any] | None, result: Mapping[str, Any]) -> None:
        if error is None:
            self.ping = float(result.get("ping", 0))
            if not self.opened.done():
                self.opened.set_result(None)
            return
        if not self.opened.done():
            self.opened.set_exception(RefusedError(error["code"]))
        self.cut()

    def _subscribe_again(self, channel: str) -> None:
        if self._transport is not None:
            self.write(frame(orjson.dumps(self._subscription(channel))))

    def _subscribed(self, channel: str, since: Position | None, result: Mapping[str, Any]) -> None:
        publications: Iterable[Mapping[str, Any]] = result.get("publications", ())
        self._logs[channel].subscribed(
            Position(result.get("offset", 0), result.get("epoch", "")),
            asked=since is not None,
            recovered=result.get("recovered", False),
            publications=[(it["offset"], _number(it)) for it in publications],
        )


def _number(publication: Mapping[str, Any]) -> int:
    """Return its number; 0, which no publisher gives, for what no publisher of ours sent."""
    data = publication["data"]
    return int(data.get("n", 0)) if isinstance(data, dict) else 0


def _retry_after(head: bytes) -> float:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"retry-after":
            return float(value)
    return 0.0
