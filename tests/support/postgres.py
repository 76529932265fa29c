"""A real PostgreSQL on a socket file of its own, owned by nobody if we are root, and gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

START_SECONDS = 30.0


def program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs; Debian keeps them off PATH."""
    found = shutil.which(name)
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(beside[-1]) if beside else None)


class Postgres:
    """One cluster, without care for what survives a crash of the machine; nobody can reach it by network."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # a short path: sockets have no room for long ones
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._user = nobody.pw_uid if nobody else None
        self._group = nobody.pw_gid if nobody else None
        if nobody:
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)

    def start(self) -> None:
        """Make the cluster at the first time, start, and wait until it answers."""
        if not (self._folder / "data").exists():
            self._run("initdb", "--pgdata", "data", "--username", "auth", "--auth", "trust", "--no-sync", "-E", "UTF8")
        command = [_needed("postgres"), "-D", "data", "-k", str(self._folder), "-c", "listen_addresses="]
        command += ["-c", "fsync=off", "-c", "max_connections=200"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, user=self._user, group=self._group
            )
        deadline = time.monotonic() + START_SECONDS
        while self._said("pg_isready", "-q", "-h", str(self._folder)).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash would; what was committed is there at the next start."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(START_SECONDS)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Keep all its processes from doing anything, with their sockets open."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        processes = [parent, *parent.children()]
        try:
            for each in processes:
                with suppress(psutil.NoSuchProcess):  # a backend whose client has just gone
                    each.suspend()
            yield
        finally:
            for each in processes:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def stop(self) -> None:
        """End it, whatever is connected, and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder)

    def database(self, name: str, *, like: str = "template1") -> str:
        """Make a database like another one, else an empty one, and return its URL; nobody may be in the other one."""
        self._run("createdb", "-h", str(self._folder), "-U", "auth", "-T", like, name)
        return f"postgresql+asyncpg://auth@/{name}?host={self._folder}"

    def _run(self, name: str, *arguments: str) -> None:
        done = self._said(name, *arguments)
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr}")

    def _said(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [_needed(name), *arguments]
        return subprocess.run(
            command,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            user=self._user,
            group=self._group,
        )


def _needed(name: str) -> str:
    found = program(name)
    assert found is not None, f"there is no {name}"
    return found
