"""Several nodes of one configuration: what they need, what each makes of it, and the way from process to process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Final

from pydantic import SecretStr

from gateway.settings.policies import node_name
from gateway.settings.tree import Settings

_LAST_PORT: Final = 65_535


def worker_faults(settings: Settings) -> Iterator[str]:
    """Yield why these settings cannot be those of several workers, a line each; nothing for a single node."""
    http = settings.http_server
    if http.workers == 1:
        return
    if sys.platform != "linux":
        yield "http_server.workers: several workers need Linux, which spreads connections over them: start one"
    if settings.engine.url.startswith("memory:"):
        yield (
            "http_server.workers: memory:// keeps all in one process, so clients of two workers would never meet: "
            "set engine.url to a Redis, or start one worker"
        )
    if not http.port:
        yield "http_server.port: should be a number with several workers, who share it; 0 would give each another one"
    if not http.internal_port:
        yield (
            "http_server.internal_port: should be set with several workers: the first one serves health, metrics and "
            "API there, each further one on the next port"
        )
    elif http.internal_port + http.workers - 1 > _LAST_PORT:
        yield f"http_server.internal_port: leaves no room for {http.workers} ports up to {_LAST_PORT}"
    elif http.port in worker_ports(settings):
        yield f"http_server.internal_port: port {http.port} is the public one, and that of a worker; choose another"


def worker_ports(settings: Settings) -> range:
    """Return the internal ports of the workers, in their order; empty without an internal port."""
    first = settings.http_server.internal_port
    return range(first, first + settings.http_server.workers) if first else range(0)


def worker_settings(settings: Settings, index: int) -> Settings:
    """Return what the worker with this index, from 0, runs by. The number of workers stays in it."""
    http = settings.http_server.model_copy(
        update={"reuse_port": True, "internal_port": worker_ports(settings)[index]},
    )
    node = settings.node.model_copy(update={"name": f"{node_name(settings)}_{index}"})
    return settings.model_copy(update={"http_server": http, "node": node})


def to_bytes(settings: Settings) -> bytes:
    """Return the whole tree, secrets in clear: for the memory of a process of ours, and nothing else."""
    return json.dumps(settings.model_dump(), default=_revealed).encode()


def from_bytes(data: bytes) -> Settings:
    """Read what `to_bytes` has written."""
    return Settings.model_validate_json(data)


def _revealed(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    raise TypeError(f"no setting is a {type(value).__name__}")
