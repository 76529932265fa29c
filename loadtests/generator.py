"""The load generator for machines without a C compiler: the same plan, the same dialogue as `generator.c`, slower.

python -m loadtests.generator PLAN CONCURRENCY
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import uvloop

ROLE, SOURCE, HOST, PORT, PATH, SUBPROTOCOL, READY, FIRST = range(8)
CONNECT_SECONDS: Final = 120.0


def cpu() -> float:
    """Return the CPU time this process has used, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def frame(payload: bytes) -> bytes:
    """Build a masked text frame; the key is zero, so the payload goes out as it is."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class Client(asyncio.Protocol):
    """One client of the plan."""

    def __init__(self, fields: list[str], load: Load) -> None:
        self.fields = fields
        self.load = load
        self.ready = asyncio.get_running_loop().create_future()
        self.link: asyncio.Transport | None = None
        self._rest = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.link = transport  # type: ignore[assignment] # a stream, as uvloop has it
        wanted = f"Sec-WebSocket-Protocol: {self.fields[SUBPROTOCOL]}\r\n" if self.fields[SUBPROTOCOL] != "-" else ""
        request = (
            f"GET {self.fields[PATH]} HTTP/1.1\r\nHost: {self.fields[HOST]}:{self.fields[PORT]}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Version: 13\r\n{wanted}\r\n"
        )
        self.write(request.encode())

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
        if b" 101 " not in head[:16] and self.link is not None:
            self.link.close()
            return
        self._upgraded = True
        if self.fields[FIRST] != "-":
            self.write(frame(self.fields[FIRST].replace("\x1e", "\n").encode()))
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
        if payload == b"{}":
            self.write(frame(b"{}"))
        elif not self.ready.done():
            if self.fields[READY].encode() in payload:
                self.ready.set_result(None)
        elif self.fields[ROLE] == "S":
            self.load.deliveries += 1
        elif payload.startswith(b'{"id":'):
            self.load.acknowledged()


class Load:
    """All clients, and what they saw."""

    def __init__(self) -> None:
        self.deliveries = self.acks = self.gone = 0
        self._publisher: Client | None = None
        self._frames: Iterator[bytes] = iter(())
        self._window = self._flying = 0
        self._ids = count()

    async def connect(self, plan: list[list[str]], concurrency: int) -> None:
        """Connect everybody, so many at a time. Raises ConnectionError."""
        room = asyncio.Semaphore(concurrency)

        async def one(fields: list[str]) -> None:
            async with room:
                loop = asyncio.get_running_loop()
                _, client = await loop.create_connection(
                    lambda: Client(fields, self),
                    fields[HOST],
                    int(fields[PORT]),
                    local_addr=(fields[SOURCE], 0),
                )
                await client.ready
                if fields[ROLE] == "P":
                    self._publisher = client

        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.gather(*map(one, plan))

    def acknowledged(self) -> None:
        """Publish the next one."""
        self.acks += 1
        self._flying -= 1
        self._fill()

    async def measure(self, command: list[str]) -> str:
        """Publish with a window for a while; return the line to print."""
        warmup, seconds, window, channels, template = command
        self._frames = self._publications(template, int(channels))
        self._window = int(window)
        self._fill()
        await asyncio.sleep(float(warmup))
        deliveries, acks, start, used = self.deliveries, self.acks, time.monotonic(), cpu()
        await asyncio.sleep(float(seconds))
        took = time.monotonic() - start
        self._window = 0
        return f"measured {self.deliveries - deliveries} {self.acks - acks} {took} {cpu() - used} {self.gone}"

    def _fill(self) -> None:
        data = b""
        while self._flying < self._window:
            data += next(self._frames)
            self._flying += 1
        if data and self._publisher is not None:
            self._publisher.write(data)

    def _publications(self, template: str, channels: int) -> Iterator[bytes]:
        for number in self._ids:
            yield frame(template.replace("@I", str(number + 10)).replace("@C", str(number % channels)).encode())


def read_plan(path: str) -> list[list[str]]:
    """Read a plan; its lines end with a line feed alone."""
    return [line.split("\t") for line in Path(path).read_text().split("\n") if line]


async def main(plan: list[list[str]], concurrency: int) -> None:
    """Hold the dialogue over standard input and output."""
    load, start = Load(), time.monotonic()
    await load.connect(plan, concurrency)
    print("ready", time.monotonic() - start, cpu(), flush=True)
    while (line := await asyncio.to_thread(sys.stdin.readline)).startswith("measure "):
        print(await load.measure(line.rstrip("\n").split(" ", 5)[1:]), flush=True)


if __name__ == "__main__":
    uvloop.run(main(read_plan(sys.argv[1]), int(sys.argv[2])))
