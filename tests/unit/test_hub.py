from __future__ import annotations

import pytest

from gateway.disconnects import SLOW
from gateway.protocol.messages import JoinPush, PublicationPush
from gateway.protocol.repair import EVENT_COST, HELD_LIMIT
from gateway.recipients import Group, Held
from gateway.types import Channel
from tests.support.listening import CHANNEL, EPOCH, Listener, ReadableCodec, World, at, join_of, leave_of, written
from tests.support.transport import FRAMING

OTHER = Channel("chat:y")


@pytest.fixture(name="world")
def _world() -> World:
    return World()


# --- fan-out to plain recipients


def test_a_publication_is_encoded_once_and_leaves_at_the_end_of_the_turn(world: World) -> None:
    """Three recipients of one codec share one frame; two publications are one append for each."""
    listeners = [Listener(world, name) for name in "abc"]
    for listener in listeners:
        listener.listen(at(0))
    world.publish(1)
    world.publish(2)
    assert [b"p1", b"p2"] == world.codec.encoded
    assert [[], [], []] == written(listeners)
    world.turns.take()
    assert [["p1", "p2"]] * 3 == written(listeners)
    assert [1, 1, 1] == [len(it.link.writes) for it in listeners]
    assert [6] == world.spilt


def test_groups_get_their_own_bytes_and_what_a_codec_does_not_show_is_not_sent(world: World) -> None:
    """Each codec encodes for itself; one that shows no publications costs nothing."""
    silent = Group(ReadableCodec("silent", shows=(JoinPush,)), FRAMING)
    loud, quiet = Listener(world), Listener(world, group=silent)
    loud.listen(at(0))
    quiet.listen(at(0), watch=True)
    world.publish(1)
    world.turns.take_all()
    assert [["p1"], []] == written([loud, quiet])
    world.hub.interests[CHANNEL].announce(join_of("bob"))
    world.turns.take_all()
    assert [["p1"], ["j:bob"]] == written([loud, quiet])


def test_only_silent_groups_book_no_spill(world: World) -> None:
    """A publication nobody is shown leaves no source behind."""
    quiet = Listener(world, group=Group(ReadableCodec("silent", shows=(JoinPush,)), FRAMING))
    quiet.listen(at(0))
    world.publish(1)
    assert {} == world.flusher.sources


def test_joins_and_leaves_go_to_those_who_watch_behind_earlier_publications(world: World) -> None:
    """An announcement does not overtake what was published before it in the same turn."""
    watching, plain = Listener(world), Listener(world)
    watching.listen(at(0), watch=True)
    plain.listen(at(0))
    interest = world.hub.interests[CHANNEL]
    world.publish(1)
    interest.announce(join_of("bob"))
    world.publish(2)
    interest.announce(leave_of("bob"))
    world.turns.take_all()
    assert ["p1", "j:bob", "p2", "l:bob"] == watching.heard
    assert ["p1", "p2"] == plain.heard


def test_who_does_not_see_joins_in_its_protocol_gets_none(world: World) -> None:
    """A watcher of a codec without joins is skipped."""
    group = Group(ReadableCodec("bare", shows=(PublicationPush,)), FRAMING)
    listener = Listener(world, group=group)
    listener.listen(at(0), watch=True)
    world.hub.interests[CHANNEL].announce(join_of("bob"))
    world.turns.take_all()
    assert [] == listener.heard


def test_a_recipient_over_its_limit_is_closed_after_the_others_got_theirs(world: World) -> None:
    """One slow consumer costs the others nothing: by publications and by announcements."""
    slow, good, watcher = Listener(world, limit=3), Listener(world), Listener(world, limit=9)
    slow.listen(at(0))
    good.listen(at(0))
    watcher.listen(at(0), watch=True)
    slow.block(0.0)
    world.publish(1)
    world.turns.take_all()
    assert [SLOW] == slow.closings
    assert [[], ["p1"], ["p1"]] == written([slow, good, watcher])
    watcher.block(0.0)
    for name in ("bob", "carol"):
        world.hub.interests[CHANNEL].announce(join_of(name))
    assert [SLOW] == watcher.closings
    world.publish(2)
    world.turns.take_all()
    assert ["p1", "p2"] == good.heard


def test_many_who_are_closed_by_one_another_do_not_nest(world: World) -> None:
    """Each shares a channel with the next, and all are too slow: whoever leaves spills a channel that ends another."""
    channels = [Channel(f"chat:{number}") for number in range(1_000)]
    chain = [Listener(world, limit=3) for _ in channels]
    for number, channel in enumerate(channels):
        for listener in chain[number : number + 2]:
            listener.careless.add(channel)
            listener.listen(channel=channel)
    for listener in chain:
        listener.block(0.0)
    for channel in channels:
        world.publish(channel=channel, data=b"long")
    world.turns.take_all()
    assert [[SLOW]] * len(chain) == [it.closings[:1] for it in chain]
    assert {} == world.hub.interests


def test_spill_brings_outboxes_up_to_date_before_a_reply(world: World) -> None:
    """What was published before a reply stands before it in the outbox; unknown channels are passed over."""
    listener = Listener(world)
    listener.listen(at(0))
    world.publish(1)
    world.hub.spill([CHANNEL, OTHER])
    listener.put(b"t:reply\n")
    world.publish(2)
    world.turns.take_all()
    assert ["p1", "reply", "p2"] == listener.heard


# --- entering and leaving


def test_an_interest_lives_from_its_first_recipient_to_its_last(world: World) -> None:
    """Nothing is kept of a channel nobody listens to."""
    one, two = Listener(world), Listener(world)
    one.listen(at(0), watch=True)
    two.listen(at(0))
    interest = world.hub.interests[CHANNEL]
    assert {one, two} == set(interest.recipients())
    world.hub.leave(CHANNEL, one)
    world.hub.leave(CHANNEL, one)
    assert [two] == list(interest.recipients())
    assert {} == interest.watchers
    world.hub.leave(CHANNEL, two)
    assert {} == world.hub.interests
    world.hub.leave(CHANNEL, two)


def test_who_leaves_gets_what_came_before_and_nothing_after(world: World) -> None:
    """The end of a subscription stands exactly between two publications."""
    listener, other = Listener(world), Listener(world)
    listener.listen(at(0), watch=True)
    other.listen(at(0))
    world.publish(1)
    world.hub.leave(CHANNEL, listener)
    listener.put(b"t:left\n")
    world.publish(2)
    world.hub.interests[CHANNEL].announce(join_of("bob"))
    world.turns.take_all()
    assert ["p1", "left"] == listener.heard
    assert ["p1", "p2"] == other.heard


def test_who_leaves_while_joining_gets_nothing(world: World) -> None:
    """What was held back for it goes with it."""
    listener = Listener(world)
    listener.enter()
    world.publish(1)
    world.hub.leave(CHANNEL, listener)
    world.turns.take_all()
    assert [] == listener.heard
    assert {} == world.hub.interests


# --- joining


def test_the_first_reply_sets_the_position_and_later_ones_do_not(world: World) -> None:
    """The channel's position is its own copy of where the first reply stands."""
    one, two = Listener(world), Listener(world)
    first = at(5)
    held = one.enter()
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, first)
    assert interest.release(held)
    assert at(5) == interest.position
    first.offset = 99
    assert at(5) == interest.position
    two.enter()
    assert interest.settle(interest.joining[two], at(9))
    assert at(5) == interest.position


def test_another_epoch_than_the_channels_is_noticed(world: World) -> None:
    """A stream that began anew is told apart from the one this node passes on."""
    one, two = Listener(world), Listener(world)
    one.listen(at(5))
    held = two.enter()
    interest = world.hub.interests[CHANNEL]
    assert not interest.settle(held, at(5, "bbbb"))


def test_held_publications_follow_the_reply_from_its_position_on(world: World) -> None:
    """What the reply holds already is not sent again; what came after it follows in order."""
    listener = Listener(world)
    held = listener.enter()
    for offset in (4, 5, 6):
        world.publish(offset)
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(4))
    listener.put(b"t:reply\n")
    assert interest.release(held)
    world.publish(7)
    world.turns.take_all()
    assert ["reply", "p5", "p6", "p7"] == listener.heard
    assert {} == interest.joining


def test_a_reply_ahead_of_the_channel_waits_for_it_to_catch_up(world: World) -> None:
    """Publications that came with the reply and arrive later by the link are not sent twice."""
    old, new = Listener(world, "old"), Listener(world, "new")
    old.listen(at(3))
    held = new.enter()
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(5))
    assert interest.release(held)
    assert {new: held} == interest.joining
    assert {old, new} == set(interest.recipients())
    for offset in (4, 5, 6):
        world.publish(offset)
        world.turns.take_all()
    assert [["p4", "p5", "p6"], ["p6"]] == written([old, new])
    assert {} == interest.joining


def test_catching_up_within_a_turn_does_not_repeat_the_frames_of_that_turn(world: World) -> None:
    """Frames of the group that were pending when it became a plain recipient are not for it."""
    old, new = Listener(world, "old"), Listener(world, "new")
    old.listen(at(3))
    held = new.enter()
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(5))
    assert interest.release(held)
    for offset in (4, 5, 6):
        world.publish(offset)
    world.turns.take_all()
    assert [["p4", "p5", "p6"], ["p6"]] == written([old, new])


def test_releasing_within_a_turn_does_not_repeat_the_frames_of_that_turn(world: World) -> None:
    """What is pending for others when somebody is released came to it by its own way."""
    old, new = Listener(world, "old"), Listener(world, "new")
    old.listen(at(3))
    held = new.enter()
    world.publish(4)
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(3))
    assert interest.release(held)
    world.publish(5)
    world.turns.take_all()
    assert [["p4", "p5"], ["p4", "p5"]] == written([old, new])


def test_publications_without_offset_do_not_move_the_position(world: World) -> None:
    """In a channel with history a publication may skip it: it is passed on, and positions stay as they are."""
    listener = Listener(world)
    held = listener.enter()
    world.publish(5)
    world.publish(data=b":skipped")
    world.publish(6)
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(4))
    assert interest.release(held)
    world.turns.take_all()
    assert ["p5", "p0:skipped", "p6"] == listener.heard
    assert [] == listener.missed


def test_a_channel_without_history_passes_everything_on(world: World) -> None:
    """Without positions nothing is checked and nothing is dropped."""
    listener = Listener(world)
    held = listener.enter(positioned=False)
    interest = world.hub.interests[CHANNEL]
    world.publish(data=b"a")
    world.publish(data=b"a")
    assert interest.settle(held, None)
    assert interest.release(held)
    world.publish(data=b"b")
    world.turns.take_all()
    assert ["p0a", "p0a", "p0b"] == listener.heard


@pytest.mark.parametrize(
    ("offset", "epoch"), [pytest.param(6, EPOCH, id="hole"), pytest.param(1, "bbbb", id="other epoch")]
)
def test_a_hole_among_the_held_is_told(world: World, offset: int, epoch: str) -> None:
    """A positioned recipient is not let in over a hole, nor into another stream."""
    listener = Listener(world)
    held = listener.enter()
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(4))
    world.publish(offset, epoch=epoch)
    assert not interest.release(held)
    world.turns.take_all()
    assert [] == listener.heard


def test_a_hole_among_the_held_does_not_stop_who_keeps_no_position(world: World) -> None:
    """Without a position there is nothing to keep whole: it goes on from there."""
    listener = Listener(world)
    held = listener.enter(positioned=False)
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(4))
    world.publish(6)
    assert interest.release(held)
    world.publish(7)
    world.turns.take_all()
    assert ["p6", "p7"] == listener.heard


def test_a_reply_behind_the_channel_is_told(world: World) -> None:
    """If the channel has moved on and the reply did not, and nothing was held, something is missing."""
    old, new = Listener(world), Listener(world)
    old.listen(at(7))
    held = new.enter()
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(5))
    assert not interest.release(held)


def test_a_live_one_that_waits_for_the_channel_and_misses_something_is_told(world: World) -> None:
    """While it gets its own frames, each is checked against its own position."""
    old, new = Listener(world), Listener(world)
    old.listen(at(3))
    held = new.enter()
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(5))
    assert interest.release(held)
    world.publish(7)
    world.turns.take_all()
    assert [(CHANNEL, at(5))] == new.missed
    world.turns.take_all()
    assert [] == new.heard


def test_joins_and_leaves_are_held_for_those_who_watch_only(world: World) -> None:
    """One's own join comes after one's own reply; for others it does not even take room."""
    watching, plain = Listener(world), Listener(world)
    for listener, watch in ((watching, True), (plain, False)):
        held = listener.enter(watch=watch)
        interest = world.hub.interests[CHANNEL]
        interest.announce(join_of("bob"))
        assert (EVENT_COST if watch else 0) == held.size
        assert interest.settle(held, at(0))
        listener.put(b"t:reply\n")
        assert interest.release(held)
        world.hub.leave(CHANNEL, listener)
    world.turns.take_all()
    assert [["reply", "j:bob"], ["reply"]] == written([watching, plain])


def test_joins_reach_a_watcher_that_waits_for_the_channel(world: World) -> None:
    """Live but not yet plain: announcements pass, to those who watch."""
    old, new, blind = Listener(world), Listener(world), Listener(world)
    old.listen(at(3))
    interest = world.hub.interests[CHANNEL]
    for listener, watch in ((new, True), (blind, False)):
        held = listener.enter(watch=watch)
        assert interest.settle(held, at(5))
        assert interest.release(held)
    interest.announce(join_of("bob"))
    world.turns.take_all()
    assert [["j:bob"], []] == written([new, blind])


def test_a_codec_that_does_not_show_an_event_still_moves_the_position(world: World) -> None:
    """What is not shown counts as delivered."""
    silent = Listener(world, group=Group(ReadableCodec("silent", shows=(JoinPush,)), FRAMING))
    held = silent.enter()
    world.publish(1)
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(0))
    assert interest.release(held)
    assert at(1) == held.position


# --- the limit of what is held


def test_too_much_held_is_forgotten_and_marked(world: World) -> None:
    """The memory for a slow join is bounded; what came after the loss is held again."""
    listener = Listener(world)
    held = listener.enter()
    data = b"x" * (HELD_LIMIT // 4)
    for offset in (1, 2, 3, 4):
        world.publish(offset, data)
    assert held.broken
    assert ([], 0) == (held.events, held.size)
    world.publish(5)
    assert [5] == [it.publication.offset for it in held.events if isinstance(it, PublicationPush)]


@pytest.mark.parametrize("positioned", [True, False])
def test_a_broken_buffer_is_told_to_the_positioned_only(world: World, positioned: bool) -> None:
    """Who keeps a position is not let in over what was forgotten; who keeps none goes on."""
    listener = Listener(world)
    held = listener.enter(positioned=positioned)
    interest = world.hub.interests[CHANNEL]
    held.restart(broken=True)
    world.publish(5)
    assert interest.settle(held, at(4))
    assert interest.release(held) is not positioned
    world.turns.take_all()
    assert ([] if positioned else ["p5"]) == listener.heard


def test_a_burst_over_the_limit_reaches_whoever_takes_it(world: World) -> None:
    """More than the limit in one turn, alone or together, closes nobody whose transport takes it."""
    listeners = [Listener(world, limit=3), Listener(world)]
    for listener in listeners:
        listener.listen(at(0), watch=True)
    for offset in (1, 2, 3):
        world.publish(offset)
    world.hub.interests[CHANNEL].announce(join_of("bob"))
    world.turns.take_all()
    assert [["p1", "p2", "p3", "j:bob"]] * 2 == written(listeners)
    assert [[], []] == [it.closings for it in listeners]


def test_a_recipient_that_cannot_take_what_was_held_is_closed_and_gets_no_more(world: World) -> None:
    """After the end of the connection nothing is put into its outbox."""
    listener = Listener(world, limit=5)
    listener.block(0.0)
    held = listener.enter()
    for offset in (1, 2, 3, 4):
        world.publish(offset)
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(0))
    assert interest.release(held)
    assert [SLOW] == listener.closings
    assert [] == listener.frames
    world.turns.take_all()
    assert ([], []) == (listener.heard, listener.link.late_writes)


def test_one_that_is_closed_by_a_live_frame_is_not_let_in(world: World) -> None:
    """A slow recipient that waits for the channel goes when its own frame is too much."""
    old, new = Listener(world), Listener(world, limit=1)
    old.listen(at(3))
    held = new.enter(positioned=False)
    new.block(0.0)
    interest = world.hub.interests[CHANNEL]
    assert interest.settle(held, at(5))
    assert interest.release(held)
    world.publish(6)
    assert [SLOW] == new.closings
    assert [old] == list(interest.recipients())


def test_a_reply_of_another_stream_is_not_behind() -> None:
    """A recipient without position is never measured against the channel's."""
    world = World()
    held = Held(Listener(world), watch=False, positioned=True)
    interest = world.hub.enter(CHANNEL, held)
    interest.position = at(3)
    assert interest.settle(held, None)
    assert interest.release(held)
    assert {} == interest.joining
