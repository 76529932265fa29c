from __future__ import annotations

from math import inf

import pytest

from gateway.disconnects import BAD_REQUEST, NO_PONG
from gateway.protocol.effects import Heartbeat
from gateway.protocol.messages import Ping, Pong, Publish
from tests.unit.protocol.talk import ROOM, Talk, closing


@pytest.mark.parametrize(("jitter", "first"), [(0.0, 12.5), (0.5, 18.75), (0.999, 24.9875)])
def test_the_first_ping_is_spread_then_they_are_regular(jitter: float, first: float) -> None:
    """It falls into the second half of the interval; the others follow it at the interval."""
    talk = Talk(jitter).opened()
    start = talk.now
    assert pytest.approx(start + first) == talk.session.deadline
    for count in range(3):
        talk.now = start + first + count * 25.0
        assert [Heartbeat()] == talk.tick()
        talk.say(Pong())
        assert pytest.approx(talk.now + 25.0) == talk.session.deadline


def test_no_pong() -> None:
    """Only a pong counts as a sign of life."""
    talk = Talk().subscribed(ROOM)
    talk.tick(12.5)
    assert talk.now + 8.0 == talk.session.deadline
    talk.say(Publish(3, ROOM, b"{}"))
    talk.say(Ping(4))
    assert talk.tick(7.9) == []
    assert closing(talk.tick(0.1)) is NO_PONG


def test_a_ping_that_waits_behind_other_data() -> None:
    """While the client still takes what was sent before, the time for its pong begins anew; without a ping nothing."""
    talk = Talk().opened()
    before = talk.session.deadline
    talk.session.congested(talk.now)
    assert before == talk.session.deadline
    talk.tick(12.5)
    assert talk.tick(7.9) == []
    talk.session.congested(talk.now)
    assert talk.now + 8.0 == talk.session.deadline
    assert talk.tick(7.9) == []
    assert closing(talk.tick(0.2)) is NO_PONG


def test_a_pong_in_time() -> None:
    """It is not answered, and the wait is over."""
    talk = Talk().opened()
    talk.tick(12.5)
    assert talk.say(Pong()) == []
    assert talk.now + 25.0 == talk.session.deadline


@pytest.mark.parametrize("pongs", [1, 2])
def test_a_pong_nobody_asked_for(pongs: int) -> None:
    """It is a fault where pings are messages of ours; a WebSocket pong frame may come at any time."""
    for show_ping in (True, False):
        talk = Talk(show_ping=show_ping).opened()
        if pongs == 2:
            talk.tick(12.5)
            assert talk.say(Pong()) == []
        effects = talk.say(Pong())
        assert (effects == []) != show_ping
        if show_ping:
            assert closing(effects) is BAD_REQUEST


@pytest.mark.parametrize("show_ping", [True, False])
def test_a_pong_before_the_connection_is_open(show_ping: bool) -> None:
    """As a message it is no connect; as a frame it may come at any time."""
    talk = Talk(show_ping=show_ping)
    talk.session.ponged()
    assert closing(talk.say(Pong())) is BAD_REQUEST


def test_pongs_that_nobody_waits_for() -> None:
    """Without a timeout a dead client is not found out, and a pong is welcome."""
    talk = Talk(pong_timeout=0.0).opened()
    assert [Heartbeat()] == talk.tick(12.5)
    assert talk.now + 25.0 == talk.session.deadline
    assert [Heartbeat()] == talk.tick(25.0)
    assert talk.say(Pong()) == []


def test_a_timeout_longer_than_the_interval_counts_from_the_first_ping() -> None:
    """Further pings do not put it off."""
    talk = Talk(ping_interval=4.0).opened()
    assert [Heartbeat()] == talk.tick(2.0)
    assert [Heartbeat()] == talk.tick(4.0)
    assert closing(talk.tick(4.0)) is NO_PONG


def test_no_pings() -> None:
    """Nothing is ever due."""
    assert inf == Talk(ping_interval=0.0).opened().session.deadline


@pytest.mark.parametrize("late", [50.0, 200.0])
@pytest.mark.parametrize(("jitter", "following"), [(0.0, 12.5), (0.5, 18.75), (0.999, 24.9875)])
def test_a_loop_that_stood_still_sends_one_ping(late: float, jitter: float, following: float) -> None:
    """Not one for each that it missed; the next are spread as the first were, so that not all ping in step for ever."""
    talk = Talk(jitter, pong_timeout=0.0).opened()
    assert [Heartbeat()] == talk.tick(late)
    assert pytest.approx(talk.now + following) == talk.session.deadline
