"""Values that cross the contracts: what is asked of an engine or a codec, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gateway.types import ClientInfo, NodeId, Peer, Position, Publication

if TYPE_CHECKING:
    from gateway.protocol.messages import Command


@dataclass(slots=True)
class PublishOptions:
    """How to publish: `history_size` 0 = no history. Times in seconds; `time_ms` is the wall clock of this node."""

    history_size: int = 0
    history_ttl: float = 0.0
    history_meta_ttl: float = 0.0
    idempotency_key: str = ""
    info: ClientInfo | None = None
    tags: Mapping[str, str] | None = None
    time_ms: int = 0


@dataclass(slots=True)
class Published:
    """A publication was taken: its `position` (None without history); `duplicate` = the idempotency key was known."""

    position: Position | None = None
    duplicate: bool = False


@dataclass(slots=True)
class HistoryQuery:
    """Which publications to read.

    `limit` 0 = none (only the top), -1 = all. Forward: after `since` (or from the oldest). Reverse: before `since`
    (or from the newest), newest first. `meta_ttl` in seconds keeps the stream's identity alive.
    """

    limit: int = 0
    since: Position | None = None
    reverse: bool = False
    meta_ttl: float = 0.0


@dataclass(slots=True)
class HistoryPage:
    """Publications and the top of the stream, read in one atomic step. The epoch of `top` is never empty."""

    publications: Sequence[Publication]
    top: Position


@dataclass(slots=True)
class PresenceStats:
    """How many connections, and how many different users, are in a channel."""

    num_clients: int
    num_users: int


@dataclass(slots=True)
class NodeInfo:
    """One node as the others see it; `uptime` in seconds."""

    uid: NodeId
    name: str
    version: str
    num_clients: int = 0
    num_users: int = 0
    num_subs: int = 0
    num_channels: int = 0
    uptime: int = 0


@dataclass(slots=True)
class PresentedToken:
    """A token that came with the handshake, and by which of the ways of the chat protocol page."""

    value: str
    way: Literal["header", "subprotocol", "ticket", "query"]


@dataclass(slots=True)
class Hello:
    """What a codec learns of the handshake. `query` holds no token; `anonymous`: no token is needed here."""

    peer: Peer
    room: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    token: PresentedToken | None = None
    anonymous: bool = False


@dataclass(slots=True)
class Encoded:
    """Payloads to send, and commands that the dialect itself gives next; `text` None = as the codec says."""

    payloads: Sequence[bytes] = ()
    commands: Sequence[Command] = ()
    text: bool | None = None
