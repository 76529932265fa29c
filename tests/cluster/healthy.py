"""A healthy crowd in a process of its own: clients who only listen, a publisher, and how late everything arrived.

Run as `python -m tests.cluster.healthy <folder>`. Each publication and each delivery is one record of a file, so the
test can look at any stretch of time without asking the crowd, which would change what it measures.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import BinaryIO

from websockets.asyncio.client import ClientConnection, connect

from tests.support.deadlines import killed_after

CHANNELS = 20
LISTENERS = 10  # in each channel
RATE = 50.0  # publications a second
SLICE = 0.5  # seconds; a stretch is judged by the median of its slices, so that one hiccup of the machine is none

_RECORD = struct.Struct("<ddd")  # sent at, latency (-1: it is the publication itself), recipients
_ROOT = Path(__file__).parents[2]
_ARRIVE_SECONDS = 5.0
_ENTER_SECONDS = 60.0


# --- the side of the test


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the crowd saw of the publications of some time; latencies in seconds."""

    slices: Sequence[Sequence[float]]
    missing: int  # deliveries that never came

    @property
    def p99(self) -> float:
        """The 99th percentile: the median over the slices."""
        return median(percentile(each, 0.99) for each in self.slices)

    @property
    def worst(self) -> float:
        """The longest that anybody waited."""
        return max(map(max, self.slices))

    @property
    def deliveries(self) -> int:
        """How many there were."""
        return sum(map(len, self.slices))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Healthy:
    """The crowd as a test sees it."""

    def __init__(self, process: subprocess.Popen[str], records: Path) -> None:
        self._process = process
        self._records = records

    @property
    def pid(self) -> int:
        """The process of the crowd."""
        return self._process.pid

    def assert_well(self) -> None:
        """Fail if anybody of the crowd lost a connection."""
        assert self._process.poll() is None, "somebody of the healthy crowd was hurt: see standard error"

    def stretch(self, start: float, end: float) -> Stretch:
        """Return what became of everything published between these monotonic times; waits for what is on its way."""
        deadline = time.monotonic() + _ARRIVE_SECONDS
        while True:
            self.assert_well()
            latencies, missing = self._read(start, end)
            if not missing or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        slices: dict[int, list[float]] = {}
        for sent, latency in latencies:
            slices.setdefault(int((sent - start) / SLICE), []).append(latency)
        assert slices, "nothing was published"
        return Stretch(list(slices.values()), missing)

    def _read(self, start: float, end: float) -> tuple[list[tuple[float, float]], int]:
        data = self._records.read_bytes()
        expected = 0
        latencies = []
        for sent, latency, recipients in _RECORD.iter_unpack(data[: len(data) - len(data) % _RECORD.size]):
            if not start <= sent < end:
                continue
            if latency < 0:
                expected += int(recipients)
            else:
                latencies.append((sent, latency))
        return latencies, expected - len(latencies)


@contextmanager
def crowd(folder: Path, url: str, tokens: Sequence[str]) -> Iterator[Healthy]:
    """Run the crowd against a node: `url` begins with ws://, there are `CHANNELS * LISTENERS` + 1 tokens."""
    (folder / "tokens.json").write_text(json.dumps({"url": url, "tokens": list(tokens)}))
    command = [sys.executable, "-m", "tests.cluster.healthy", str(folder)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with killed_after(process, _ENTER_SECONDS):
                assert process.stdout.readline() == "ready\n", "the healthy crowd could not connect"
            yield Healthy(process, folder / "records")
        finally:
            process.kill()


# --- the side of the crowd


async def _enter(url: str, token: str, channel: str, source: str) -> ClientConnection:
    link = await connect(url, compression=None, local_addr=(source, 0), proxy=None, ping_interval=None)
    commands = [{"id": 1, "connect": {"token": token}}]
    if channel:
        commands.append({"id": 2, "subscribe": {"channel": channel}})
    for command in commands:
        await link.send(json.dumps(command))
        answer = json.loads(await link.recv())
        assert "error" not in answer, answer
    return link


async def _listen(link: ClientConnection, records: BinaryIO) -> None:
    async for frame in link:
        now = time.monotonic()
        for line in str(frame).split("\n"):
            if line == "{}":
                await link.send("{}")
            elif "push" in (message := json.loads(line)):
                sent = message["push"]["pub"]["data"]["at"]
                records.write(_RECORD.pack(sent, now - sent, 0.0))
    raise ConnectionError(f"a listener was closed: {link.close_code} {link.close_reason}")


async def _publish(link: ClientConnection, records: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    due, number = loop.time(), 0
    while True:
        now = time.monotonic()
        channel = f"plain:healthy-{number % CHANNELS}"
        number += 1
        records.write(_RECORD.pack(now, -1.0, float(LISTENERS)))
        await link.send(json.dumps({"id": number + 1, "publish": {"channel": channel, "data": {"at": now}}}))
        due = max(due + 1 / RATE, loop.time() - 1)  # after a stop of the whole machine no volley
        await asyncio.sleep(due - loop.time())


async def _drain(link: ClientConnection) -> None:
    async for frame in link:
        for line in str(frame).split("\n"):
            if line == "{}":
                await link.send("{}")
            assert '"error"' not in line, line
    raise ConnectionError(f"the publisher was closed: {link.close_code} {link.close_reason}")


async def _run(folder: Path) -> None:
    plan = json.loads((folder / "tokens.json").read_text())
    url, tokens = plan["url"], plan["tokens"]
    places = [f"plain:healthy-{at % CHANNELS}" for at in range(CHANNELS * LISTENERS)]
    links: list[ClientConnection] = []
    for at, channel in enumerate(places):
        links.append(await _enter(url, tokens[at], channel, f"127.0.1.{1 + at % 100}"))
    publisher = await _enter(url, tokens[-1], "", "127.0.1.250")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with (folder / "records").open("wb", buffering=0) as records:
        async with asyncio.TaskGroup() as tasks:
            for link in links:
                tasks.create_task(_listen(link, records))
            tasks.create_task(_publish(publisher, records))
            tasks.create_task(_drain(publisher))


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1])))
