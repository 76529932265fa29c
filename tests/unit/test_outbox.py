from __future__ import annotations

from math import inf

import pytest

from gateway.disconnects import SLOW, Disconnect
from gateway.outbox import FAIR_BYTES, TURN_CONNECTIONS, TURN_SECONDS, Flusher, Outbox
from gateway.types import Channel
from tests.support.listening import Turns
from tests.support.transport import RecordingTransport


class Watch:
    """A clock that runs on by a step each time somebody looks."""

    def __init__(self, step: float = 0.0) -> None:
        self.time = 0.0
        self.step = step

    def now(self) -> float:
        """Look."""
        self.time += self.step
        return self.time


class Fixture:
    """A flusher with turns taken by hand."""

    def __init__(self, step: float = 0.0) -> None:
        self.turns = Turns()
        self.flushes = 0
        self.flusher = Flusher(call_soon=self.turns.call_soon, now=Watch(step).now, flushed=self._flushed)

    def _flushed(self) -> None:
        self.flushes += 1

    def outbox(self, limit: int = 100) -> tuple[Outbox, RecordingTransport]:
        """Return an outbox with its transport."""
        transport = RecordingTransport()
        return Outbox(transport=transport, flusher=self.flusher, limit=limit), transport


class Broken(Outbox):
    """An outbox, or a source, that raises when its turn comes."""

    def __init__(self) -> None:
        super().__init__(transport=RecordingTransport(), flusher=Fixture().flusher, limit=100)

    def flush(self) -> None:
        """Raise."""
        raise RuntimeError("broken")

    spill = flush


class Spilling:
    """A source of one frame."""

    def __init__(self, outbox: Outbox, frame: bytes) -> None:
        self.outbox = outbox
        self.frame = frame

    def spill(self) -> None:
        """Put it into the outbox."""
        self.outbox.put(self.frame)


def test_frames_leave_in_order_in_one_write_at_the_end_of_the_turn() -> None:
    """What is put during a turn costs one write."""
    fixture = Fixture()
    outbox, transport = fixture.outbox()
    assert outbox.put(b"one") is None
    assert outbox.put(b"two") is None
    assert (6, []) == (outbox.queued, transport.writes)
    assert 1 == len(fixture.turns.waiting)
    fixture.turns.take()
    assert [b"onetwo"] == transport.writes
    assert (0, [], False) == (outbox.queued, outbox.frames, outbox.marked)
    assert 1 == fixture.flushes


def test_a_single_frame_is_written_as_it_is() -> None:
    """One frame is handed over without a copy."""
    fixture = Fixture()
    outbox, transport = fixture.outbox()
    frame = b"frame"
    outbox.put(frame)
    fixture.turns.take_all()
    assert transport.writes[0] is frame


def test_put_is_slow_over_the_limit_and_not_at_it() -> None:
    """The limit counts bytes and itself is still allowed."""
    outbox, _ = Fixture().outbox(limit=4)
    outbox.block(0.0)
    assert outbox.put(b"1234") is None
    assert outbox.put(b"5") is SLOW


def test_over_the_limit_a_client_that_takes_it_gets_it_at_once() -> None:
    """What is larger than the limit makes nobody slow whose transport takes it, and leaves in order."""
    fixture = Fixture()
    outbox, transport = fixture.outbox(limit=4)
    assert outbox.put(b"1234") is None
    assert outbox.put(b"56789") is None
    assert ([b"123456789"], 0) == (transport.writes, outbox.queued)
    assert outbox.put(b"0") is None
    fixture.turns.take_all()
    assert [b"123456789", b"0"] == transport.writes


def test_while_blocked_frames_stay_and_are_counted() -> None:
    """A transport that has asked us to wait gets nothing, and the limit still holds."""
    fixture = Fixture()
    outbox, transport = fixture.outbox(limit=4)
    outbox.blocked = True
    assert outbox.put(b"1234") is None
    fixture.turns.take_all()
    assert ([], 4) == (transport.writes, outbox.queued)
    assert outbox.put(b"5") is SLOW
    outbox.blocked = False
    outbox.flush()
    assert [b"12345"] == transport.writes


def test_discard_leaves_nothing_to_write() -> None:
    """A discarded outbox is empty and its booked turn writes nothing."""
    fixture = Fixture()
    outbox, transport = fixture.outbox()
    outbox.put(b"frame")
    outbox.discard()
    fixture.turns.take_all()
    assert ([], 0) == (transport.writes, outbox.queued)


def test_sources_spill_before_outboxes_are_written() -> None:
    """What sources collect in a turn leaves in the same turn, behind what was put before."""
    fixture = Fixture()
    outbox, transport = fixture.outbox()
    fixture.flusher.mark_source(Channel("a"), Spilling(outbox, b"two"))
    fixture.flusher.mark_source(Channel("b"), Spilling(outbox, b"three"))
    outbox.put(b"one")
    assert 1 == len(fixture.turns.waiting)
    fixture.turns.take()
    assert [b"onetwothree"] == transport.writes
    assert [] == fixture.turns.waiting
    assert {} == fixture.flusher.sources


def test_a_turn_writes_no_more_connections_than_its_budget() -> None:
    """The rest waits for the next turns, so that the loop is never held for long."""
    fixture = Fixture()
    pairs = [fixture.outbox() for _ in range(2 * TURN_CONNECTIONS + 1)]
    for outbox, _ in pairs:
        outbox.put(b"x")
    written = []
    while fixture.turns.waiting:
        fixture.turns.take()
        written.append(sum(len(transport.writes) for _, transport in pairs))
    assert [512, 1024, 1025] == written
    assert 3 == fixture.flushes


def test_a_turn_ends_when_its_time_is_up() -> None:
    """Expensive writes end the turn earlier than the count does; the clock is looked at every 32nd write."""
    fixture = Fixture(step=TURN_SECONDS * 2 / 3)
    pairs = [fixture.outbox() for _ in range(100)]
    for outbox, _ in pairs:
        outbox.put(b"x")
    fixture.turns.take()
    assert 64 == sum(len(transport.writes) for _, transport in pairs)
    assert 1 == len(fixture.turns.waiting)
    fixture.turns.take_all()
    assert 100 == sum(len(transport.writes) for _, transport in pairs)


def test_frames_put_between_turns_keep_their_order() -> None:
    """A connection that did not get its turn writes old and new frames in order in the next one."""
    fixture = Fixture(step=TURN_SECONDS * 2)
    pairs = [fixture.outbox() for _ in range(40)]
    for outbox, _ in pairs:
        outbox.put(b"1")
    fixture.turns.take()
    late, transport = pairs[-1]
    assert [] == transport.writes
    late.put(b"2")
    fixture.turns.take_all()
    assert [b"12"] == transport.writes


def test_an_outbox_that_raises_does_not_stop_the_flusher() -> None:
    """The others are written in the next turn, and the flusher can be booked again."""
    fixture = Fixture()
    outbox, transport = fixture.outbox()
    fixture.flusher.mark(Broken())
    outbox.put(b"one")
    with pytest.raises(RuntimeError, match="broken"):
        fixture.turns.take()
    fixture.turns.take_all()
    assert [b"one"] == transport.writes
    outbox.put(b"two")
    fixture.turns.take_all()
    assert [b"one", b"two"] == transport.writes


def test_a_source_that_raises_does_not_cost_the_others_their_frames() -> None:
    """Sources behind the broken one spill in the next turn, and the broken one is not tried for ever."""
    fixture = Fixture()
    outbox, transport = fixture.outbox()
    fixture.flusher.mark_source(Channel("a"), Broken())
    fixture.flusher.mark_source(Channel("b"), Spilling(outbox, b"frame"))
    with pytest.raises(RuntimeError, match="broken"):
        fixture.turns.take()
    fixture.turns.take_all()
    assert [b"frame"] == transport.writes


def test_a_blocked_outbox_is_looked_at_each_second_and_at_its_end() -> None:
    """Looks come often enough to see progress, and exactly when the time is up; none while nothing is blocked."""
    outbox, _ = Fixture().outbox()
    assert inf == outbox.look_at(10.0)
    outbox.block(100.0)
    assert (True, 101.0) == (outbox.blocked, outbox.look_at(10.0))
    assert 100.25 == outbox.look_at(1.0)
    for second in range(101, 110):
        assert not outbox.stalled(second + 0.5, 10.0)
    assert 110.0 == outbox.look_at(10.0)
    assert outbox.stalled(110.0, 10.0)
    outbox.unblock()
    assert (False, inf) == (outbox.blocked, outbox.look_at(10.0))


def test_a_client_must_take_its_share_in_each_timeout() -> None:
    """16 KiB start the time anew, at the look before they were seen; a byte does not; a growing backlog is none."""
    outbox, transport = Fixture().outbox()
    transport.stalled = 100_000
    outbox.block(0.0)
    assert not outbox.stalled(1.0, 10.0)
    transport.stalled -= FAIR_BYTES - 1
    assert not outbox.stalled(2.0, 10.0)
    assert 0.0 == outbox.blocked_since
    transport.stalled += 5_000  # answers to pings, say
    assert not outbox.stalled(3.0, 10.0)
    transport.stalled -= 1
    assert not outbox.stalled(4.0, 10.0)
    assert (3.0, FAIR_BYTES) == (outbox.blocked_since, outbox.owed)
    transport.stalled -= FAIR_BYTES - 1
    assert {False} == {outbox.stalled(float(second), 10.0) for second in range(5, 13)}
    assert outbox.stalled(13.0, 10.0)


def test_where_little_is_left_all_of_it_is_enough() -> None:
    """Nobody has to take more than there is, and something must be taken even from a transport that says 0."""
    outbox, transport = Fixture().outbox()
    transport.stalled = 100
    outbox.block(0.0)
    assert 100 == outbox.owed
    transport.stalled = 0
    assert {False} == {outbox.stalled(float(second), 10.0) for second in range(1, 10)}
    assert (0.0, 1) == (outbox.blocked_since, outbox.owed)
    assert outbox.stalled(10.0, 10.0)


def test_time_in_which_this_process_was_held_up_is_not_the_clients() -> None:
    """After a stop of our own, in which nothing was written, a client still has the time that it had left."""
    outbox, transport = Fixture().outbox()
    transport.stalled = 100_000
    outbox.block(0.0)
    assert {False} == {outbox.stalled(float(second), 10.0) for second in range(1, 6)}
    assert not outbox.stalled(36.0, 10.0)  # 30 s late
    assert {False} == {outbox.stalled(float(second), 10.0) for second in range(37, 40)}
    assert outbox.stalled(40.0, 10.0)


def test_a_short_timeout_is_looked_at_more_often() -> None:
    """A client that takes its share within it survives, however short it is."""
    outbox, transport = Fixture().outbox()
    transport.stalled = 1 << 20
    outbox.block(0.0)
    for look in range(1, 20):
        transport.stalled -= FAIR_BYTES
        assert not outbox.stalled(outbox.look_at(1.0), 1.0), look


@pytest.mark.parametrize(
    ("rate", "gone"),
    [(0, 10.0), (1, 10.0), (1_000, 10.0), (32_000, None), (2_000, None)],
    ids=["nothing", "1 byte/s", "8 kbit/s", "256 kbit/s", "16 kbit/s"],
)
def test_slow_links_and_those_that_only_seem_to_read(rate: int, gone: float | None) -> None:
    """Behind a full queue a thin line lives on for as long as it takes; a trickle ends after ten seconds."""
    outbox, transport = Fixture().outbox()
    transport.stalled = 1 << 20
    outbox.block(0.0)
    ended = None
    for second in range(1, 31):
        transport.stalled = max(0, transport.stalled - rate)
        if outbox.stalled(float(second), 10.0):
            ended = float(second)
            break
    assert gone == ended


def test_unblocking_books_what_was_kept_once() -> None:
    """What was put while blocked leaves at the end of the turn in which the transport is ready again."""
    fixture = Fixture()
    outbox, transport = fixture.outbox()
    outbox.block(0.0)
    outbox.put(b"1")
    fixture.turns.take_all()
    outbox.unblock()
    outbox.unblock()
    assert 1 == len(fixture.flusher.queue)
    fixture.turns.take_all()
    assert [b"1"] == transport.writes
    outbox.unblock()
    assert [] == fixture.turns.waiting


class Overfull:
    """An outbox over its limit, that is relieved, or raises."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.relieved = 0

    def relieve(self) -> None:
        """Count, or raise."""
        if self.broken:
            raise RuntimeError("broken")
        self.relieved += 1

    def close(self, disconnect: Disconnect) -> None:
        """Never asked: there is always room in the end."""
        raise AssertionError(disconnect)


def test_who_cannot_be_relieved_keeps_nobody_from_it_for_good() -> None:
    """What one raises is heard of, once; those behind it are relieved when they are found full again."""
    flusher, good = Fixture().flusher, Overfull()
    with pytest.raises(RuntimeError, match="broken"):
        flusher.relieve([Overfull(broken=True), good])
    assert 0 == good.relieved
    flusher.relieve([good])
    assert 1 == good.relieved
