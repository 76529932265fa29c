"""Images built for real and run as an orchestrator would run them, on a machine that reaches no registry of images.

What stands in for the official Python images is Debian's Python from its archive, laid out by mmdebstrap. Packages come
from a folder that pip fills beforehand, so that a builder needs no network. A container is a process in namespaces of
its own on the image's files, which are read-only for it; its network is the machine's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.support.tools import ROOT, ended

SUITE: Final = "bookworm"
BASES: Final[Mapping[str, Sequence[str]]] = {
    "build": ("python3", "python3-dev", "python3-venv", "gcc", "libc6-dev", "ca-certificates"),
    "slim": ("python3", "ca-certificates"),
}
POLICY: Final = '{"default": [{"type": "insecureAcceptAnything"}]}'  # what is built here is signed by nobody
PIP: Final = "[global]\nno-index = true\nfind-links = /index\n"
BUILD_SECONDS: Final = 1800.0  # of each step; compiling takes two minutes of a core
END_SECONDS: Final = 30.0
# As an orchestrator lays it out: all read-only but what is mounted, and processes of its own.
ENTER: Final = """
set -eu
root=$1 work=$2 user=$3 group=$4; shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind /dev "$root/dev"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
mount -o remount,bind,ro "$root"
exec unshare --pid --fork --kill-child=KILL --mount-proc --root="$root" --wd="$work" \\
    --setgid="$group" --setuid="$user" -- "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A built one: its configuration as docker knows it, and where its files are."""

    config: Mapping[str, Any]
    root: Path

    @property
    def environ(self) -> dict[str, str]:
        """Its variables."""
        return dict(it.split("=", 1) for it in self.config["Env"])

    @property
    def command(self) -> list[str]:
        """What it starts."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]


@dataclass(slots=True)
class Builder:
    """Builds images under one folder, which keeps what they have in common."""

    folder: Path
    _mounted: list[str] = field(default_factory=list)

    def build(self, name: str, *locks: str, **arguments: str) -> Image:
        """Build the image of a Dockerfile in `deploy/docker`; `locks` are those that it installs from."""
        self._prepare()
        self._fetch(locks)
        given = {"BUILD_BASE": "localhost/build", "BASE": "localhost/slim", **arguments}
        told = [it for key, value in given.items() for it in ("--build-arg", f"{key}={value}")]
        told += ["--secret", f"id=pip,src={self.folder / 'pip.conf'}", "--volume", f"{self.folder / 'index'}:/index:ro"]
        path = ROOT / "deploy" / "docker" / f"{name}.Dockerfile"
        self._make(f"localhost/{name}", path, ROOT, *told, "--pull-never")
        return self.opened(f"localhost/{name}")

    def opened(self, tag: str) -> Image:
        """Return an image with its files mounted."""
        config = json.loads(self._buildah("inspect", "--type", "image", tag))["Docker"]["config"]
        container = self._buildah("from", *self._policy(), "--pull-never", tag).strip()
        self._mounted.append(container)
        return Image(config, Path(self._buildah("mount", container).strip()))

    def close(self) -> None:
        """Remove everything: it is gigabytes."""
        for container in self._mounted:
            self._buildah("umount", container)
            self._buildah("rm", container)
        self._mounted.clear()
        ended(["umount", str(self.folder / "store" / "overlay")])  # some kinds of store mount it, and leave it mounted
        shutil.rmtree(self.folder)

    # --- inside

    def _prepare(self) -> None:
        """Make the bases, once."""
        for name, packages in BASES.items():
            path = self.folder / f"{name}.tar"
            if path.exists():
                continue
            (self.folder / "policy.json").write_text(POLICY, encoding="utf-8")
            (self.folder / "pip.conf").write_text(PIP, encoding="utf-8")
            made = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(path)]
            _well(ended(made, seconds=BUILD_SECONDS))
            recipe = self.folder / f"{name}.Dockerfile"
            recipe.write_text(f"FROM scratch\nADD {path.name} /\n", encoding="utf-8")
            self._make(f"localhost/{name}", recipe, self.folder)

    def _fetch(self, locks: Sequence[str]) -> None:
        """Have every package of these locks in the folder that stands in for an index.

        Whatever its marker says: the base's Python is not ours, and may need what ours does not.
        """
        wanted: list[str] = []
        for name in locks:
            text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
            path = self.folder / f"{name}.txt"
            path.write_text(re.sub(r" ; [^\\\n]*(?=\\$)", " ", text, flags=re.MULTILINE), encoding="utf-8")
            wanted += ["-r", str(path)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(self.folder / "index"), *wanted]
        _well(ended(command, seconds=BUILD_SECONDS))

    def _make(self, tag: str, path: Path, context: Path, *more: str) -> None:
        # In docker's own form: the other knows no health check.
        self._buildah("build", *self._policy(), "--format", "docker", "-t", tag, "-f", str(path), *more, str(context))

    def _policy(self) -> tuple[str, str]:
        return "--signature-policy", str(self.folder / "policy.json")

    def _buildah(self, command: str, *arguments: str) -> str:
        stores = ["--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")]
        environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        return _well(ended(["buildah", *stores, command, *arguments], seconds=BUILD_SECONDS, environ=environ))


class Container:
    """A running one; `pid` is its first process, as this machine sees it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its first process."""
        deadline = time.monotonic() + END_SECONDS
        while not (found := psutil.Process(self._process.pid).children()):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, "it was not begun"
            time.sleep(0.02)
        return found[0].pid

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self, number: int) -> int:
        """Send it a signal as its runtime would; return its exit code."""
        os.kill(self.pid, number)
        return self._process.wait(END_SECONDS)


@contextmanager
def running(
    image: Image,
    command: Sequence[str],
    log: Path,
    *,
    environ: Mapping[str, str] | None = None,
    mounts: Mapping[Path, str] | None = None,
) -> Iterator[Container]:
    """Run a command in a container of its own, as the image's user; it is killed in the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            _entering(image, command, mounts or {}),
            env={**image.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Container(process, log)
    finally:
        process.kill()  # with it what it entered for
        process.wait()


def done(
    image: Image,
    command: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    mounts: Mapping[Path, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a container of its own, to its end."""
    return ended(_entering(image, command, mounts or {}), environ={**image.environ, **(environ or {})})


def stop_signal(image: Image) -> int:
    """Return what the image asks to be stopped with."""
    return signal.Signals[image.config["StopSignal"]]


def _entering(image: Image, command: Sequence[str], mounts: Mapping[Path, str]) -> list[str]:
    user, group = image.config["User"].split(":")
    pairs = [it for path, where in mounts.items() for it in (str(path), where)]
    into = [str(image.root), image.config["WorkingDir"] or "/", user, group, *pairs]
    return ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", ENTER, "sh", *into, "--", *command]


def _well(it: subprocess.CompletedProcess[str]) -> str:
    assert it.returncode == 0, f"{it.args}:\n{it.stdout[-3000:]}\n{it.stderr[-3000:]}"
    return it.stdout
