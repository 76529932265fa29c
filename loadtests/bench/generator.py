"""The load generator for machines without a C compiler: the same plan, the same dialogue as `generator.c`, slower.

python -m loadtests.bench.generator PLAN CONCURRENCY
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import uvloop

from loadtests.bench.histogram import Histogram
from loadtests.bench.settling import settle
from loadtests.bench.twins import HOST, PORT, ROLE, SOURCE, Client, Poster, frame

CONNECT_SECONDS: Final = 120.0
STRAGGLERS: Final = 10.0  # seconds at most for what is on its way when a schedule ends
QUIET: Final = 0.2  # seconds without a delivery, and all are there
INTENDED: Final = b'"t":'


def cpu() -> float:
    """Return the CPU time this process has used, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Load:
    """All clients, and what they saw."""

    def __init__(self) -> None:
        self.deliveries = self.acks = self.gone = 0
        self._publishers: list[Client] = []
        self._payloads: Iterator[bytes] = iter(())
        self._window = self._flying = 0
        self.published = 0
        self._latencies: Histogram | None = None

    async def connect(self, plan: list[list[str]], concurrency: int) -> None:
        """Connect everybody, so many at a time. Raises ConnectionError."""
        room = asyncio.Semaphore(concurrency)

        async def one(fields: list[str]) -> None:
            async with room:
                loop = asyncio.get_running_loop()
                _, client = await loop.create_connection(
                    lambda: (Poster if fields[ROLE] == "H" else Client)(fields, self),
                    fields[HOST],
                    int(fields[PORT]),
                    local_addr=(fields[SOURCE], 0),
                )
                await client.ready
                if fields[ROLE] != "S":
                    self._publishers.append(client)

        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.gather(*map(one, plan))

    def deliver(self, payload: bytes) -> None:
        """Count a delivery, and how long after its intended moment it came."""
        self.deliveries += 1
        if self._latencies is not None:
            digits = payload.partition(INTENDED)[2][:20]
            intended = int(digits[: len(digits) - len(digits.lstrip(b"0123456789"))] or 0)
            if intended:
                self._latencies.add(max(0, time.monotonic_ns() - intended) // 1000)

    def acknowledged(self) -> None:
        """Publish the next one."""
        self.acks += 1
        self._flying -= 1
        self._fill()

    async def measure(self, command: list[str]) -> str:
        """Publish with a window for a while; return the line to print."""
        warmup, seconds, window, channels, template = command
        self._payloads = (self._publication(template, int(channels)) for _ in count())
        self._window = int(window)
        self._fill()
        await asyncio.sleep(float(warmup))
        deliveries, acks, start, used = self.deliveries, self.acks, time.monotonic(), cpu()
        await asyncio.sleep(float(seconds))
        took = time.monotonic() - start
        self._window = 0
        return f"measured {self.deliveries - deliveries} {self.acks - acks} {took} {cpu() - used} {self.gone}"

    async def pace(self, command: list[str]) -> str:
        """Publish on a schedule that waits for nobody; return the line to print. See `generator.c`."""
        warmup, seconds, rate, channels, template = command
        self._latencies, lateness = Histogram(), Histogram()
        start = time.monotonic_ns()
        timed_from = start + int(float(warmup) * 1e9)
        end = timed_from + int(float(seconds) * 1e9)
        acks, used = self.acks, cpu()
        untimed = 0
        for number in count():
            moment = start + int(number / float(rate) * 1e9)
            if moment >= end:
                break
            await asyncio.sleep(max(0.0, (moment - time.monotonic_ns()) / 1e9))
            if timed := moment >= timed_from:
                lateness.add(max(0, time.monotonic_ns() - moment) // 1000)
            else:
                untimed += 1
            self._flying += 1
            self._publishers[-1].write(frame(self._publication(template, int(channels), moment if timed else 0)))
        took, used = (time.monotonic_ns() - timed_from) / 1e9, cpu() - used
        await self._stragglers()
        latencies, self._latencies = self._latencies, None
        counts = f"{lateness.total} {max(0, self.acks - acks - untimed)} {latencies.total}"
        return f"paced {counts} {took} {used} {self.gone} {lateness.quantile(0.99):.0f} {latencies}"

    async def _stragglers(self) -> None:
        seen = -1
        for _ in range(int(STRAGGLERS / QUIET)):
            if seen == self.deliveries and self._flying <= 0:
                return
            seen = self.deliveries
            await asyncio.sleep(QUIET)

    def _fill(self) -> None:
        if isinstance(self._publishers[-1], Poster):
            for poster in self._publishers:
                if isinstance(poster, Poster) and not poster.asked and self._flying < self._window:
                    self._flying += 1
                    poster.post(next(self._payloads))
            return
        data = b""
        while self._flying < self._window:
            data += frame(next(self._payloads))
            self._flying += 1
        if data:
            self._publishers[-1].write(data)

    def _publication(self, template: str, channels: int, intended: int = 0) -> bytes:
        number, self.published = self.published, self.published + 1
        filled = template.replace("@I", str(number + 10)).replace("@C", str(number % channels))
        return filled.replace("@T", str(intended)).encode()


def read_plan(path: str) -> list[list[str]]:
    """Read a plan; its lines end with a line feed alone."""
    return [line.split("\t") for line in Path(path).read_text().split("\n") if line]


async def main(plan: list[list[str]], concurrency: int) -> None:
    """Hold the dialogue over standard input and output."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual soft limit is for programs that use select()
    load, start = Load(), time.monotonic()
    await load.connect(plan, concurrency)
    print("ready", time.monotonic() - start, cpu(), flush=True)
    verbs: dict[str, Callable[[list[str]], Awaitable[str]]] = {
        "measure": load.measure,
        "pace": load.pace,
        "settle": partial(settle, load),
    }
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, *command = line.rstrip("\n").split(" ", 5)
        if verb not in verbs:
            break
        print(await verbs[verb](command), flush=True)


if __name__ == "__main__":
    uvloop.run(main(read_plan(sys.argv[1]), int(sys.argv[2])))
