"""This node's index of who listens to what, and the fan-out to them. Synchronous, and pure but for its recipients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from gateway.contracts.codec import Codec
from gateway.contracts.transport import Framing
from gateway.disconnects import Disconnect
from gateway.outbox import Flusher
from gateway.protocol.messages import JoinPush, LeavePush, PublicationPush
from gateway.types import Channel, Position, Publication

HELD_LIMIT: Final = 1 << 20  # bytes of publication data held for one joining recipient
EVENT_COST: Final = 100  # bytes counted for an event beside its data

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


class Recipient(Protocol):
    """A connection, as the hub sees it: its outbox, and whom to tell when it cannot follow."""

    group: Group
    flusher: Flusher
    frames: list[bytes]
    queued: int
    limit: int
    marked: bool

    def put(self, frame: bytes) -> Disconnect | None:
        """Append a frame to its outbox."""

    def relieve(self) -> Disconnect | None:
        """Write its outbox, which is over its limit, or say why not."""

    def flush(self) -> None:
        """Write its outbox."""

    def close(self, disconnect: Disconnect) -> None:
        """End the connection."""

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

    def _step(self, publication: Publication) -> int:
        """Return how far a publication is ahead: 1 = it is the next one, or the channel has no positions."""
        if not publication.offset or self.position is None:
            return 1
        if publication.epoch != self.position.epoch:
            return publication.offset + 1
        return publication.offset - self.position.offset


class Interest:
    """What this node knows of one channel: its position, its recipients by group, and the frames of this turn."""

    __slots__ = ("channel", "flusher", "joining", "members", "pending", "position", "spilt", "watchers")

    def __init__(self, channel: Channel, flusher: Flusher, spilt: Callable[[int], None]) -> None:
        self.channel = channel
        self.flusher = flusher
        self.spilt = spilt
        self.position: Position | None = (
            None  # of the last publication passed on; None: not known, the next one sets it
        )
        self.members: dict[Group, set[Recipient]] = {}
        self.watchers: dict[Group, set[Recipient]] = {}
        self.joining: dict[Recipient, Held] = {}
        self.pending: dict[Group, list[bytes]] = {}

    def __bool__(self) -> bool:
        """Whether anybody is here."""
        return bool(self.members or self.joining)

    def recipients(self) -> Iterator[Recipient]:
        """Yield everyone who is live."""
        for group in self.members.values():
            yield from group
        yield from (recipient for recipient, held in self.joining.items() if held.live)

    def publish(self, push: PublicationPush) -> None:
        """Encode once per group and keep the frames until the end of the turn; order and gaps were checked before."""
        pending = self.pending
        for group in self.members:
            frame = group.encode(push)
            if frame is not None:
                pending.setdefault(group, []).append(frame)
        if pending:
            self.flusher.mark_source(self.channel, self)
        if self.joining:
            self._pass_to_joining(push)

    def announce(self, push: JoinPush | LeavePush) -> None:
        """Pass a join or leave to those who watch, behind the publications that came before it."""
        self.spill()
        slow: list[tuple[Recipient, Disconnect]] = []
        for group, recipients in self.watchers.items():
            frame = group.encode(push)
            if frame is not None:
                slow += [(it, why) for it in recipients if (why := it.put(frame)) is not None]
        for recipient, disconnect in slow:
            recipient.close(disconnect)
        if self.joining:
            self._pass_to_joining(push)

    def spill(self) -> None:
        """Join the frames of this turn once per group and append them to every plain recipient."""
        if not self.pending:
            return
        pending, self.pending = self.pending, {}
        full: list[Recipient] = []
        count = 0
        for group, frames in pending.items():
            members = self.members[group]  # it is there: `remove` spills before it takes anybody out
            count += len(frames) * len(members)
            append(frames[0] if len(frames) == 1 else b"".join(frames), members, self.flusher, full)
        self.spilt(count)
        self._relieve(full)

    def settle(self, held: Held, position: Position | None) -> bool:
        """Note where a joining recipient's reply will leave it. False: the stream is another than the channel's."""
        held.position = position
        if position is not None and self.position is None:
            self.position = Position(position.offset, position.epoch)
        return position is None or self.position is None or position.epoch == self.position.epoch

    def release(self, held: Held) -> bool:
        """Send what was held back, now that the reply is enqueued. False: it missed something."""
        held.live = True
        events, held.events = held.events, []
        if held.broken and held.positioned:
            return False
        for event in events:
            if not held.give(event):
                return False
            if held.recipient not in self.joining:
                return True  # it could not take what it was given, and has gone
        if held.positioned and self._ahead_of(held):
            return False
        self._promote(held)
        return True

    def remove(self, recipient: Recipient) -> None:
        """Forget a recipient, wherever it is; it gets nothing more of this channel."""
        self.spill()
        for groups in (self.members, self.watchers):
            members = groups.get(recipient.group)
            if members is not None:
                members.discard(recipient)
                if not members:
                    del groups[recipient.group]
        self.joining.pop(recipient, None)

    def _pass_to_joining(self, push: Event) -> None:
        for held in tuple(self.joining.values()):
            if not held.live:
                held.hold(push)
            elif not held.give(push):
                held.recipient.insufficient(self.channel, held.position)
            else:
                self._promote(held)

    def _ahead_of(self, held: Held) -> bool:
        ours, its = self.position, held.position
        return ours is not None and its is not None and (ours.epoch != its.epoch or ours.offset > its.offset)

    def _promote(self, held: Held) -> None:
        """Make it a plain recipient once the channel's position is not behind its own."""
        ours, its = self.position, held.position
        if its is not None and ours is not None and its.epoch == ours.epoch and its.offset > ours.offset:
            return
        self.spill()  # what this turn has collected so far came with its reply, or in its own frames
        recipient = held.recipient
        if self.joining.pop(recipient, None) is None:
            return  # it has gone, by what it was given
        self.members.setdefault(recipient.group, set()).add(recipient)
        if held.watch:
            self.watchers.setdefault(recipient.group, set()).add(recipient)

    @staticmethod
    def _relieve(full: list[Recipient]) -> None:
        for recipient in full:
            if (disconnect := recipient.relieve()) is not None:
                recipient.close(disconnect)


def append(data: bytes, recipients: set[Recipient], flusher: Flusher, full: list[Recipient]) -> None:
    """Append one frame to many outboxes, noting which are over their limit; the innermost loop of the fan-out."""
    size = len(data)
    mark = flusher.mark
    for recipient in recipients:
        recipient.frames.append(data)
        recipient.queued = queued = recipient.queued + size
        if not recipient.marked:
            mark(recipient)
        if queued > recipient.limit:
            full.append(recipient)


class Hub:
    """All interests of the node."""

    def __init__(self, *, flusher: Flusher, spilt: Callable[[int], None]) -> None:
        self.flusher = flusher
        self.interests: dict[Channel, Interest] = {}
        self._spilt = spilt  # told how many deliveries each spill made

    def enter(self, channel: Channel, held: Held) -> Interest:
        """Let a recipient in; from now on everything in the channel is held back for it."""
        interest = self.interests.get(channel)
        if interest is None:
            interest = self.interests[channel] = Interest(channel, self.flusher, self._spilt)
        interest.joining[held.recipient] = held
        return interest

    def leave(self, channel: Channel, recipient: Recipient) -> None:
        """Take a recipient out; the interest goes with its last one."""
        interest = self.interests.get(channel)
        if interest is not None:
            interest.remove(recipient)
            if not interest:
                del self.interests[channel]

    def spill(self, channels: Iterable[Channel]) -> None:
        """Bring the outboxes up to date with these channels, before something else is put behind."""
        for channel in channels:
            interest = self.interests.get(channel)
            if interest is not None:
                interest.spill()
