"""The small world of the hub: turns that a test takes by hand, a codec one can read, and listeners that log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from gateway.contracts.clock import Clock
from gateway.contracts.codec import Dialect
from gateway.disconnects import Disconnect
from gateway.hub import Hub
from gateway.joining import Joiner
from gateway.outbox import Flusher
from gateway.protocol.messages import JoinPush, LeavePush, PublicationPush, Push
from gateway.protocol.values import Hello
from gateway.recipients import Event, Group, Held
from gateway.types import Channel, ClientInfo, ConnectionId, Position, Publication, UserId
from tests.support.clock import ManualClock
from tests.support.transport import FRAMING, RecordingTransport

CHANNEL = Channel("chat:x")
EPOCH = "aaaa"


class Turns:
    """A loop without time: what was put off runs when the test takes a turn."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Put off."""
        self.waiting.append(callback)

    def take(self) -> None:
        """Run what waits now, not what it puts off."""
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()

    def take_all(self) -> None:
        """Run until nothing waits."""
        while self.waiting:
            self.take()


class ReadableCodec:
    """`p7` is the publication with offset 7, `j:bob` and `l:bob` are join and leave."""

    subprotocols: tuple[str, ...] = ()
    text = True
    heartbeat: Literal["application", "frame"] = "frame"

    def __init__(self, name: str = "readable", *, shows: tuple[type[Event], ...] | None = None) -> None:
        self.name = name
        self.shows = shows or (PublicationPush, JoinPush, LeavePush)
        self.encoded: list[bytes] = []  # every push once per call, to see that frames are shared

    def push(self, push: Push) -> bytes | None:
        """Encode in two letters, or not at all."""
        if not isinstance(push, self.shows):
            return None
        if isinstance(push, PublicationPush):
            payload = b"p%d" % push.publication.offset + push.publication.data
        else:
            assert isinstance(push, JoinPush | LeavePush)
            payload = b"%s:%s" % (b"j" if isinstance(push, JoinPush) else b"l", push.info.user.encode())
        self.encoded.append(payload)
        return payload

    def dialect(self, hello: Hello) -> Dialect:
        """Never asked: nobody here speaks."""
        raise AssertionError(hello)


class World:
    """One hub with its flusher, and everything that was told about it; turns are taken by hand or by a loop."""

    def __init__(
        self, clock: Clock | None = None, call_soon: Callable[[Callable[[], None]], object] | None = None
    ) -> None:
        self.clock: Clock = clock or ManualClock()
        self.turns = Turns()
        self.flushes = 0
        self.spilt: list[int] = []
        self.flusher = Flusher(
            call_soon=call_soon or self.turns.call_soon, now=self.clock.monotonic, flushed=self._flushed
        )
        self.hub = Hub(flusher=self.flusher, spilt=self.spilt.append)
        self.codec = ReadableCodec()
        self.group = Group(self.codec, FRAMING)

    def _flushed(self) -> None:
        self.flushes += 1

    def publish(self, offset: int = 0, data: bytes = b"", *, channel: Channel = CHANNEL, epoch: str = EPOCH) -> None:
        """Hand a publication to the hub as the relay does, its checks passed."""
        interest = self.hub.interests[channel]
        if offset:
            interest.position = Position(offset, epoch)
        interest.publish(PublicationPush(channel, Publication(data, offset, epoch if offset else "")))


class Listener(Joiner):
    """A connection as the hub sees it; what it was told, its outbox has written in order. It leaves when it is told."""

    __slots__ = ("careless", "closings", "entered", "link", "missed", "name", "world")

    def __init__(self, world: World, name: str = "a", *, group: Group | None = None, limit: int = 1 << 20) -> None:
        self.link = RecordingTransport()
        super().__init__(
            client=ConnectionId(name),
            group=group or world.group,
            transport=self.link,
            flusher=world.flusher,
            limit=limit,
        )
        self.world = world
        self.name = name
        self.careless: set[Channel] = set()  # where it keeps no position
        self.entered: dict[Channel, None] = {}  # in this order, wherever it may still be
        self.closings: list[Disconnect] = []
        self.missed: list[tuple[Channel, Position | None]] = []

    def close(self, disconnect: Disconnect) -> None:
        """Note it and leave everything, as a connection does."""
        self.closings.append(disconnect)
        self.link.close(disconnect, 0.0)
        while self.entered:
            self.world.hub.leave(self.entered.popitem()[0], self)
        self.discard()

    def positioned(self, channel: Channel) -> bool:
        """As it has entered."""
        return channel not in self.careless

    def insufficient(self, channel: Channel, position: Position | None) -> None:
        """Note it and leave the channel, as a session asks for."""
        self.missed.append((channel, position))
        self.world.hub.leave(channel, self)

    def enter(self, channel: Channel = CHANNEL, *, watch: bool = False, positioned: bool = True) -> Held:
        """Begin to subscribe."""
        held = Held(self, watch=watch, positioned=positioned)
        (self.careless.discard if positioned else self.careless.add)(channel)
        self.entered[channel] = None
        self.world.hub.enter(channel, held)
        return held

    def listen(self, position: Position | None = None, *, channel: Channel = CHANNEL, watch: bool = False) -> Held:
        """Subscribe at once, with a reply that says `position`."""
        held = self.enter(channel, watch=watch, positioned=position is not None)
        interest = self.world.hub.interests[channel]
        assert interest.settle(held, position)
        assert interest.release(held)
        return held

    @property
    def heard(self) -> list[str]:
        """Everything that was written so far."""
        return [payload.decode() for payload in self.link.payloads()]


def at(offset: int, epoch: str = EPOCH) -> Position:
    """Return a position."""
    return Position(offset, epoch)


def join_of(user: str, channel: Channel = CHANNEL) -> JoinPush:
    """Return a join."""
    return JoinPush(channel, ClientInfo(UserId(user), ConnectionId(user)), first=True)


def leave_of(user: str, channel: Channel = CHANNEL) -> LeavePush:
    """Return a leave."""
    return LeavePush(channel, ClientInfo(UserId(user), ConnectionId(user)), last=True)


def written(listeners: Sequence[Listener]) -> list[list[str]]:
    """Return what each of them heard."""
    return [listener.heard for listener in listeners]
