from __future__ import annotations

from math import inf

import pytest

from gateway.disconnects import (
    BAD_REQUEST,
    INAPPROPRIATE_PROTOCOL,
    INSUFFICIENT_STATE,
    NOT_AVAILABLE,
    TOO_MANY_ERRORS,
    TOO_MANY_REQUESTS,
)
from gateway.errors import BAD_REQUEST as BAD_REQUEST_ERROR
from gateway.errors import DecodeError, TokenError
from gateway.protocol import messages
from gateway.protocol.effects import Effect, Heartbeat, Join, Leave, Live, PublishTo, Send, Verify
from gateway.protocol.messages import (
    Connect,
    Echo,
    EchoResult,
    History,
    Ping,
    PingResult,
    Publish,
    Rpc,
    Subscribe,
    UnsubscribePush,
)
from gateway.protocol.session import Phase
from gateway.protocol.values import Published, PublishOptions
from gateway.types import Channel, Grant, UserId
from tests.unit.protocol.talk import ROOM, TOP, Talk, answer, closing, error, only, pushed

BROKEN = DecodeError(BAD_REQUEST_ERROR, ref=5)


def test_small_commands() -> None:
    """Ping and echo are answered at once; there is no backend to call or to tell."""
    talk = Talk().opened()
    assert PingResult() == answer(talk.say(Ping(3)))
    assert EchoResult(b"\x00", text=False) == answer(talk.say(Echo(4, b"\x00", text=False)))
    assert error(talk.say(Rpc(5, "method", b"{}"))) == 108
    assert closing(talk.say(messages.Send(0, b"{}"))) is NOT_AVAILABLE


def test_after_the_end_nothing_follows() -> None:
    """Whatever still comes in is answered with nothing, and nothing is due."""
    ended, gone = Talk().subscribed(ROOM), Talk().subscribed(ROOM)
    closing(ended.say(Connect(9)))
    gone.session.close()
    for talk in (ended, gone):
        assert talk.phase() is Phase.CLOSED
        assert inf == talk.session.deadline
        assert talk.say(Ping(3)) == []
        assert talk.say(messages.Pong()) == []
        assert talk.tick(1000.0) == []
        assert talk.session.malformed(BROKEN, talk.now) == []
        assert talk.session.insufficient(ROOM, TOP, talk.now) == []
        assert talk.resolve(PublishTo(3, ROOM, b"{}", PublishOptions()), Published()) == []
        assert inf == talk.session.deadline


@pytest.mark.parametrize(
    "effect",
    [Heartbeat(), Live(ROOM), Leave(ROOM), Send(messages.PingPush()), Verify(Ping(3), "t")],
)
def test_effects_without_an_outcome(effect: Effect) -> None:
    """One that is given all the same changes nothing."""
    assert Talk().opened().resolve(effect, Published()) == []


def test_an_outcome_of_the_wrong_kind_is_an_internal_error() -> None:
    """A mistake of the shell's reaches the client as what it is; nothing is raised."""
    talk = Talk(private_messages=True).subscribed(ROOM)
    for command in (
        Publish(3, ROOM, b"{}"),
        messages.Presence(3, ROOM),
        messages.History(3, ROOM),
        messages.Message(3, UserId("bob"), b"{}"),
        messages.Refresh(3, "t"),
        messages.SubRefresh(3, ROOM, "t"),
        messages.Subscribe(3, Channel("open:x"), token="t"),
        messages.Subscribe(3, Channel("open:x")),
    ):
        [effect] = talk.say(command)
        wrong = TOP if isinstance(effect, PublishTo) else Published()
        assert error(talk.resolve(effect, wrong)) == 100  # type: ignore[arg-type] # that is the point


# --- bytes that are no commands


def test_malformed_gets_its_reply() -> None:
    """An error reply, and the connection stays."""
    talk = Talk().opened()
    assert [Send(messages.Reply(5, BAD_REQUEST_ERROR))] == talk.session.malformed(BROKEN, talk.now)


def test_malformed_beyond_repair() -> None:
    """Some faults end the connection at once, in any phase."""
    for talk in (Talk(), Talk().opened()):
        assert closing(talk.session.malformed(DecodeError(INAPPROPRIATE_PROTOCOL), talk.now)) is INAPPROPRIATE_PROTOCOL


def test_too_many_errors() -> None:
    """Twenty within any minute are too many; spread out they are not."""
    talk = Talk().opened()
    for _ in range(19):
        assert error(talk.session.malformed(BROKEN, talk.now)) == 107
    assert closing(talk.session.malformed(BROKEN, talk.now + 59.9)) is TOO_MANY_ERRORS
    talk = Talk().opened()
    for _ in range(100):
        talk.now += 3.2
        assert error(talk.session.malformed(BROKEN, talk.now)) == 107


def test_malformed_before_connect_or_after_its_refusal() -> None:
    """Connect comes first; while it is verified, a fault is answered as ever."""
    talk = Talk()
    assert closing(talk.session.malformed(BROKEN, talk.now)) is BAD_REQUEST
    talk = Talk()
    verify = only(talk.say(Connect(1, token="t")), Verify)
    assert error(talk.session.malformed(BROKEN, talk.now)) == 107
    talk.resolve(verify, TokenError(109, "token expired"))
    assert closing(talk.session.malformed(BROKEN, talk.now)) is BAD_REQUEST


# --- too many commands


def test_over_the_command_rate() -> None:
    """Refused with a temporary error; pongs and what has no reply are not answered; slower is fine again."""
    talk = Talk(command_rate=10.0, command_burst=2.0).opened()
    assert isinstance(answer(talk.say(Ping(3))), PingResult)
    assert isinstance(answer(talk.say(Ping(4))), PingResult)
    assert error(talk.say(Ping(5))) == 111
    assert talk.say(messages.Send(0, b"{}")) == []
    talk.now += 0.1
    assert isinstance(answer(talk.say(Ping(6))), PingResult)


def test_pongs_are_free() -> None:
    """A client that is over its rate still proves that it lives."""
    talk = Talk(command_rate=1.0, command_burst=1.0).opened()
    talk.now += 12.5
    talk.tick()
    talk.say(Ping(3))
    assert error(talk.say(Ping(4))) == 111
    assert talk.say(messages.Pong()) == []


def test_only_one_pong_to_a_ping_is_free() -> None:
    """Any other counts as a command does, and so does what asks for nothing; neither is answered with an error."""
    talk = Talk(command_rate=10.0, command_burst=1.0, show_ping=False).opened()
    assert [Heartbeat()] == talk.tick(12.5)
    assert talk.say(messages.Nothing()) == []
    effects = talk.say(messages.Pong())  # the one that is free
    start = talk.now
    while talk.phase() is Phase.OPEN and talk.now < start + 10.0:
        assert effects == []
        talk.now += 0.05
        effects = talk.say(messages.Pong() if talk.now % 0.2 < 0.1 else messages.Nothing())
    assert closing(effects) is TOO_MANY_REQUESTS
    assert pytest.approx(start + 5.0, abs=0.3) == talk.now


def test_what_the_dialect_asks_counts_for_no_limit_of_the_client() -> None:
    """The repair of a subscription and the read on entry come through though the client is over its rate."""
    talk = Talk(command_rate=1.0, command_burst=1.0).subscribed(ROOM)
    talk.session.insufficient(ROOM, TOP, talk.now)
    assert error(talk.say(Ping(3))) == 111
    assert ROOM == only(talk.say(Subscribe(4, ROOM, ours=True)), Join).channel
    assert error(talk.say(History(5, Channel("open:x"), ours=True))) == 108  # it keeps none
    assert error(talk.say(History(6, Channel("open:x")))) == 111


def test_a_flood_ends_the_connection() -> None:
    """Five seconds over the rate on end, though every second command is let through."""
    talk = Talk(command_rate=10.0, command_burst=1.0).opened()
    start = talk.now
    effects = talk.say(Ping(3))
    while talk.phase() is Phase.OPEN and talk.now < start + 10.0:
        talk.now += 0.05
        effects = talk.say(Ping(3))
    assert closing(effects) is TOO_MANY_REQUESTS
    assert pytest.approx(start + 5.0, abs=0.3) == talk.now


def test_bursts_with_pauses_are_no_flood() -> None:
    """A client that goes over now and then is only slowed down."""
    talk = Talk(command_rate=10.0, command_burst=1.0).opened()
    for _ in range(10):
        talk.now += 2.0
        talk.say(Ping(3))
        assert error(talk.say(Ping(4))) == 111


def test_no_limit_costs_nothing() -> None:
    """Without a rate there is no bucket."""
    assert Talk(command_rate=0.0).opened().session.bucket is None


# --- gaps


def test_a_subscription_that_fell_behind() -> None:
    """The client is told up to where it has everything, after nothing more can come, and may subscribe again."""
    talk = Talk().subscribed(ROOM)
    effects = talk.session.insufficient(ROOM, TOP, talk.now)
    assert Leave(ROOM) == effects[0]
    assert [UnsubscribePush(ROOM, 2500, "insufficient state", TOP)] == pushed(effects)
    assert talk.session.insufficient(ROOM, TOP, talk.now) == []
    assert isinstance(talk.say(messages.Subscribe(3, ROOM, since=TOP))[0], Join)


def test_a_subscription_of_the_server_that_fell_behind() -> None:
    """The client comes back and recovers, also when the connection was not open yet."""
    talk = Talk().opened(grants={ROOM: Grant()})
    assert closing(talk.session.insufficient(ROOM, TOP, talk.now)) is INSUFFICIENT_STATE
    talk = Talk()
    first, _ = talk.connect(grants={ROOM: Grant(), Channel("open:x"): Grant()})
    talk.join_all([first])
    assert closing(talk.session.insufficient(ROOM, TOP, talk.now)) is INSUFFICIENT_STATE


def test_a_subscription_without_a_position_cannot_fall_behind() -> None:
    """Who asked for no position was promised nothing, and stays subscribed."""
    talk = Talk().subscribed("optional:x")
    assert talk.session.insufficient(Channel("optional:x"), TOP, talk.now) == []
    assert Channel("optional:x") in talk.session.subscriptions


def test_falling_behind_twice() -> None:
    """Within the period, in the same channel: subscribing again does not help, the connection ends."""
    talk = Talk(gap_period=10.0).subscribed(ROOM, "chat:other")
    assert len(talk.session.insufficient(ROOM, TOP, talk.now)) == 2
    assert len(talk.session.insufficient(Channel("chat:other"), TOP, talk.now)) == 2
    talk.subscribe(ROOM)
    talk.now += 10.0
    assert len(talk.session.insufficient(ROOM, TOP, talk.now)) == 2
    talk.subscribe(ROOM)
    talk.now += 9.9
    assert closing(talk.session.insufficient(ROOM, TOP, talk.now)) is INSUFFICIENT_STATE


def test_falling_behind_again_and_again_without_a_period() -> None:
    """Then the client decides."""
    talk = Talk().opened()
    for _ in range(3):
        talk.subscribe(ROOM)
        assert len(talk.session.insufficient(ROOM, TOP, talk.now)) == 2


# --- what it costs


def test_an_idle_session_is_small() -> None:
    """Thousands of them are held: slots only, and what few of them need is made when it is needed."""
    session = Talk().subscribed(ROOM).session
    assert not hasattr(session, "__dict__")
    assert (None, None, None) == (session.opening, session.malformations, session.gaps)
