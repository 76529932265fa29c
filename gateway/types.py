"""The nouns that every layer shares: identifiers, positions, publications, identities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

ConnectionId = NewType("ConnectionId", str)  # UUIDv4 text, one per live link
UserId = NewType("UserId", str)  # "" = anonymous
Channel = NewType("Channel", str)
NodeId = NewType("NodeId", str)  # UUIDv4 text, new at each start


@dataclass(slots=True)
class Position:
    """A place in a channel's stream: `offset` counts from 1 within one `epoch`."""

    offset: int
    epoch: str


@dataclass(slots=True)
class ClientInfo:
    """Who a client is, as others in a channel may see it; both infos are raw JSON."""

    user: UserId
    client: ConnectionId
    conn_info: bytes | None = None
    chan_info: bytes | None = None


@dataclass(slots=True)
class Publication:
    """One message in a channel. `data` is raw JSON; `offset` is 0 on channels without history."""

    data: bytes
    offset: int = 0
    epoch: str = ""
    info: ClientInfo | None = None  # set only when a client published it
    time_ms: int = 0  # wall clock of the publishing node
    tags: Mapping[str, str] | None = None


@dataclass(slots=True)
class Grant:
    """What a token gives for one channel: infos and data are raw JSON, overrides are namespace option names."""

    info: bytes | None = None
    data: bytes | None = None
    override: Mapping[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Identity:
    """What a verified token says; `expires_at` is wall-clock seconds, None = never."""

    user: UserId
    expires_at: float | None = None
    info: bytes | None = None
    grants: Mapping[Channel, Grant] = field(default_factory=dict)  # server-side subscriptions
    channel: Channel | None = None  # set: this is a subscription token for that channel
    client: ConnectionId | None = None  # subscription token bound to one connection
    grant: Grant | None = None  # the subscription token's own grant
    ticket: bool = False  # a one-time ticket; its `token_id` must be claimed before use
    session_id: str = ""  # claim `sid`
    token_id: str = ""  # claim `jti`
    key_id: str = ""  # header `kid`


@dataclass(slots=True)
class Peer:
    """The other end of a connection, as the last trusted hop reports it."""

    address: str
    request_id: str = ""
