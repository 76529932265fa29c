"""Values that cross the contracts: what is asked of an engine or a codec, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gateway.protocol.compact import Encoded as Encoded  # noqa: PLC0414 - a word of this vocabulary
from gateway.protocol.compact import Published as Published  # noqa: PLC0414 - a word of this vocabulary
from gateway.protocol.compact import PublishOptions as PublishOptions  # noqa: PLC0414 - a word of this vocabulary
from gateway.types import NodeId, Peer, Position, Publication, Record


class HistoryQuery(Record):
    """Which publications to read.

    `limit` 0 = none (only the top), -1 = all. Forward: after `since` (or from the oldest). Reverse: before `since`
    (or from the newest), newest first. `meta_ttl` in seconds keeps the stream's identity alive.
    """

    limit: int = 0
    since: Position | None = None
    reverse: bool = False
    meta_ttl: float = 0.0


class HistoryPage(Record):
    """Publications and the top of the stream, read in one atomic step. The epoch of `top` is never empty."""

    publications: Sequence[Publication]
    top: Position


class PresenceStats(Record):
    """How many connections, and how many different users, are in a channel."""

    num_clients: int
    num_users: int


class NodeInfo(Record):
    """One node as the others see it; `uptime` in seconds."""

    uid: NodeId
    name: str
    version: str
    num_clients: int = 0
    num_users: int = 0
    num_subs: int = 0
    num_channels: int = 0
    uptime: int = 0


class PresentedToken(Record):
    """A token that came with the handshake, and by which of the ways of the chat protocol page."""

    value: str
    way: Literal["header", "subprotocol", "ticket", "query"]


class Hello(Record):
    """What a codec learns of the handshake. `query` holds no token; `anonymous`: no token is needed here."""

    peer: Peer
    room: str | None = None
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    token: PresentedToken | None = None
    anonymous: bool = False
