from __future__ import annotations

import pytest

from gateway.relay import Relay
from gateway.types import ClientInfo, ConnectionId, Publication, UserId
from tests.support.clock import ManualClock
from tests.support.listening import CHANNEL, EPOCH, Listener, World, at
from tests.support.recorder import MemoryRecorder

BOB = ClientInfo(UserId("bob"), ConnectionId("b"))


class Ear:
    """A relay over a small world."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        self.world = World(clock)
        self.recorder = recorder
        self.relay = Relay(hub=self.world.hub, clock=clock, recorder=recorder)

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


def test_without_offset_nothing_is_checked(ear: Ear) -> None:
    """Publications that are not kept may repeat themselves, also in a channel with positions."""
    listener = Listener(ear.world)
    listener.listen(at(4))
    ear.hear(0, 0, 5)
    ear.turn()
    assert ["p0", "p0", "p5"] == listener.heard


@pytest.mark.parametrize(("offset", "epoch"), [(9, EPOCH), (6, "bbbb"), (1, "bbbb")])
def test_a_gap_is_told_to_everyone_and_the_channel_goes_on_from_there(ear: Ear, offset: int, epoch: str) -> None:
    """A hole or another stream: all learn up to where they had everything, then the next ones pass."""
    one, two = Listener(ear.world), Listener(ear.world)
    one.listen(at(4))
    two.listen(at(4))
    ear.hear(5)
    ear.hear(offset, epoch=epoch)
    assert [[(CHANNEL, at(5))]] * 2 == [one.missed, two.missed]
    ear.turn()
    assert [["p5"], ["p5"]] == [one.heard, two.heard]
    assert {("gaps_detected", "live"): 1} == ear.recorder.counts
    new = Listener(ear.world)
    new.listen(at(offset, epoch))
    ear.hear(offset + 1, epoch=epoch)
    ear.turn()
    assert [f"p{offset + 1}"] == new.heard


def test_what_one_was_told_is_its_own_copy(ear: Ear) -> None:
    """The position in a notice does not move on with the channel."""
    stays = Listener(ear.world)
    stays.listen(at(4))
    other = Listener(ear.world)
    other.enter()
    ear.hear(9)
    ear.hear(10)
    assert [(CHANNEL, at(4))] == stays.missed


def test_a_rebuilt_link_is_told_to_who_keeps_a_position(ear: Ear) -> None:
    """After a loss nobody is left in the belief to have everything; the next reply sets the position anew."""
    listener = Listener(ear.world)
    listener.listen(at(4))
    joining = Listener(ear.world).enter()
    ear.hear(5)
    ear.relay.suspect([CHANNEL], "link")
    assert [(CHANNEL, at(5))] == listener.missed
    assert joining.broken
    assert [] == joining.events
    assert {("gaps_detected", "link"): 1} == ear.recorder.counts
    interest = ear.world.hub.interests[CHANNEL]
    assert interest.position is None
    ear.relay.suspect([CHANNEL], "link")  # a second loss before anybody knows a position
    assert 1 == ear.recorder.counts["gaps_detected", "link"]
    ear.hear(8)
    assert at(8) == interest.position


def test_who_has_just_read_history_is_spared(ear: Ear) -> None:
    """The one that noticed the new epoch keeps what it holds, the other joining one reads again."""
    reader, other = Listener(ear.world).enter(), Listener(ear.world).enter()
    ear.hear(1)
    ear.relay.suspect([CHANNEL], "epoch", spare=reader)
    assert (False, True) == (reader.broken, other.broken)
    assert 1 == len(reader.events)


def test_who_is_live_but_waits_for_the_channel_is_told_too(ear: Ear) -> None:
    """Between reply and catching up a loss is as bad as after; each is told where its own knowledge ends."""
    old, new = Listener(ear.world), Listener(ear.world)
    old.listen(at(3))
    held = new.enter()
    interest = ear.world.hub.interests[CHANNEL]
    assert interest.settle(held, at(5))
    assert interest.release(held)
    ear.relay.suspect([CHANNEL], "link")
    assert ([(CHANNEL, at(3))], [(CHANNEL, at(5))]) == (old.missed, new.missed)


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
