"""A real `gateway demo` as a test sees it: a program, what it printed, and what it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.ports import free_port

START_WITHIN = 120.0
STOP_WITHIN = 30.0
GATEWAY = str(Path(sysconfig.get_path("scripts")) / "gateway")


@dataclass(slots=True)
class Demo:
    """The demo's ports, process and output so far."""

    directory: Path
    port: int = field(default_factory=free_port)
    auth_port: int = field(default_factory=free_port)
    second_port: int = field(default_factory=free_port)
    lines: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] = field(init=False)
    _up: threading.Event = field(default_factory=threading.Event)

    @property
    def node(self) -> str:
        """The first node's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def second_node(self) -> str:
        """The second node's URL."""
        return f"http://127.0.0.1:{self.second_port}"

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "".join(self.lines)

    @property
    def passwords(self) -> dict[str, str]:
        """What the demo printed as `name: password`."""
        return dict(re.findall(r"^(\w+): (\S+)$", self.output, re.MULTILINE))

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that put it on its ports and into its directory."""
        ports = ("--port", str(self.port), "--auth-port", str(self.auth_port), "--second-port", str(self.second_port))
        return (*ports, "--directory", str(self.directory))

    def start(self, *flags: str) -> None:
        """Start it and read what it prints."""
        self.run("demo", *self.flags, *flags)

    def run(self, *words: str) -> None:
        """Start it by a command line of its own, in its directory's parent."""
        self.launch(GATEWAY, *words)

    def launch(self, *command: str) -> None:
        """Start it by whatever command, in its directory's parent."""
        self.process = subprocess.Popen(
            command,
            cwd=self.directory.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line)
                if "Ctrl-C stops it all" in line:
                    self._up.set()
        self._up.set()

    def wait_until_up(self, within: float = START_WITHIN) -> None:
        """Return when the guide was printed, in so many seconds."""
        assert self._up.wait(within), self.output
        assert "Ctrl-C stops it all" in self.output, self.output

    def wait(self) -> int:
        """Return the exit code, once the output is complete."""
        try:
            code = self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"it did not end in {STOP_WITHIN:g} s:\n{self.output}") from None
        assert self._up.wait(STOP_WITHIN)
        return code

    def children(self) -> list[psutil.Process]:
        """Return all processes that the demo started, those of its children too."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def child(self, word: str) -> psutil.Process:
        """Return the one child with this word in its command line."""
        (found,) = [it for it in self.children() if word in it.cmdline()]
        return found

    def line_with(self, words: Sequence[str]) -> str:
        """Return the printed line that holds all these words."""
        (found,) = [line for line in self.lines if all(word in line for word in words)]
        return found.strip()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()


@contextmanager
def running(directory: Path, *flags: str) -> Iterator[Demo]:
    """Run a demo on free ports; leaving stops it if it still runs."""
    demo = Demo(directory)
    demo.start(*flags)
    try:
        demo.wait_until_up()
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.stop()


def gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether all these processes end in time."""
    _, alive = psutil.wait_procs(processes, timeout=STOP_WITHIN)
    return not alive
