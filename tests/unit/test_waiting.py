from __future__ import annotations

from gateway.protocol.messages import Command, Ping, Pong, Publish, Subscribe, Unsubscribe
from gateway.types import Channel
from gateway.waiting import Waiting

A, B = Channel("a"), Channel("b")


def test_nothing_waits_at_first() -> None:
    """An idle connection has no queues."""
    waiting = Waiting()
    assert not waiting.take(Subscribe(1, A))
    assert not waiting.for_connect
    assert 0 == waiting.count
    assert not waiting.free(A)
    assert not waiting.free_all()


def test_everything_but_a_pong_waits_for_the_connect_reply_in_order() -> None:
    """Commands pipelined with connect come out as they went in."""
    waiting = Waiting()
    waiting.hold_all()
    commands: list[Command] = [Subscribe(2, A), Ping(3), Subscribe(4, B)]
    assert [True, True, True, False] == [waiting.take(it) for it in (*commands, Pong())]
    assert waiting.for_connect
    assert 3 == waiting.count
    waiting.hold_all()  # once more loses nothing
    assert commands == list(waiting.free_all())
    assert not waiting.for_connect
    assert 0 == waiting.count
    assert not waiting.take(Ping(5))


def test_a_channel_waits_alone() -> None:
    """Slow work in one channel holds neither another channel nor commands without one."""
    waiting = Waiting()
    waiting.hold(A)
    assert [True, False, False, False] == [
        waiting.take(it) for it in (Publish(1, A, b"1"), Publish(2, B, b"1"), Ping(3), Pong())
    ]
    assert [Publish(1, A, b"1")] == list(waiting.free(A))
    assert not waiting.take(Publish(4, A, b"1"))


def test_a_channel_is_free_when_its_last_work_ends() -> None:
    """A token check followed by a join holds the channel without a gap between the two."""
    waiting = Waiting()
    waiting.hold(A)
    waiting.hold(A)
    waiting.hold(B)
    waiting.take(Unsubscribe(1, A))
    assert not waiting.free(A)
    assert 1 == waiting.count
    assert [Unsubscribe(1, A)] == list(waiting.free(A))
    assert 0 == waiting.count
    assert not waiting.free(A)
    assert waiting.take(Unsubscribe(2, B))


def test_connect_goes_before_channels() -> None:
    """While connect is unanswered, a channel's commands wait for it, not for the channel."""
    waiting = Waiting()
    waiting.hold_all()
    waiting.hold(A)
    waiting.take(Publish(1, A, b"1"))
    assert not waiting.free(A)
    assert [Publish(1, A, b"1")] == list(waiting.free_all())


def test_clear_forgets_everything() -> None:
    """A connection that has gone hands nothing over any more."""
    waiting = Waiting()
    waiting.hold(A)
    waiting.take(Publish(1, A, b"1"))
    waiting.hold_all()
    waiting.take(Ping(2))
    waiting.clear()
    assert 0 == waiting.count
    assert not waiting.free(A)
    assert not waiting.free_all()
