from __future__ import annotations

import pytest

from gateway.protocol.effects import Join, Verify
from gateway.protocol.messages import Subscribe, Unsubscribe
from gateway.types import Channel
from tests.unit.protocol.talk import ROOM, TOP, Talk, error, only

ROOMS = [Channel(f"chat:{number}") for number in range(20)]


def flap(talk: Talk, channel: str = ROOM) -> bool:
    """Leave and come back; say whether that was allowed."""
    talk.say(Unsubscribe(3, Channel(channel)))
    effects = talk.say(Subscribe(4, Channel(channel)))
    if isinstance(effects[0], Join):
        talk.join_all(effects)
        return True
    assert error(effects) == 111
    return False


def test_who_leaves_and_comes_back_all_the_time_is_slowed_down() -> None:
    """So often at once, then once a second: others are told of no more than that, and of as many leaves."""
    talk = Talk(rejoin_rate=1.0, rejoin_burst=3.0).subscribed(ROOM)
    assert [True] * 3 + [False] * 2 == [flap(talk) for _ in range(5)]
    allowed = 0
    for _ in range(100):
        talk.now += 0.1
        allowed += flap(talk)
    assert 10 == allowed


def test_a_repair_is_no_coming_back() -> None:
    """Nobody is told of it, and a client that may not come back right now keeps its room through a gap."""
    talk = Talk(rejoin_burst=1.0).subscribed(ROOM)
    assert flap(talk)
    talk.session.insufficient(ROOM, TOP, talk.now)
    assert error(talk.say(Subscribe(5, ROOM))) == 111
    assert isinstance(only(talk.say(Subscribe(6, ROOM, ours=True)), Join), Join)


def test_a_change_of_channels_counts_as_well() -> None:
    """Many channels would else be flapped in turns."""
    talk = Talk(rejoin_burst=3.0).subscribed(ROOM)
    talk.say(Unsubscribe(3, ROOM))
    assert 3 == sum(isinstance(talk.say(Subscribe(4, channel))[0], Join) for channel in ROOMS)


def test_coming_in_is_free_before_the_first_leave() -> None:
    """Whoever opens many channels at the start disturbs nobody twice."""
    talk = Talk(rejoin_burst=1.0).opened()
    assert all(isinstance(talk.say(Subscribe(2, channel))[0], Join) for channel in ROOMS)


def test_where_nobody_is_told_nothing_is_counted() -> None:
    """A channel without joins and leaves may be flapped; only the rate of commands bounds it."""
    talk = Talk(rejoin_burst=1.0).subscribed("open:x")
    assert all(flap(talk, "open:x") for _ in range(5))
    talk.say(Unsubscribe(3, Channel("open:y")))
    assert talk.session.rejoins is None


def test_a_token_may_tell_others_and_counts() -> None:
    """What it grants is known too late, so each subscription with a token takes one."""
    talk = Talk(rejoin_burst=1.0).subscribed(ROOM)
    talk.say(Unsubscribe(3, ROOM))
    only(talk.say(Subscribe(4, Channel("open:x"), token="t")), Verify)
    assert error(talk.say(Subscribe(5, Channel("open:y"), token="t"))) == 111


@pytest.mark.parametrize("rules", [{"rejoin_rate": 0.0}, {"rejoin_burst": 1000.0}])
def test_the_limit_can_be_taken_off(rules: dict[str, float]) -> None:
    """By a rate of 0, or as good as by a large burst."""
    talk = Talk(**rules).subscribed(ROOM)
    assert all(flap(talk) for _ in range(100))
