"""What a Valkey was asked, command by command, as its MONITOR tells it."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

PATIENCE: Final = 20.0  # seconds for the server to begin
LINE: Final = re.compile(rb"^\+(\d+\.\d+) \[\d+ ([^\]]*)\] (.*)\r\n$")


class Asked(NamedTuple):
    """One command; `who` is the address it came from, `lua` for what a script does."""

    at: float
    who: str
    words: tuple[str, ...]


def densest(commands: Iterable[Asked], seconds: float, part: Callable[[tuple[str, ...]], Hashable]) -> int:
    """Return how often at most one caller sent the same within so many seconds; `part` says what is the same."""
    newest: dict[Hashable, deque[float]] = {}
    most = 0
    for it in commands:
        times = newest.setdefault((it.who, part(it.words)), deque())
        times.append(it.at)
        while times[0] < it.at - seconds:
            times.popleft()
        most = max(most, len(times))
    return most


@asynccontextmanager
async def monitor(port: int, holding: str) -> AsyncIterator[list[Asked]]:
    """Write down the commands that hold these words, as long as the body runs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(b"MONITOR\r\n")
    async with asyncio.timeout(PATIENCE):
        assert await reader.readline() == b"+OK\r\n"
    asked: list[Asked] = []

    async def listen() -> None:
        while line := await reader.readline():
            if holding.encode() in line and (found := LINE.match(line)):
                at, who, words = found.groups()
                asked.append(Asked(float(at), who.decode(), tuple(words.decode().strip('"').split('" "'))))

    task = asyncio.create_task(listen())
    try:
        yield asked
    finally:
        writer.close()
        task.cancel()
        await asyncio.wait({task})
