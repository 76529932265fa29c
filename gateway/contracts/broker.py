"""What carries publications between nodes, and what keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from gateway.errors import EngineFault
from gateway.protocol.values import HistoryPage, HistoryQuery, Published, PublishOptions
from gateway.types import Channel

T = TypeVar("T")

Done: TypeAlias = Callable[[T | EngineFault], None]
"""Called exactly once, on the loop, never inside the call that was given it; it never raises."""


class Broker(Protocol):
    """Publications. Every call is synchronous, never blocks, and completes through `done` within a deadline.

    Order: publications that one node hands over for one channel are delivered in that order, everywhere.
    Delivery is at most once; the offsets of a channel with history make a loss visible.
    """

    __slots__ = ()

    def publish(self, channel: Channel, data: bytes, options: PublishOptions, done: Done[Published]) -> None:
        """Publish raw JSON. With `options.history_size` the publication is kept and fanned out in one atomic step.

        Never retried: on an EngineFault of kind `lost` or `timeout` it may have happened all the same. With an
        idempotency key seen before (300 s) nothing is published and the first position comes back as a duplicate; so
        an engine may repeat such a publication once, which then may come later than publications handed over after it.
        """

    def subscribe(self, channel: Channel, done: Done[None]) -> None:
        """Take one reference; `done` after the broker's acknowledgement (next turn if it stands already).

        A fault leaves no reference behind. Kinds: `down` at once while there is no link, `timeout` after 5 s.
        """

    def unsubscribe(self, channel: Channel) -> None:
        """Drop one reference. The broker may go on delivering for a while. Never fails."""

    def claim(self, key: str, ttl: float, done: Done[bool]) -> None:
        """Answer True to the first caller in the whole cluster within `ttl` seconds, False to all others."""


class History(Protocol):
    """Kept publications: a window, not a database."""

    def read(self, channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        """Read publications and the top of the stream in one atomic step; creates the epoch if there is none.

        The offsets of the page are as kept: `since` of another epoch is for the caller to notice.
        """

    def remove(self, channel: Channel, done: Done[None]) -> None:
        """Forget the publications, keep epoch and offset."""
