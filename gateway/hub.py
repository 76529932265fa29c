"""This node's index of who listens to what, and the fan-out to them. Synchronous, and pure but for its recipients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from gateway.disconnects import Disconnect
from gateway.outbox import Flusher, Source
from gateway.protocol.messages import JoinPush, LeavePush, PublicationPush
from gateway.protocol.repair import Repair
from gateway.recipients import Event, Group, Held, Recipient
from gateway.telling import Telling
from gateway.types import Channel, Position


class Interest(Source):
    """What this node knows of one channel: its position, its recipients by group, and the frames of this turn.

    It is suspect while there is a `repair`: publications may be missing behind its position, and none is passed on but
    by the repair.
    """

    __slots__ = (
        "channel",
        "flusher",
        "joining",
        "members",
        "meta_ttl",
        "pending",
        "position",
        "repair",
        "seen",
        "spilt",
        "telling",
        "watchers",
    )

    def __init__(self, channel: Channel, flusher: Flusher, telling: Telling, spilt: Callable[[int], None]) -> None:
        self.channel = channel
        self.flusher = flusher
        self.telling = telling
        self.spilt = spilt
        self.position: Position | None = None  # of the last publication passed on; None: the next one sets it
        self.repair: Repair | None = None
        self.seen = -1  # the offset that the position check saw last
        self.meta_ttl = 0.0  # seconds for which reading keeps the stream's identity alive
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

    def publish(self, push: PublicationPush) -> bool:
        """Encode once per group and keep the frames until the end of the turn; order and gaps were checked before.

        False: nobody is shown it, but perhaps those who are joining.
        """
        pending = self.pending
        shown = False
        for group in self.members:
            frame = group.encode(push)
            if frame is not None:
                pending.setdefault(group, []).append(frame)
                shown = True
        if pending:
            self.flusher.mark_source(self.channel, self)
        if self.joining:
            self._pass_to_joining(push)
        return shown

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
        if full:
            self.flusher.relieve(full)

    def settle(self, held: Held, position: Position | None) -> bool:
        """Note where a joining recipient's reply will leave it. False: in another stream than the channel is in."""
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

    def go_on(self, start: Position) -> None:
        """Continue from `start` although something is missing before it: tell those who have not come so far."""
        self.spill()
        position, self.position = self.position, Position(start.offset, start.epoch)
        for held in self.joining.values():
            if held.position is None:
                held.restart(broken=True)  # its reply is to be of what is read from now on
        self._lose_members(position)
        for held in tuple(self.joining.values()):
            if held.live and held.positioned and not held.reaches(start):  # its reply may have reached further
                self._lose(held.recipient, held.position or position)

    def give_up(self) -> None:
        """Be live again although nobody knows what is missing: tell who must know, and go on from what comes next."""
        self.spill()
        position, self.position, self.repair = self.position, None, None
        self._lose_members(position)
        for held in tuple(self.joining.values()):
            if not held.live:
                held.restart(broken=True)  # what the repair has held back is in no reply
            elif held.positioned:
                self._lose(held.recipient, held.position or position)
            else:
                self._promote(held)

    def mended(self) -> None:
        """Be live again: sort out whose reply belongs to another stream than it has turned out to be."""
        self.repair = None
        for held in tuple(self.joining.values()):
            if held.position is None or self.position is None:
                continue
            if held.position.epoch == self.position.epoch or not held.positioned:
                if held.live:
                    self._promote(held)
            elif held.live:
                self._lose(held.recipient, held.position)
            else:
                held.restart(broken=True)

    def remove(self, recipient: Recipient) -> None:
        """Forget a recipient, wherever it is; it gets nothing more of this channel."""
        self.spill()
        _take_out((recipient,), recipient.group, self.members)
        _take_out((recipient,), recipient.group, self.watchers)
        self.joining.pop(recipient, None)

    def _lose_members(self, position: Position | None) -> None:
        for group, members in tuple(self.members.items()):
            told = {recipient for recipient in members if recipient.positioned(self.channel)}
            _take_out(told, group, self.members)
            _take_out(told, group, self.watchers)
            self.telling.add(self.channel, told, position)

    def _lose(self, recipient: Recipient, position: Position | None) -> None:
        """Pass nothing on to it any more, and have it told that publications after `position` are missing."""
        self.remove(recipient)
        self.telling.add(self.channel, (recipient,), position)

    def _pass_to_joining(self, push: Event) -> None:
        for held in tuple(self.joining.values()):
            if not held.live:
                held.hold(push)
            elif not held.give(push):
                self._lose(held.recipient, held.position)
            else:
                self._promote(held)

    def _ahead_of(self, held: Held) -> bool:
        ours, its = self.position, held.position
        if ours is None or its is None:
            return False
        return ours.offset > its.offset if ours.epoch == its.epoch else self.repair is None

    def _has_to_wait(self, held: Held) -> bool:
        """Whether the channel may still come to where its reply is; of two streams, the repair tells which it is."""
        ours, its = self.position, held.position
        if ours is None or its is None:
            return False
        return its.offset > ours.offset if ours.epoch == its.epoch else self.repair is not None

    def _promote(self, held: Held) -> None:
        """Make it a plain recipient once the channel's position is not behind its own."""
        if self._has_to_wait(held):
            return
        self.spill()  # what this turn has collected so far came with its reply, or in its own frames
        recipient = held.recipient
        if self.joining.pop(recipient, None) is None:
            return  # it has gone, by what it was given
        self.members.setdefault(recipient.group, set()).add(recipient)
        if held.watch:
            self.watchers.setdefault(recipient.group, set()).add(recipient)


def _take_out(recipients: Collection[Recipient], group: Group, groups: dict[Group, set[Recipient]]) -> None:
    members = groups.get(group)
    if members is not None:
        members.difference_update(recipients)
        if not members:
            del groups[group]


def append(data: bytes, recipients: set[Recipient], flusher: Flusher, full: list[Recipient]) -> None:
    """Append one frame to many outboxes, noting which are over their limit; the innermost loop of the fan-out."""
    size = len(data)
    for recipient in recipients:
        recipient.frames.append(data)
        recipient.queued = queued = recipient.queued + size
        if not recipient.marked:
            flusher.mark(recipient)
        if queued > recipient.limit:
            full.append(recipient)


class Hub:
    """All interests of the node."""

    def __init__(self, *, flusher: Flusher, spilt: Callable[[int], None]) -> None:
        self.flusher = flusher
        self.interests: dict[Channel, Interest] = {}
        self.telling = Telling(flusher)
        self._spilt = spilt  # told how many deliveries each spill made

    def enter(self, channel: Channel, held: Held) -> Interest:
        """Let a recipient in; from now on everything in the channel is held back for it."""
        interest = self.interests.get(channel)
        if interest is None:
            interest = self.interests[channel] = Interest(channel, self.flusher, self.telling, self._spilt)
        interest.joining[held.recipient] = held
        return interest

    def leave(self, channel: Channel, recipient: Recipient) -> None:
        """Take a recipient out, also one that waits to be told; the interest goes with its last one."""
        self.telling.forget(channel, recipient)
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
