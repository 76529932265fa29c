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
    `last` count the connections of a user. A removal only removes what this node has added. Calls for one client and
    channel take effect in the order they were made.

    Entries stay as long as their node lives, and leave soon after it died, announced if they were entered so. What an
    engine lost meanwhile it enters anew, as `EngineSink.present` has it then: a join may repeat, but there is no leave
    without a join. A removal whose outcome is a fault takes effect nevertheless, as soon as that is possible.
    """

    def add(self, channel: Channel, who: ClientInfo, announce: bool, done: Done[None]) -> None:
        """Enter a client; announced only if it was not there."""

    def remove(self, channel: Channel, client: ConnectionId, announce: bool, done: Done[None]) -> None:
        """Take a client out; announced only if it was there as one of this node's."""

    def members(self, channel: Channel, done: Done[Mapping[ConnectionId, ClientInfo]]) -> None:
        """Everyone in the channel."""

    def stats(self, channel: Channel, done: Done[PresenceStats]) -> None:
        """How many connections and different users are in the channel."""
