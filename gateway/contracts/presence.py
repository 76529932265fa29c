"""Who is in which channel, over all nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.contracts.broker import Done
from gateway.protocol.values import PresenceStats
from gateway.types import Channel, ClientInfo, ConnectionId


class PresenceStore(Protocol):
    """Presence by lease of a node. Every call is idempotent.

    With `announce` the join or leave is published in the same atomic step, so the two never invert; `first` and
    `last` count the connections of a user. A removal only removes what this registration of the node (its
    incarnation) has added. Calls for one client and channel take effect in the order they were made.
    """

    def add(self, channel: Channel, who: ClientInfo, announce: bool, done: Done[None]) -> None:
        """Enter a client; announced only if it was not there."""

    def remove(self, channel: Channel, client: ConnectionId, announce: bool, done: Done[None]) -> None:
        """Take a client out; announced only if it was there under our incarnation."""

    def members(self, channel: Channel, done: Done[Mapping[ConnectionId, ClientInfo]]) -> None:
        """Everyone in the channel."""

    def stats(self, channel: Channel, done: Done[PresenceStats]) -> None:
        """How many connections and different users are in the channel."""
