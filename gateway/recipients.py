"""Who listens, as the hub sees it: groups that share bytes, recipients, and what is held for those who are joining."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.contracts.codec import Codec
from gateway.contracts.transport import Framing, Transport
from gateway.disconnects import Disconnect
from gateway.outbox import Flusher, Outbox
from gateway.protocol.messages import JoinPush, LeavePush, PublicationPush
from gateway.protocol.repair import EVENT_COST, HELD_LIMIT
from gateway.types import Channel, Position, Publication

Event: TypeAlias = PublicationPush | JoinPush | LeavePush


@dataclass(eq=False, slots=True)
class Group:
    """All connections whose frames are the same bytes: one codec over one framing."""

    codec: Codec
    framing: Framing

    def encode(self, push: Event) -> bytes | None:
        """Build the frame that the whole group shares; None = this protocol does not show it."""
        payload = self.codec.push(push)
        return None if payload is None else self.framing.frame(payload, self.codec.text)


class Recipient(Outbox):
    """A connection, as the hub sees it: its outbox, and whom to tell when it cannot follow.

    No protocol: who writes to a thousand of them reaches their fields directly.
    """

    __slots__ = ("group",)

    def __init__(self, *, group: Group, transport: Transport, flusher: Flusher, limit: int) -> None:
        super().__init__(transport=transport, flusher=flusher, limit=limit)
        self.group = group

    @abstractmethod
    def close(self, disconnect: Disconnect) -> None:
        """End the connection."""

    @abstractmethod
    def positioned(self, channel: Channel) -> bool:
        """Whether it was promised to be told when it misses something in a channel."""

    @abstractmethod
    def insufficient(self, channel: Channel, position: Position | None) -> None:
        """Say that publications after `position` are missing; what that means is its session's business."""


@dataclass(eq=False, slots=True)
class Held:
    """A recipient between its subscribe and its place among the plain ones.

    Until it is `live`, everything is held back; then it gets its own frames until the channel's position has caught
    up with the reply's. `broken`: something may be missing among the held events, since this was last set to False.
    """

    recipient: Recipient
    watch: bool  # wants joins and leaves
    positioned: bool
    events: list[Event] = field(default_factory=list)
    size: int = 0
    broken: bool = False
    live: bool = False
    position: Position | None = None  # up to where the reply and the frames after it have brought the recipient

    def hold(self, event: Event) -> None:
        """Keep an event for later, within the limit."""
        if not self.watch and not isinstance(event, PublicationPush):
            return
        self.size += EVENT_COST + (len(event.publication.data) if isinstance(event, PublicationPush) else 0)
        if self.size > HELD_LIMIT:
            self.restart(broken=True)
        else:
            self.events.append(event)

    def restart(self, *, broken: bool) -> None:
        """Forget what is held."""
        self.events.clear()
        self.size = 0
        self.broken = broken

    def give(self, event: Event) -> bool:
        """Send one event in its own frame. False: a positioned recipient would have missed something before it."""
        if isinstance(event, PublicationPush):
            step = self._step(event.publication)
            if step < 1:
                return True  # it came with the reply
            if step > 1 and self.positioned:
                return False
            if self.position is not None and event.publication.offset:
                self.position = Position(event.publication.offset, event.publication.epoch)
        elif not self.watch:
            return True
        frame = self.recipient.group.encode(event)
        if frame is not None and (disconnect := self.recipient.put(frame)) is not None:
            self.recipient.close(disconnect)
        return True

    def reaches(self, start: Position) -> bool:
        """Whether its reply and the frames after it have brought the recipient to `start` or beyond."""
        its = self.position
        return its is not None and its.epoch == start.epoch and its.offset >= start.offset

    def _step(self, publication: Publication) -> int:
        """Return how far a publication is ahead: 1 = it is the next one, or the channel has no positions."""
        if not publication.offset or self.position is None:
            return 1
        if publication.epoch != self.position.epoch:
            return publication.offset + 1
        return publication.offset - self.position.offset
