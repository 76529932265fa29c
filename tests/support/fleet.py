"""Processes under test: gateway nodes and whatever stands beside them; killed, stalled and looked into at will."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from gateway.demo import leash
from gateway.demo.programs import clean_environment, script
from tests.support.ports import free_port

HOST: Final = "127.0.0.1"
API_KEY: Final = "key-of-the-server-api"
SECRET: Final = "a secret that signs the tokens of a crowd"  # at least 32 bytes, as RFC 7518 wants for HS256
READY_SECONDS: Final = 60.0  # Python starts slowly on a small machine that does other things too
STOP_SECONDS: Final = 60.0
TAIL: Final = 40  # lines
KEPT: Final = {
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
    "allow_history_for_client": True,
    "history_size": 1000,
    "history_ttl": "300s",
    "force_recovery": True,
}
NAMESPACES: Final = (
    {"name": "load", **KEPT},
    {"name": "present", **KEPT, "presence": True, "join_leave": True, "allow_presence_for_client": True},
    {"name": "fleeting", "allow_subscribe_for_client": True, "allow_publish_for_client": True},  # without history
)


class Ended(NamedTuple):
    """How a process ended; `code` negative: by that signal."""

    code: int
    seconds: float  # from the signal to the end


class Process:
    """One process of ours; it goes when the test goes, however that ends."""

    def __init__(
        self, name: str, port: int, log: Path, command: Sequence[str], env: Mapping[str, str], *, host: str = HOST
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self._log = log
        self._command = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
        self._env = {**clean_environment(), **env}
        self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._env
            )

    @property
    def pid(self) -> int:
        """Its process id: the leash becomes the program, it does not stay in front of it."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"http://{self.host}:{self.port}"

    @property
    def centrifuge_url(self) -> str:
        """Where a Centrifuge client connects."""
        return f"ws://{self.host}:{self.port}/connection/websocket"

    @property
    def alive(self) -> bool:
        """Whether it runs, stalled or not."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.splitlines()[-TAIL:])

    def wait_until_ready(self) -> None:
        """Return when it says that it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            while not self._is_ready(client):
                assert self.alive, f"{self.name} ended:\n{self.tail()}"
                assert time.monotonic() < deadline, f"{self.name} did not get ready:\n{self.tail()}"
                time.sleep(0.02)

    def _is_ready(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.url}/health/ready").is_success
        except httpx.TransportError:
            return False

    # --- what is done to it

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and insist if it does not."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> None:
        """Run it again on its port, after it ended. It is not waited for."""
        assert not self.alive, f"{self.name} still runs"
        self._process = self._spawn()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stall(self) -> None:
        """Keep it from doing anything, with its sockets open; returns when the kernel has stopped it."""
        self.send(signal.SIGSTOP)
        deadline = time.monotonic() + STOP_SECONDS
        while self.status != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, f"{self.name} is {self.status}"
            time.sleep(0.001)

    def go_on(self) -> None:
        """Let it run again."""
        self.send(signal.SIGCONT)

    async def terminate(self, within: float = 60.0) -> Ended:
        """Send SIGTERM and wait for the end. Fails when it takes longer than `within` seconds."""
        self.send(signal.SIGTERM)
        return await self.ended(within)

    async def ended(self, within: float = 60.0) -> Ended:
        """Wait for the end."""
        start = time.monotonic()
        while self.alive:
            assert time.monotonic() - start < within, f"{self.name} did not end in {within:g} s:\n{self.tail()}"
            await asyncio.sleep(0.01)
        return Ended(self._process.returncode, time.monotonic() - start)

    # --- what it uses

    @property
    def status(self) -> str:
        """The kernel's word for what it does, as psutil has them."""
        return str(psutil.Process(self.pid).status())

    @property
    def resident(self) -> int:
        """Resident memory in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def cpu(self) -> float:
        """Seconds of CPU it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def files(self) -> int:
        """Open files, sockets among them."""
        return int(psutil.Process(self.pid).num_fds())

    @property
    def file_limit(self) -> int:
        """How many files it may open; can be set while it runs, up to the limit of this process."""
        return psutil.Process(self.pid).rlimit(psutil.RLIMIT_NOFILE)[0]

    @file_limit.setter
    def file_limit(self, limit: int) -> None:
        process = psutil.Process(self.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (limit, process.rlimit(psutil.RLIMIT_NOFILE)[1]))

    def ports_to(self, port: int) -> list[int]:
        """The local ports of its connections to a port."""
        links = psutil.Process(self.pid).net_connections("tcp")
        return [it.laddr.port for it in links if it.raddr[1:] == (port,)]


@dataclass(slots=True)
class Samples:
    """One reading of `/metrics`."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """Add up the samples of this name that carry these labels; 0 if there are none."""
        wanted = set(labels.items())
        return sum(value for (found, carried), value in self.values.items() if found == name and wanted <= carried)


class Node(Process):
    """A gateway node; `settings` by variable name without GATEWAY_, `program` another one with the same commands."""

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: Mapping[str, str],
        *,
        program: Sequence[str] = (),
        host: str = HOST,
    ) -> None:
        port = free_port()
        env = {
            "CLIENT__TOKEN__HMAC_SECRET_KEY": SECRET,
            "HTTP_API__KEY": API_KEY,
            "CHANNEL__NAMESPACES": json.dumps(NAMESPACES),
            "LOG__FORMAT": "json",
            "NODE__NAME": name,
            **settings,
        }
        command = [*(program or [script("gateway")]), "serve", "--host", host, "--port", str(port)]
        variables = {f"GATEWAY_{it}": value for it, value in env.items()}
        super().__init__(name, port, folder / f"{name}.log", command, variables, host=host)

    async def metrics(self) -> Samples:
        """Read its metrics. Raises httpx.HTTPError."""
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=10.0) as client:  # noqa: S501 - it speaks plain HTTP, and loading certificates takes time
            return _parsed((await client.get(f"{self.url}/metrics")).raise_for_status().text)

    def set(self, **settings: str) -> None:
        """Have these settings from the next start on; names as for the first one."""
        self._env |= {f"GATEWAY_{name}": value for name, value in settings.items()}

    async def is_ready(self) -> bool:
        """Whether it calls itself ready."""
        try:
            async with httpx.AsyncClient(trust_env=False, verify=False, timeout=5.0) as client:  # noqa: S501 - as above
                return (await client.get(f"{self.url}/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def ready(self, within: float = READY_SECONDS) -> None:
        """Wait until it is ready. Fails after so many seconds, or when it ends."""
        start = time.monotonic()
        while not await self.is_ready():
            assert self.alive, f"{self.name} ended:\n{self.tail()}"
            assert time.monotonic() - start < within, f"{self.name} did not get ready:\n{self.tail()}"
            await asyncio.sleep(0.05)


@dataclass(slots=True)
class Fleet:
    """Some nodes; `nodes` grows and shrinks as a test likes."""

    folder: Path
    settings: Mapping[str, str]
    nodes: list[Node] = field(default_factory=list)
    program: Sequence[str] = ()  # empty: the gateway

    @property
    def urls(self) -> list[str]:
        """The nodes' base URLs."""
        return [node.url for node in self.nodes]

    def start(self, name: str, *, host: str = HOST, **settings: str) -> Node:
        """Start one more node; it is not waited for."""
        node = Node(name, self.folder, {**self.settings, **settings}, program=self.program, host=host)
        self.nodes.append(node)
        return node

    async def ready(self) -> None:
        """Wait until all are ready."""
        await asyncio.gather(*(node.ready() for node in self.nodes))

    def tails(self) -> Iterator[tuple[str, str]]:
        """Yield the end of every log."""
        yield from ((f"log of {it.name}", it.tail()) for it in self.nodes)

    def end(self) -> None:
        """Kill what still runs; a node has nothing to keep."""
        for node in self.nodes:
            node.kill()


@asynccontextmanager
async def fleet(
    folder: Path, engine_urls: Sequence[str], size: int = 3, *, program: Sequence[str] = (), **settings: str
) -> AsyncIterator[Fleet]:
    """Run so many nodes, started side by side; entered when all are ready. The last URL serves who has none."""
    ships = Fleet(folder, {"ENGINE__URL": engine_urls[-1], **settings}, program=program)
    try:
        for number in range(size):
            ships.start(f"node-{number + 1}", ENGINE__URL=engine_urls[min(number, len(engine_urls) - 1)])
        await ships.ready()
        yield ships
    finally:
        ships.end()


def _parsed(text: str) -> Samples:
    return Samples(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )
