"""What the demo runs where, and the secrets it keeps between two runs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.demo.ports import HOST, fault
from gateway.errors import OperatorError

USERS: Final = ("alice", "bob", "carol")


@dataclass(frozen=True, slots=True)
class Plan:
    """The flags of `gateway demo`; `redis` empty = bring one along."""

    port: int = 8000
    auth_port: int = 8001
    second_port: int = 8002
    directory: Path = field(default=Path(".demo"))
    redis: str = ""
    token_seconds: int = 600

    @property
    def nodes(self) -> Mapping[str, int]:
        """The nodes' names and ports."""
        return {"node-1": self.port, "node-2": self.second_port}

    @property
    def keys(self) -> Path:
        """The folder of the auth service's private keys."""
        return self.directory / "keys"

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


def move_key(plan: Plan) -> None:
    """Bring the key of a demo that knew but one to where the auth service finds it: its tokens stay good."""
    old = plan.directory / "signing_key.pem"
    if old.exists() and not plan.keys.exists():
        plan.keys.mkdir(mode=0o700)
        old.rename(plan.keys / "first.pem")


def check_ports(plan: Plan) -> None:
    """Raise OperatorError, naming the flag, when a port cannot be had."""
    flags = {"--port": plan.port, "--auth-port": plan.auth_port, "--second-port": plan.second_port}
    seen: dict[int, str] = {}
    for flag, port in flags.items():
        if port in seen:
            raise OperatorError(f"{seen[port]} and {flag} are both {port}: each program needs a port of its own")
        seen[port] = flag
        if why := fault(port):
            raise OperatorError(f"port {port} cannot be used ({why}): choose another with {flag}")
