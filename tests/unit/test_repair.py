from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import repair as repairing
from gateway.errors import EngineFault
from gateway.protocol import repair as protocol
from gateway.protocol.repair import FIRST_PAGE
from gateway.protocol.values import HistoryPage
from gateway.repair import HELD_BY_ALL, PUBLICATIONS, READS, REFUSED_SECONDS
from gateway.types import Channel, Publication
from tests.support.clock import ManualClock
from tests.support.listening import CHANNEL, EPOCH, Listener, at
from tests.support.recorder import MemoryRecorder
from tests.support.shop import NEW, Shop


@pytest.fixture(name="shop")
def _shop(clock: ManualClock, recorder: MemoryRecorder) -> Shop:
    return Shop(clock, recorder)


# --- what comes of a read


def test_what_was_lost_comes_in_order_and_nobody_is_told(shop: Shop) -> None:
    """First what is missing, then what was held, then what comes."""
    listener = shop.listener()
    shop.publish()
    shop.lose(2)
    shop.publish(2)
    shop.read()
    shop.publish()
    assert ["p1", "p2", "p3", "p4", "p5", "p6"] == shop.heard(listener)
    assert [] == listener.missed
    assert shop.interest.repair is None
    assert {"full": 1} == shop.repairs
    assert at(6) == shop.interest.position


def test_nothing_was_lost(shop: Shop) -> None:
    """A link that was rebuilt costs a read, and how long that took is observed."""
    listener = shop.listener()
    shop.suspect()
    shop.publish(arrives=False)
    shop.stream.kept.clear()  # not even history is needed for what has arrived
    shop.relay.published(CHANNEL, Publication(b"", 1, EPOCH))
    shop.clock.advance(0.25)
    shop.read()
    assert ["p1"] == shop.heard(listener)
    assert {"empty": 1} == shop.repairs
    assert [0.25] == [value for name, value in shop.recorder.observations if name == "repair_duration"]


def test_a_second_gap_among_the_held_is_read_once_more(shop: Shop) -> None:
    """What was lost while history was read is in the next page."""
    listener = shop.listener()
    shop.lose()
    shop.publish()
    shop.stream.serve(1)
    shop.lose()
    shop.publish()
    shop.read()
    assert ["p1", "p2"] == shop.heard(listener)
    assert shop.interest.repair is not None
    shop.read()
    assert ["p1", "p2", "p3", "p4"] == shop.heard(listener)
    assert {"full": 1} == shop.repairs


def test_another_loss_during_a_read_is_not_settled_by_it(shop: Shop) -> None:
    """Its page is delivered, and history is read again."""
    listener = shop.listener()
    shop.suspect()
    shop.stream.serve(1)
    shop.lose()
    shop.suspect()
    shop.read()
    assert shop.interest.repair is not None
    shop.read()
    assert ["p1"] == shop.heard(listener)
    assert shop.interest.repair is None
    assert 1 == shop.recorder.counts["gaps_detected", "link"]


def test_more_than_a_page_is_read_in_pages(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is delivered as it comes; the first is small, and the next are larger."""
    monkeypatch.setattr(protocol, "PAGE", 64)
    listener = shop.listener()
    shop.lose(16 + 32 + 64 + 64 + 3)
    shop.suspect()
    for count in (16, 48, 112, 176, 179):
        shop.read()
        assert count == len(shop.heard(listener))
    assert shop.interest.repair is None


def test_an_overflow_costs_a_read_and_nothing_else(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be held is in history."""
    monkeypatch.setattr(protocol, "HELD_LIMIT", 250)
    listener = shop.listener()
    shop.lose()
    shop.publish()
    shop.stream.serve(1)
    shop.publish(4)
    shop.read()
    shop.read()
    assert ["p1", "p2", "p3", "p4", "p5", "p6"] == shop.heard(listener)
    assert {"overflow": 1, "full": 1} == shop.repairs


def test_overflows_in_a_row_wait_like_a_failure(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading at once would only race with the flood."""
    monkeypatch.setattr(protocol, "HELD_LIMIT", 50)
    listener = shop.listener()
    shop.suspect()
    for _ in range(3):
        shop.stream.serve(1)
        shop.publish()
        shop.stream.answer(1)
    assert not shop.stream.asked
    assert {"overflow": 3, "failed": 1} == shop.repairs
    shop.wait(0.5)
    shop.read()
    assert ["p1", "p2", "p3"] == shop.heard(listener)


def test_all_channels_together_hold_only_so_much(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with many suspect channels stays bounded; what leaves makes room."""
    monkeypatch.setattr(repairing, "HELD_BY_ALL", 250)
    other = Channel("chat:other")
    shop.listener()
    gone = shop.listener(channel=other)
    shop.suspect(CHANNEL, other)
    for _ in range(2):
        shop.relay.published(other, Publication(b"", 2, EPOCH))
    shop.publish()
    assert {"overflow": 1} == shop.repairs
    shop.world.hub.leave(other, gone)
    shop.read()
    shop.read()
    shop.lose()
    shop.publish(2)
    assert {"overflow": 1, "full": 1} == shop.repairs
    assert 2 == len(shop.interest.repair.held)
    assert HELD_BY_ALL >= 64 << 20


def test_who_breaks_does_not_stop_the_repair(shop: Shop) -> None:
    """A publication that cannot be encoded is passed over, as it is in a live channel; the others follow."""
    listener = shop.listener()
    shop.lose(3)
    shop.suspect()
    push = shop.world.codec.push

    def fail(it: Any) -> bytes | None:
        if it.publication.offset == 2:
            raise ZeroDivisionError
        return push(it)

    shop.world.codec.push = fail  # type: ignore[method-assign, assignment] # a bug of a codec
    shop.stream.serve(1)
    with pytest.raises(ZeroDivisionError):
        shop.stream.answer(1)
    shop.read()
    assert ["p1", "p3"] == shop.heard(listener)
    assert shop.interest.repair is None


# --- what nobody has any more


def test_what_is_trimmed_is_told_to_who_has_not_come_so_far(shop: Shop) -> None:
    """Each learns up to where it had everything; a reply that reached further goes on."""
    plain, ahead, behind = shop.listener(1), Listener(shop.world), Listener(shop.world)
    for listener, offset in ((ahead, 4), (behind, 2)):
        held = listener.enter()
        assert shop.interest.settle(held, at(offset))
        assert shop.interest.release(held)
    shop.lose(6)
    del shop.stream.kept[:4]
    shop.suspect()
    shop.read()
    assert [(CHANNEL, at(1))] == plain.missed
    assert [(CHANNEL, at(2))] == behind.missed
    assert [] == ahead.missed
    assert ["p5", "p6"] == shop.heard(ahead)
    assert {"lost": 1} == shop.repairs
    assert not shop.interest.joining


def test_in_a_new_stream_who_knows_it_already_goes_on(shop: Shop) -> None:
    """The others are told; nobody who joined by a reply of the new stream misses what came since."""
    old, new = shop.listener(), Listener(shop.world)
    held = new.enter()
    shop.begin_anew()
    shop.lose(2)
    assert not shop.interest.settle(held, at(2, NEW))
    shop.relay.doubt(shop.interest)
    assert shop.interest.release(held)
    assert new in shop.interest.joining
    shop.lose(2)
    shop.read()
    shop.read()
    assert ([(CHANNEL, at(0))], []) == (old.missed, new.missed)
    assert ["p3", "p4"] == shop.heard(new)
    assert 1 == shop.recorder.counts["gaps_detected", "epoch"]
    assert at(4, NEW) == shop.interest.position


def test_a_reply_of_a_stream_that_is_no_more_is_told(shop: Shop) -> None:
    """The channel was right: the joining one has read before the stream began anew."""
    late, waiting, careless = Listener(shop.world), Listener(shop.world), Listener(shop.world)
    shop.listener()
    for listener in (late, waiting):
        held = listener.enter()
        assert not shop.interest.settle(held, at(2, NEW))
    assert shop.interest.settle(unread := Listener(shop.world).enter(), None)
    assert not shop.interest.settle(careless.enter(positioned=False), at(2, NEW))
    shop.relay.doubt(shop.interest)
    for listener in (late, careless):
        assert shop.interest.release(shop.interest.joining[listener])
    shop.read()
    assert [(CHANNEL, at(2, NEW))] == late.missed
    assert shop.interest.joining[waiting].broken, "it is told when its reply is enqueued"
    assert not unread.broken
    assert {"empty": 1} == shop.repairs
    assert careless not in shop.interest.joining
    shop.publish()
    assert ["p1"] == shop.heard(careless)


def test_who_is_reading_while_something_is_lost_reads_again(shop: Shop) -> None:
    """Its page may be of the stream before."""
    shop.listener()
    reading, ready = Listener(shop.world).enter(), Listener(shop.world).enter()
    assert shop.interest.settle(ready, at(0))
    shop.lose(2)
    shop.stream.kept.clear()
    shop.suspect()
    shop.read()
    assert (True, False) == (reading.broken, ready.broken)
    assert not shop.interest.release(ready)


def test_the_last_one_told_ends_the_repair(shop: Shop) -> None:
    """A channel without anybody is no longer the node's."""
    shop.listener()
    shop.lose(3)
    del shop.stream.kept[:1]
    shop.suspect()
    shop.read()
    assert {} == shop.world.hub.interests
    assert not shop.stream.asked


def test_an_answer_for_a_channel_that_began_anew_meanwhile_is_dropped(shop: Shop) -> None:
    """All left and others came: what they know has nothing to do with it."""
    first = shop.listener()
    shop.lose()
    shop.suspect()
    shop.world.hub.leave(CHANNEL, first)
    second = shop.listener(1)
    shop.read()
    assert [] == shop.heard(second)
    assert {} == shop.repairs


# --- many channels, and an engine that is away


def test_only_so_many_reads_are_in_flight_and_who_holds_something_goes_first(shop: Shop) -> None:
    """After a lost link every channel is suspect at once."""
    channels = [Channel(f"chat:{n}") for n in range(READS + 40)]
    for channel in channels:
        shop.listener(channel=channel)
    shop.suspect(*channels)
    assert READS == len(shop.stream.asked)
    shop.relay.published(channels[-1], Publication(b"", 1, EPOCH))
    shop.lose()
    shop.stream.serve(1)
    shop.stream.answer(1)
    assert shop.world.hub.interests[channels[-1]].repair.stage is protocol.Stage.READING  # type: ignore[union-attr] # it is suspect
    assert READS == len(shop.stream.asked)
    while shop.stream.asked:
        shop.read()
    assert all(it.repair is None for it in shop.world.hub.interests.values())


def test_only_so_many_publications_are_asked_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much every channel has lost, what is on its way takes only so much memory; all are mended."""
    monkeypatch.setattr(repairing, "PUBLICATIONS", 200)
    channels = [Channel(f"chat:{n}") for n in range(20)]
    listeners = [shop.listener(channel=channel) for channel in channels]
    shop.lose(1000)
    shop.suspect(*channels)
    largest = 0
    while shop.stream.asked:
        limits = [query.limit for query, _ in shop.stream.asked]
        assert all(limit >= 16 for limit in limits)
        assert 200 - 16 < sum(limits) <= 200 or len(limits) < 12
        largest = max(largest, *limits)
        shop.stream.serve(1)
        shop.stream.answer(1)
    assert 16 < largest <= 200
    assert [1000] * 20 == [len(shop.heard(it)) for it in listeners]
    assert 64 << 20 == 65_536 * 1024


def test_small_losses_are_read_as_many_at_once_as_there_are_reads(shop: Shop) -> None:
    """The bound on publications costs nothing where every channel has lost a few."""
    assert READS * FIRST_PAGE <= PUBLICATIONS
    channels = [Channel(f"chat:{n}") for n in range(2 * READS)]
    for channel in channels:
        shop.listener(channel=channel)
    shop.lose(5)
    shop.suspect(*channels)
    assert READS == len(shop.stream.asked)
    shop.read()
    assert READS == len(shop.stream.asked)
    shop.read()
    assert {"full": 2 * READS} == shop.repairs


# --- a channel that nobody may read


def refuse(shop: Shop, seconds: float) -> None:
    """Refuse every read for so long."""
    shop.stream.failing = "refused"
    for _ in range(int(seconds * 10)):
        shop.read()
        shop.wait(0.1)
    shop.stream.failing = ""


def test_a_channel_that_is_refused_for_a_minute_is_given_up(shop: Shop) -> None:
    """Who keeps a position is told where it stood, once; the channel goes on with what comes next."""
    listener, careless = shop.listener(), Listener(shop.world)
    assert shop.interest.settle(it := careless.enter(positioned=False), at(0))
    assert shop.interest.release(it)
    shop.publish()
    shop.lose()
    shop.publish()
    refuse(shop, REFUSED_SECONDS - 1)
    assert [] == listener.missed
    with capture_logs() as logs:
        refuse(shop, 4)
    assert [("repair.given_up", "error", CHANNEL)] == [(it["event"], it["log_level"], it["channel"]) for it in logs]
    assert [(CHANNEL, at(1))] == listener.missed
    assert 1 == shop.repairs["lost"]
    assert shop.interest.repair is None
    assert not shop.stream.asked
    shop.publish(2)
    assert ["p1", "p4", "p5"] == shop.heard(careless)
    assert [] == careless.missed
    assert at(5) == shop.interest.position
    shop.suspect()
    shop.publish()
    shop.read()
    assert ["p1", "p4", "p5", "p6"] == shop.heard(careless)
    assert 60.0 <= max(value for name, value in shop.recorder.observations if name == "repair_duration") < 63.0


def test_one_other_end_of_a_read_begins_the_minute_anew(shop: Shop) -> None:
    """An engine that is away, or that answers, is no reason to give a channel up."""
    listener = shop.listener()
    shop.suspect()
    refuse(shop, 40)
    shop.wait(3.0)
    shop.stream.failing = "down"
    shop.read()
    refuse(shop, 40)
    assert [] == listener.missed
    shop.lose(20)
    shop.wait(3.0)
    shop.stream.serve(1)
    shop.stream.answer(1)  # a page, and there is more
    refuse(shop, 40)
    assert [] == listener.missed
    shop.wait(3.0)
    while shop.stream.asked:
        shop.read()
    assert 20 == len(shop.heard(listener))


def test_joins_in_a_channel_that_is_given_up(shop: Shop) -> None:
    """Who is live beyond the channel is told where it stands; who is not learns it with its reply, or reads again."""
    shop.listener()
    live, careless, ready, reading = (Listener(shop.world) for _ in range(4))
    for listener, positioned in ((live, True), (careless, False)):
        held = listener.enter(positioned=positioned)
        assert shop.interest.settle(held, at(7))
        assert shop.interest.release(held)
    shop.suspect()
    prepared, unread = ready.enter(), reading.enter()
    assert shop.interest.settle(prepared, at(0))
    refuse(shop, REFUSED_SECONDS + 4)
    assert [(CHANNEL, at(7))] == live.missed
    assert not shop.interest.release(prepared)
    assert unread.broken
    assert {careless} == set(shop.interest.recipients()) - {ready}
    assert careless not in shop.interest.joining


def test_giving_up_gives_back_the_room_of_what_was_held(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once only: other channels hold as much as before."""
    monkeypatch.setattr(repairing, "HELD_BY_ALL", 250)
    other = Channel("chat:other")
    shop.listener()
    Listener(shop.world).listen()
    shop.listener(channel=other)
    shop.suspect()
    shop.publish(2)
    refuse(shop, REFUSED_SECONDS + 4)
    shop.suspect(other)
    for offset in (1, 2, 3):
        shop.relay.published(other, Publication(b"", offset, EPOCH))
    assert 1 == shop.repairs["overflow"]


def test_while_reads_fail_nobody_is_told_and_pauses_grow(shop: Shop) -> None:
    """One attempt a pause, for all channels together, up to every 2 s; success makes the next pause short again."""
    other = Channel("chat:other")
    listener = shop.listener()
    shop.listener(channel=other)
    shop.stream.failing = "down"
    shop.suspect(CHANNEL, other)
    pauses = []
    for _ in range(6):
        shop.read()
        assert not shop.stream.asked
        shop.publish()
        assert not shop.stream.asked
        waited = 0
        while not shop.stream.asked:
            assert waited < 100, "it does not try again"
            shop.wait(0.1)
            waited += 1
        pauses.append(waited / 10)
    assert [0.3, 0.5, 1.0, 2.0, 2.0, 2.0] == pytest.approx(pauses, abs=0.11)
    shop.stream.failing = ""
    shop.read()
    shop.read()
    assert [f"p{n}" for n in range(1, 7)] == shop.heard(listener)
    assert [] == listener.missed
    assert 12 == shop.repairs["failed"]
    shop.stream.failing = "down"
    shop.suspect()
    shop.read()
    shop.wait(0.3)
    assert 1 == len(shop.stream.asked)


def test_during_a_pause_no_other_channel_is_read_either(shop: Shop) -> None:
    """Its read would fail as well: it waits for the next attempt."""
    other = Channel("chat:other")
    shop.listener()
    shop.listener(channel=other)
    shop.stream.failing = "timeout"
    shop.suspect()
    shop.read()
    shop.relay.published(other, Publication(b"", 2, EPOCH))
    assert not shop.stream.asked
    shop.wait(0.5)
    assert 2 == len(shop.stream.asked)


def test_a_rebuilt_link_ends_the_pause(shop: Shop) -> None:
    """The engine is back: there is nothing to wait for."""
    shop.listener()
    shop.stream.failing = "lost"
    shop.suspect()
    shop.read()
    shop.suspect()
    assert 1 == len(shop.stream.asked)
    shop.stream.failing = ""
    shop.read()
    assert shop.interest.repair is None
    shop.wait(1.0)
    assert not shop.stream.asked


def test_one_channel_that_is_refused_does_not_hold_up_the_others(shop: Shop) -> None:
    """Its key may be broken; theirs are not."""
    other = Channel("chat:other")
    shop.listener()
    shop.listener(channel=other)
    shop.stream.failing = "refused"
    shop.suspect()
    shop.read()
    shop.stream.failing = ""
    shop.relay.published(other, Publication(b"", 2, EPOCH))
    assert 1 == len(shop.stream.asked)


def test_channels_on_a_server_that_is_down_do_not_hold_up_those_on_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many of them there are, they fail at once, and the others are mended without a pause."""
    down = [Channel(f"chat:down{n}") for n in range(4 * READS)]
    healthy = [Channel(f"chat:healthy{n}") for n in range(4 * READS)]
    for channel in (*down, *healthy):
        shop.listener(channel=channel)
    asked: list[tuple[Channel, Any]] = []
    monkeypatch.setattr(shop.stream, "read", lambda channel, _, done: asked.append((channel, done)))
    shop.suspect(*down, *healthy)
    while asked:
        channel, done = asked.pop(0)
        done(EngineFault("down") if channel in down else HistoryPage([], at(0)))
    interests = shop.world.hub.interests
    assert all(interests[channel].repair is None for channel in healthy)
    assert len(down) == shop.repairs["failed"]
    shop.wait(0.5)
    assert set(down) >= {channel for channel, _ in asked} != set()
