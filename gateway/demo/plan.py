"""What the demo runs where, and the secrets it keeps between two runs."""

from __future__ import annotations

import json
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import OperatorError

HOST: Final = "127.0.0.1"
_QUIET_PORTS: Final = range(20_000, 32_000)  # below the range of outgoing connections, which Linux begins at 32768
USERS: Final = ("alice", "bob", "carol")


@dataclass(frozen=True, slots=True)
class Plan:
    """The flags of `gateway demo`; `redis` empty = bring one along."""

    port: int = 8000
    auth_port: int = 8001
    second_port: int = 8002
    directory: Path = field(default=Path(".demo"))
    redis: str = ""

    @property
    def nodes(self) -> Mapping[str, int]:
        """The nodes' names and ports."""
        return {"node-1": self.port, "node-2": self.second_port}

    @property
    def auth_url(self) -> str:
        """Where the auth service listens."""
        return url(self.auth_port)

    @property
    def origins(self) -> list[str]:
        """The origins a browser may come from: the page is served by each node, under both names of this machine."""
        return [f"http://{host}:{port}" for port in self.nodes.values() for host in (HOST, "localhost")]

    @property
    def page(self) -> dict[str, object]:
        """What the chat page must know: the content of `/demo.json`."""
        nodes = [{"name": name, "url": url(port)} for name, port in self.nodes.items()]
        return {"nodes": nodes, "auth": self.auth_url, "room": "lobby"}


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made at the first start, kept for the next ones."""

    passwords: Mapping[str, str]
    api_key: str


def url(port: int) -> str:
    """Return the base URL of a program of the demo."""
    return f"http://{HOST}:{port}"


def keep_secrets(directory: Path) -> Secrets:
    """Read the secrets of this directory, or make them."""
    path = directory / "secrets.json"
    if not path.exists():
        made = {"passwords": {user: secrets.token_hex(6) for user in USERS}, "api_key": secrets.token_hex(16)}
        path.touch(mode=0o600)
        path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Secrets(passwords={user: str(kept["passwords"][user]) for user in USERS}, api_key=str(kept["api_key"]))
    except (ValueError, KeyError, TypeError):
        raise OperatorError(f"{path} is damaged: remove {directory} and start again") from None


def check_ports(plan: Plan) -> None:
    """Raise OperatorError, naming the flag, when a port cannot be had."""
    flags = {"--port": plan.port, "--auth-port": plan.auth_port, "--second-port": plan.second_port}
    seen: dict[int, str] = {}
    for flag, port in flags.items():
        if port in seen:
            raise OperatorError(f"{seen[port]} and {flag} are both {port}: each program needs a port of its own")
        seen[port] = flag
        if fault := _fault(port):
            raise OperatorError(f"port {port} cannot be used ({fault}): choose another with {flag}")


def free_port() -> int:
    """Return a port that nobody listens on right now. Raises OperatorError when none was found.

    Not one that the kernel would choose: those it also gives to outgoing connections, before our program has bound it.
    """
    for port in random.sample(_QUIET_PORTS, len(_QUIET_PORTS)):
        if _fault(port) is None:
            return port
    raise OperatorError(f"no free port from {_QUIET_PORTS.start} to {_QUIET_PORTS.stop} on {HOST}")


def _fault(port: int) -> str | None:
    """Say why a port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return str(error.strerror)
    return None
