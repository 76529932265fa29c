"""The nouns that every layer shares: identifiers, positions, publications, identities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NewType

import msgspec

from gateway.compact import Channel, ClientInfo, Compact, ConnectionId, Position, Publication, UserId

__all__ = [
    "Channel",
    "ClientInfo",
    "Compact",
    "ConnectionId",
    "Grant",
    "Identity",
    "NodeId",
    "Peer",
    "Position",
    "Publication",
    "Record",
    "UserId",
]

NodeId = NewType("NodeId", str)  # UUIDv4 text, new at each start


class Record(msgspec.Struct, gc=False):
    """The base of the vocabulary: fields and equality. Made in a third of a dataclass's time.

    What is made for each message is a `Compact` instead.

    Records form trees, never cycles, so the garbage collector need not look at them.
    """


class Grant(Record):
    """What a token gives for one channel: infos and data are raw JSON, overrides are namespace option names."""

    info: bytes | None = None
    data: bytes | None = None
    override: Mapping[str, bool] = msgspec.field(default_factory=dict)


class Identity(Record):
    """What a verified token says; `expires_at` is wall-clock seconds, None = never."""

    user: UserId
    expires_at: float | None = None
    info: bytes | None = None
    grants: Mapping[Channel, Grant] = msgspec.field(default_factory=dict)  # server-side subscriptions
    channel: Channel | None = None  # set: this is a subscription token for that channel
    client: ConnectionId | None = None  # subscription token bound to one connection
    grant: Grant | None = None  # the subscription token's own grant
    ticket: bool = False  # a one-time ticket; its `token_id` must be claimed before use
    session_id: str = ""  # claim `sid`
    token_id: str = ""  # claim `jti`
    key_id: str = ""  # of the key that signed: its `kid`, its thumbprint if it was given as PEM
    issued_at: float | None = None  # claim `iat`, wall clock


class Peer(Record):
    """The other end of a connection, as the last trusted hop reports it."""

    address: str
    request_id: str = ""
