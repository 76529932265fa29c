"""A primary, its replicas and the sentinels that watch them: real processes on free ports of 127.0.0.1."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.tlsredis import TlsRedis
from tests.support.valkey import Valkey

SERVICE = "gate"
SETTLED_SECONDS = 60.0


class Sentinel(Valkey):
    """One sentinel; `settings` are lines of its file that follow the one that says whom to watch."""

    def __init__(self, folder: Path, watched: int, *settings: str, quorum: int = 1) -> None:
        super().__init__(folder)
        config = folder / "sentinel.conf"
        lines = (f"sentinel monitor {SERVICE} 127.0.0.1 {watched} {quorum}", *settings)
        config.write_text("".join(f"{line}\n" for line in lines))
        program = self._command[0]
        self._command = [program, str(config), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--dir", str(folder)]

    def start(self) -> None:
        """See the base. One that was kept waiting for 2 s would take its clock for broken, and do nothing for 30 s."""
        super().start()
        self.command("SENTINEL", "DEBUG", "tilt-trigger", 60_000)


class Watched:
    """Two servers, one of which is the primary, and three sentinels; `down_after` in seconds."""

    def __init__(self, folder: Path, *, down_after: float = 2.0) -> None:
        quick = ("--repl-diskless-sync-delay", "0")  # its default alone is 5 s
        first = Valkey(made(folder / "one"), *quick)
        second = Valkey(made(folder / "two"), *quick, "--replicaof", f"127.0.0.1 {first.port}")
        self.servers = [first, second]
        settings = (
            f"sentinel down-after-milliseconds {SERVICE} {round(down_after * 1000)}",
            f"sentinel failover-timeout {SERVICE} 6000",
        )
        folders = [made(folder / f"sentinel-{n}") for n in range(3)]
        self.sentinels = [Sentinel(it, first.port, *settings, quorum=2) for it in folders]

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        return f"redis+sentinel://{hosts(self.sentinels)}/{SERVICE}"

    def start(self) -> None:
        """Start everything, and wait until a failover would succeed."""
        for process in (*self.servers, *self.sentinels):
            process.start()
        self.settle()

    def stop(self) -> None:
        """Kill everything."""
        for process in (*self.servers, *self.sentinels):
            process.stop()

    def settle(self) -> None:
        """Wait until the sentinels know each other and agree, and the replica follows the primary."""
        wait_until(self._settled, "the sentinels do not settle")

    def primary(self) -> Valkey:
        """Return the server that the first sentinel names."""
        _, port = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    def replica(self) -> Valkey:
        """Return the other one."""
        primary = self.primary()
        return next(server for server in self.servers if server is not primary)

    def _settled(self) -> bool:
        replica = self.replica()
        if not replica.answers() or replica.command("INFO", "replication").get("master_link_status") != "up":
            return False
        rows: list[Any] = [it.command("INFO", "sentinel")["master0"] for it in self.sentinels]
        primary = f"127.0.0.1:{self.primary().port}"
        return [(primary, "ok", 1, 3)] * 3 == [
            (row["address"], row["status"], row["slaves"], row["sentinels"]) for row in rows
        ]


class TlsWatched:
    """One server and one sentinel, everything over TLS."""

    def __init__(self, folder: Path) -> None:
        self._server = TlsRedis(made(folder / "server"))
        self._sentinel = TlsSentinel(made(folder / "sentinel"), self._server)

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        return f"rediss+sentinel://localhost:{self._sentinel.tls_port}/{SERVICE}?{self._server.trust}"

    def start(self) -> None:
        """Start both."""
        self._server.start()
        self._sentinel.start()

    def stop(self) -> None:
        """Kill both."""
        self._server.stop()
        self._sentinel.stop()


class TlsSentinel(Sentinel):
    """A sentinel that speaks TLS, and with the server that it watches too."""

    def __init__(self, folder: Path, watched: TlsRedis) -> None:
        super().__init__(folder, watched.tls_port)
        self.tls_port = free_port()
        self._command[0] = watched.program
        self._command += ["--tls-port", str(self.tls_port), "--tls-replication", "yes", *watched.identity]


def hosts(servers: Iterable[Valkey]) -> str:
    """Return the hosts part of a URL."""
    return ",".join(f"127.0.0.1:{server.port}" for server in servers)


def wait_until(condition: Callable[[], bool], complaint: str) -> None:
    """Ask again and again, for what nobody announces."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(complaint)
        time.sleep(0.05)


def made(folder: Path) -> Path:
    """Make a folder."""
    folder.mkdir()
    return folder
