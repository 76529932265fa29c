"""Codecs as they are found on disk, and a short way to talk to one."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Sequence
from typing import Any

from gateway import codecs
from gateway.contracts.codec import Codec, Dialect
from gateway.protocol.messages import Command, Push, Reply
from gateway.protocol.values import Hello, PresentedToken
from gateway.types import Peer

PEER = Peer("192.0.2.1")


def codecs_on_disk() -> dict[str, Codec]:
    """Return every codec by the name of its file or folder; names that begin with `_` are not codecs."""
    names = [found.name for found in pkgutil.iter_modules(codecs.__path__) if not found.name.startswith("_")]
    return {name: importlib.import_module(f"gateway.codecs.{name}").codec for name in names}


def hello(
    *, room: str | None = None, token: str | None = None, anonymous: bool = False, since: str | None = None
) -> Hello:
    """Return what a codec learns of a handshake."""
    query = {} if since is None else {"since": since}
    presented = None if token is None else PresentedToken(token, "query")
    return Hello(PEER, room, query, presented, anonymous)


def opened(codec: Codec, greeting: Hello | None = None) -> Dialect:
    """Return a dialect whose handshake is done, identified where the handshake can do that."""
    dialect = codec.dialect(greeting or hello(token="t"))
    dialect.open()
    return dialect


def decode(dialect: Dialect, message: Any) -> Sequence[Command]:
    """Decode one text frame: raw bytes, text, or an object to be put into JSON."""
    if isinstance(message, bytes):
        return dialect.decode(message, text=True)
    return dialect.decode((message if isinstance(message, str) else json.dumps(message)).encode(), text=True)


def shown(dialect: Dialect, message: Reply | Push) -> list[Any]:
    """Return what the client is sent, parsed."""
    return [json.loads(payload) for payload in dialect.encode(message).payloads]
