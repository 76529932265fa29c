from __future__ import annotations

import pytest

from gateway.protocol.messages import JoinPush
from gateway.recipients import Group
from gateway.relay import Relay
from gateway.timers import TimerWheel
from gateway.types import ClientInfo, ConnectionId, Publication, UserId
from tests.support.clock import ManualClock
from tests.support.listening import CHANNEL, EPOCH, Listener, ReadableCodec, World, at
from tests.support.recorder import MemoryRecorder
from tests.support.stream import Stream
from tests.support.transport import FRAMING

BOB = ClientInfo(UserId("bob"), ConnectionId("b"))


class Ear:
    """A relay over a small world."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        self.world = World(clock)
        self.recorder = recorder
        self.stream = Stream(EPOCH)
        self.relay = Relay(hub=self.world.hub, clock=clock, recorder=recorder, wheel=TimerWheel(clock.monotonic()))
        self.relay.connect(self.stream)

    def hear(self, *offsets: int, epoch: str = EPOCH) -> None:
        """Let publications arrive."""
        for offset in offsets:
            self.relay.published(CHANNEL, Publication(b"", offset, epoch if offset else ""))

    def turn(self) -> None:
        """End the turn."""
        self.world.turns.take_all()


@pytest.fixture(name="ear")
def _ear(clock: ManualClock, recorder: MemoryRecorder) -> Ear:
    return Ear(clock, recorder)


def test_nobody_listens(ear: Ear) -> None:
    """What no one is here for is dropped without a trace."""
    ear.hear(1)
    ear.relay.joined(CHANNEL, BOB, first=True)
    ear.relay.left(CHANNEL, BOB, last=True)
    ear.relay.suspect([CHANNEL], "link")
    ear.relay.flushed()
    assert {} == ear.recorder.counts
    assert [] == ear.recorder.observations


def test_publications_pass_in_order_and_once(ear: Ear) -> None:
    """The position moves by one; a repetition is dropped and counted."""
    listener = Listener(ear.world)
    listener.listen(at(0))
    ear.hear(1, 2, 2, 1, 3)
    ear.turn()
    assert ["p1", "p2", "p3"] == listener.heard
    assert {("duplicates_dropped", ""): 2} == ear.recorder.counts
    assert [] == listener.missed
    assert not ear.stream.asked


def test_without_offset_nothing_is_checked(ear: Ear) -> None:
    """Publications that are not kept may repeat themselves, and do not wait for a repair."""
    listener = Listener(ear.world)
    listener.listen(at(4))
    ear.hear(0, 0, 5)
    ear.relay.suspect([CHANNEL], "link")
    ear.hear(0)
    ear.turn()
    assert ["p0", "p0", "p5", "p0"] == listener.heard


@pytest.mark.parametrize(("offset", "epoch", "where"), [(9, EPOCH, "live"), (6, "bbbb", "epoch"), (1, "bbbb", "epoch")])
def test_what_does_not_follow_makes_the_channel_suspect(ear: Ear, offset: int, epoch: str, where: str) -> None:
    """A hole or another stream is held, and read about once; only what was delivered already is dropped at once."""
    listener = Listener(ear.world)
    listener.listen(at(4))
    ear.hear(5)
    ear.hear(offset, epoch=epoch)
    ear.hear(4)
    ear.hear(offset + 1, epoch=epoch)
    ear.turn()
    assert ["p5"] == listener.heard
    assert {("gaps_detected", where): 1, ("duplicates_dropped", ""): 1} == ear.recorder.counts
    assert [at(5)] == [query.since for query, _ in ear.stream.asked]
    repair = ear.world.hub.interests[CHANNEL].repair
    assert repair is not None
    assert [offset, offset + 1] == [it.offset for it in repair.held]


def test_in_a_suspect_channel_not_even_the_next_one_passes(ear: Ear) -> None:
    """Nobody knows whether it is the next one: the read has to say."""
    listener = Listener(ear.world)
    listener.listen(at(4))
    ear.relay.suspect([CHANNEL], "cut")
    ear.hear(5)
    ear.turn()
    assert [] == listener.heard
    assert {("gaps_detected", "link"): 1} == ear.recorder.counts


def test_joins_and_leaves_pass_a_suspect_channel(ear: Ear) -> None:
    """They have no place in the stream."""
    listener = Listener(ear.world)
    listener.listen(at(4), watch=True)
    ear.relay.suspect([CHANNEL], "cut")
    ear.relay.joined(CHANNEL, BOB, first=True)
    ear.turn()
    assert ["j:bob"] == listener.heard


def test_a_rebuilt_link_before_anybody_knows_a_position_has_the_joining_read_again(ear: Ear) -> None:
    """There is nothing to mend: whoever waits reads after the loss; once there is a position, nobody has to."""
    joining = Listener(ear.world).enter()
    ear.hear(0)
    ear.relay.suspect([CHANNEL], "cut")
    assert joining.broken
    assert [] == joining.events
    assert {} == ear.recorder.counts
    interest = ear.world.hub.interests[CHANNEL]
    assert interest.repair is None
    joining.broken = False
    ear.hear(8)
    assert at(8) == interest.position
    ear.relay.suspect([CHANNEL], "cut")
    assert not joining.broken
    assert interest.repair is not None


def test_who_is_live_without_a_position_is_left_alone(ear: Ear) -> None:
    """In a channel without history nothing can be mended and nobody was promised anything."""
    listener = Listener(ear.world)
    held = listener.enter()
    interest = ear.world.hub.interests[CHANNEL]
    assert interest.settle(held, None)
    held.live = True
    ear.relay.suspect([CHANNEL], "cut")
    assert not held.broken
    assert not ear.stream.asked


def test_joins_and_leaves_carry_the_time_they_were_shown(ear: Ear, clock: ManualClock) -> None:
    """Codecs show a time; it is this node's."""
    listener = Listener(ear.world)
    held = listener.enter(watch=True)
    ear.relay.joined(CHANNEL, BOB, first=True)
    clock.advance(1.5)
    ear.relay.left(CHANNEL, BOB, last=False)
    wall = int(ManualClock().wall() * 1000)
    assert [wall, wall + 1500] == [it.time_ms for it in held.events if hasattr(it, "time_ms")]
    interest = ear.world.hub.interests[CHANNEL]
    assert interest.settle(held, None)
    assert interest.release(held)
    ear.turn()
    assert ["j:bob", "l:bob"] == listener.heard


def test_latency_is_observed_once_per_publication_and_flush(ear: Ear, clock: ManualClock) -> None:
    """However many recipients, a publication is one value; a clock that runs behind gives zero, not less."""
    for _ in range(3):
        Listener(ear.world).listen(at(0))
    wall = int(clock.wall() * 1000)
    ear.relay.published(CHANNEL, Publication(b"", 1, EPOCH, time_ms=wall - 250))
    ear.relay.published(CHANNEL, Publication(b"", 2, EPOCH, time_ms=wall + 9000))
    ear.relay.flushed()
    ear.relay.flushed()
    assert [("delivery_latency", 0.25), ("delivery_latency", 0.0)] == [
        (name, round(value, 3)) for name, value in ear.recorder.observations
    ]


def test_what_nobody_is_shown_has_no_latency(ear: Ear, clock: ManualClock) -> None:
    """A protocol without a form for publications leaves nothing behind that a later flush would count."""
    Listener(ear.world, group=Group(ReadableCodec("deaf", shows=(JoinPush,)), FRAMING)).listen(at(0))
    ear.hear(1, 2)
    assert 0 == ear.world.flushes
    Listener(ear.world).listen(at(2))
    wall = int(clock.wall() * 1000)
    ear.relay.published(CHANNEL, Publication(b"", 3, EPOCH, time_ms=wall - 250))
    ear.relay.flushed()
    assert [("delivery_latency", 0.25)] == [(name, round(value, 3)) for name, value in ear.recorder.observations]
