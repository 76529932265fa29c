"""The node that is measured: its settings, how it is started, and its clients.

Every connection has a token of its own; all checks and metrics are on. `client.command_rate` is 0, since one publisher
stands for many, and so are the limits of connections per address and of accepts per second.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from gateway.demo.ports import free_port
from loadtests.bench import shipped
from loadtests.bench.rig import Client, Server, python, server
from loadtests.identity import Issuer
from loadtests.peers.contract import SOURCES

DATA: Final = "x" * 92  # with its JSON around it 100 bytes
TIMED: Final = "x" * 71  # about as many with the moment in front, which grows with the uptime
PLAIN: Final = "bench"  # namespaces
KEPT: Final = "kept"  # history and recovery
ROOM: Final = "room"  # presence
API_KEY: Final = "bench"
PATH: Final = "/connection/websocket"
PATIENCE: Final = 10.0  # seconds for Valkey, which shares its core with the load: a slice is slow rather than refused
FILES: Final = 20_000  # that a node may have open
_RIGHTS: Final = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
_NAMESPACES: Final = [
    {"name": PLAIN, **_RIGHTS},
    {"name": KEPT, **_RIGHTS, "history_size": 100, "history_ttl": "60s", "force_recovery": True},
    {"name": ROOM, **_RIGHTS, "presence": True},
]


def publication(namespace: str = PLAIN, *, timed: bool = False) -> str:
    """Return the template of a publication to the next channel of a namespace."""
    data = f'{{"t":@T,"v":"{TIMED}"}}' if timed else f'{{"v":"{DATA}"}}'
    return f'{{"id":@I,"publish":{{"channel":"{namespace}:@C","data":{data}}}}}'


def config(
    jwks: str, redis: str, prefix: str, changes: Mapping[str, Mapping[str, object]] | None = None
) -> dict[str, object]:
    """Return the settings of a node; `changes` by section."""
    token = {"jwks_public_endpoint": jwks}
    sections: dict[str, dict[str, object]] = {
        "engine": {"url": redis, "prefix": prefix, "command_timeout": PATIENCE},
        "client": {"command_rate": 0, "connection_rate_limit": 0, "token": token},
        "http_server": {"connections_per_ip": 0},
        "http_api": {"key": API_KEY},
        "channel": {"namespaces": _NAMESPACES},
        "log": {"level": "warning", "format": "json"},
    }
    for section, values in (changes or {}).items():
        sections[section] = {**sections.get(section, {}), **values}
    return {**sections}


SERVE: Final = ("-m", "gateway.cli", "serve")


@contextmanager
def our_server(
    jwks: str,
    redis: str,
    *,
    program: Sequence[str] = SERVE,
    changes: Mapping[str, Mapping[str, object]] | None = None,
    environ: Mapping[str, str] | None = None,
    pinned: bool = True,
) -> Iterator[Server]:
    """Run one node. `program`: what this interpreter is given, for a node that is not quite the usual one.

    Its keys in Redis are its own: two nodes of a bench would deliver each other's publications, on the same core.
    """
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config(jwks, redis, f"bench-{port}", changes), file)
        file.flush()
        # No more files than a usual container allows: what a node does near that limit is part of what is measured.
        limit = ("sh", "-c", f'ulimit -n {FILES} 2>/dev/null; exec "$@"', "sh")
        command = [*limit, *python(*program, "--port", str(port), "--config", file.name)]
        environ = {**shipped.environ(), **(environ or {})}
        with server(command, port=port, ready="/health/ready", environ=environ, pinned=pinned) as running:
            yield running


def ours(port: int, issuer: Issuer, number: int, channel: str | None, role: str = "S") -> Client:
    """Return a Centrifuge client with its own token that subscribes to a channel (None: only connects)."""
    return client(port, number, issuer.token(f"u{number}", number), channel, role)


def client(port: int, number: int, token: str, channel: str | None, role: str = "S") -> Client:
    """Return a Centrifuge client with this token; `number` decides the address it comes from."""
    first, ready = f'{{"id":1,"connect":{{"token":"{token}"}}}}', '"id":1'
    if channel is not None:
        ready = '"id":2'
        first += f'\x1e{{"id":2,"subscribe":{{"channel":"{channel}"}}}}'
    return Client(role, port, PATH, ready, first, source(number))


def source(number: int) -> str:
    """Return the address that a client comes from: one alone runs out of ports."""
    return f"127.0.0.{2 + number % SOURCES}"


def audience(
    port: int, issuer: Issuer, number: int, channel: Callable[[int], str], *, first: int = 0, speaker: bool = True
) -> list[Client]:
    """Return `number` subscribers, each of its channel, and a publisher."""
    clients = [ours(port, issuer, first + it, channel(it)) for it in range(number)]
    return [*clients, ours(port, issuer, first + number, None, "P")] if speaker else clients
