"""A network namespace with a cable to this machine that can be pulled, silenced and narrowed; root and `ip` only.

What runs inside has the address `inner` and reaches this machine at `outer`. A namespace goes with its context; those
of processes that died before they could clean up go when the next one is made.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
NAMED: Final = re.compile(r"^gw(\d+)-[0-9a-f]+$")
PROBE_SECONDS: Final = 0.3
PATIENCE: Final = 30.0  # seconds for the kernel, which may have to wait for namespaces that go


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace; `<name>` is the end of the cable inside, `<name>o` the end outside."""

    name: str
    outer: str
    inner: str

    def program(self, *command: str) -> list[str]:
        """Return the command that runs a program inside; its process id is that of the program."""
        return ["ip", "netns", "exec", self.name, *command]

    def make_socket(self) -> socket.socket:
        """Make a TCP socket that lives inside, for this process to use; it does not block."""
        made: list[socket.socket] = []
        # A thread of its own: it stays inside for the rest of its life.
        thread = threading.Thread(target=lambda: made.append(self._inside()), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert made, f"nobody got into {self.name}"
        return made[0]

    def _inside(self) -> socket.socket:
        with Path(f"/run/netns/{self.name}").open() as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        made = socket.socket()
        made.setblocking(False)
        return made

    def reaches(self) -> bool:
        """Whether a connection from inside to this machine can be opened."""
        with socket.create_server((self.outer, 0)) as server, self.make_socket() as probe:
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(server.getsockname())
            except OSError:
                return False
            return True

    @contextmanager
    def pulled(self) -> Iterator[None]:
        """Pull the cable: both ends lose their carrier, connections stand and learn nothing."""
        _run("ip", "link", "set", f"{self.name}o", "down")
        try:
            assert not self.reaches(), "the cable is pulled, and yet something passes"
            yield
        finally:
            _run("ip", "link", "set", f"{self.name}o", "up")

    @contextmanager
    def silenced(self, *, inwards: bool = True, outwards: bool = True) -> Iterator[None]:
        """Drop every packet, in one direction or both, without anybody being told."""
        ends = [it for it, chosen in ((self._outside_end, inwards), (self._inside_end, outwards)) if chosen]
        for end in ends:
            _run(*self._tc(end, "replace"), "root", "blackhole")
        try:
            assert not self.reaches(), "packets are dropped, and yet something passes"
            yield
        finally:
            for end in ends:
                _run(*self._tc(end, "del"), "root")

    @contextmanager
    def narrowed(self, kilobits: int) -> Iterator[None]:
        """Let through so many thousand bits a second each way. Fails if nothing ever had to wait."""
        for end in (self._outside_end, self._inside_end):
            _run(*self._tc(end, "replace"), "root", "tbf", "rate", f"{kilobits}kbit", "burst", "3000", "limit", "60000")
        try:
            yield
            assert self._waited(), f"the cable was wide enough with {kilobits} kbit/s"
        finally:
            for end in (self._outside_end, self._inside_end):
                _run(*self._tc(end, "del"), "root")

    @property
    def _inside_end(self) -> tuple[Sequence[str], str]:
        return ("-n", self.name), self.name

    @property
    def _outside_end(self) -> tuple[Sequence[str], str]:
        return (), f"{self.name}o"

    @staticmethod
    def _tc(end: tuple[Sequence[str], str], action: str) -> list[str]:
        where, device = end
        return ["tc", *where, "qdisc", action, "dev", device]

    def _waited(self) -> int:
        ends = (self._outside_end, self._inside_end)
        told = [_run("tc", *where, "-s", "-j", "qdisc", "show", "dev", device) for where, device in ends]
        return sum(int(qdisc.get("overlimits", 0)) for lines in told for qdisc in json.loads(lines))


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace with its cable, for as long as the body runs."""
    _sweep()
    name = f"gw{os.getpid()}-{random.randrange(1 << 12):x}"
    net = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
    space = Namespace(name, f"{net}.1", f"{net}.2")
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", f"{name}o", "type", "veth", "peer", "name", name, "netns", name)
        _run("ip", "addr", "add", f"{space.outer}/30", "dev", f"{name}o")
        _run("ip", "-n", name, "addr", "add", f"{space.inner}/30", "dev", name)
        for where, device in (((), f"{name}o"), (("-n", name), name), (("-n", name), "lo")):
            _run("ip", *where, "link", "set", device, "up")
        yield space
    finally:
        _run("ip", "netns", "del", name)


def possible() -> str:
    """Return why namespaces cannot be made here; empty = they can."""
    if os.geteuid():
        return "not root: no network namespaces"
    try:
        with namespace() as space, space.silenced():
            pass
    except (OSError, subprocess.SubprocessError) as error:
        return f"no network namespaces: {error}"
    return ""


def _sweep() -> None:
    """Remove what processes left behind that were killed."""
    for line in _run("ip", "netns", "list").splitlines():
        found = NAMED.match(line.split()[0])
        if found and not psutil.pid_exists(int(found[1])):
            with suppress(subprocess.CalledProcessError):  # another process that tests sweeps, too
                _run("ip", "netns", "del", found[0])


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
