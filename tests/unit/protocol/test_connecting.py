from __future__ import annotations

from math import inf
from typing import Any

import pytest

from gateway.disconnects import BAD_REQUEST, CHANNEL_LIMIT, INVALID_TOKEN, SERVER_ERROR, SHUTDOWN, STALE, Disconnect
from gateway.errors import EngineFault, ErrorReply, TokenError
from gateway.protocol import messages
from gateway.protocol.effects import Close, Effect, Join, Joined, Leave, Live, Outcome, Send, Verified, Verify
from gateway.protocol.messages import Connect, ConnectResult, Pong, Publish, Subscribe
from gateway.protocol.session import Phase
from gateway.types import Channel, ClientInfo, Grant, Identity, Position, UserId
from tests.unit.protocol.talk import ALICE, ME, ROOM, TOP, WALL, Talk, answer, closing, error, only, publication


def _result(effects: list[Effect]) -> ConnectResult:
    result = answer(effects)
    assert isinstance(result, ConnectResult)
    return result


def test_a_good_token_opens() -> None:
    """The token is verified, the reply says who and how, and others see what the token tells of the client."""
    talk = Talk()
    assert Talk().phase() is Phase.CONNECTING
    command = Connect(1, token="t")
    effects = talk.say(command)
    assert [Verify(command, "t")] == effects
    assert talk.phase() is Phase.VERIFYING
    result = _result(talk.verify(effects, info=b'{"name":"A"}', expires_at=WALL + 60.9))
    assert ConnectResult(ME, ALICE, "9.9", node="here", ttl=60, ping=25, pong=True, subs=[]) == result
    assert talk.phase() is Phase.OPEN
    assert ClientInfo(ALICE, ME, b'{"name":"A"}') == talk.session.who
    assert talk.session.identity is not None


@pytest.mark.parametrize("rules", [{"insecure": True}, {"anonymous": True}])
@pytest.mark.parametrize("token", [None, ""])
def test_without_token_where_that_is_allowed(rules: dict[str, bool], token: str | None) -> None:
    """The connection opens at once, as the anonymous user, without end and without a personal channel."""
    talk = Talk(personal=True, **rules)
    result = _result(talk.say(Connect(1, token=token)))
    assert ("", None, []) == (result.user, result.ttl, result.subs)
    assert Identity(UserId("")) == talk.session.identity


def test_without_token_where_it_is_needed() -> None:
    """That is a bad request, not an error reply."""
    assert closing(Talk().say(Connect(1))) is BAD_REQUEST


def test_a_supplied_token_is_verified_even_if_insecure() -> None:
    """`insecure` does without a token; it does not believe any."""
    assert isinstance(only(Talk(insecure=True).say(Connect(1, token="t")), Verify), Verify)


@pytest.mark.parametrize(
    "command",
    [Publish(1, ROOM, b"{}"), Subscribe(1, ROOM), messages.Ping(1), messages.Send(0, b""), Pong()],
)
def test_connect_comes_first(command: messages.Command) -> None:
    """Anything else before it ends the connection."""
    assert closing(Talk().say(command)) is BAD_REQUEST


def test_connect_comes_once() -> None:
    """A second one ends the connection, while the first is verified and later."""
    talk = Talk()
    talk.say(Connect(1, token="t"))
    assert closing(talk.say(Connect(2, token="t"))) is BAD_REQUEST
    assert closing(Talk().opened().say(Connect(2, token="t"))) is BAD_REQUEST


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (TokenError(109, "token expired"), 109),
        (TokenError(100, "no keys"), 100),
        (EngineFault("down"), 100),
    ],
)
def test_an_error_reply_to_connect(outcome: Outcome, code: int) -> None:
    """The connection is of no use afterwards: a further command ends it, and so does time."""
    talk = Talk()
    assert error(talk.resolve(only(talk.say(Connect(1, token="t")), Verify), outcome)) == code
    assert talk.phase() is Phase.REFUSED
    assert talk.session.identity is None
    assert 1010.0 == talk.session.deadline
    assert talk.tick(9.9) == []
    assert closing(talk.tick(0.1)) is STALE
    talk = Talk()
    talk.resolve(only(talk.say(Connect(1, token="t")), Verify), outcome)
    assert closing(talk.say(Connect(2, token="t"))) is BAD_REQUEST


@pytest.mark.parametrize(
    ("reason", "said"),
    [("invalid token", "invalid token"), ("", "invalid token"), ("å" * 100, "å" * 61), ("\ud800", "?")],
)
def test_an_invalid_token_ends_the_connection(reason: str, said: str) -> None:
    """The close frame gives the reason as far as it fits."""
    talk = Talk()
    ended = closing(talk.resolve(only(talk.say(Connect(1, token="t")), Verify), TokenError(3500, reason)))
    assert Disconnect(3500, said) == ended
    assert talk.phase() is Phase.CLOSED


@pytest.mark.parametrize(
    "claims",
    [
        {"ticket": True},
        {"channel": ROOM},
    ],
)
def test_tokens_for_something_else(claims: dict[str, Any]) -> None:
    """A ticket is no token, and a subscription token opens no connection."""
    assert closing(Talk().connect(**claims)) is INVALID_TOKEN


def test_tickets() -> None:
    """What was presented as a ticket must be one."""
    ticket = Connect(1, token="t", ticket=True)
    assert closing(Talk().connect(ticket)) is INVALID_TOKEN
    assert _result(Talk().connect(ticket, ticket=True)).user == ALICE


@pytest.mark.parametrize(("late", "code"), [(0.0, 109), (30.0, 109), (31.0, 110)])
def test_a_token_that_ended_before(late: float, code: int) -> None:
    """Within the verifier's leeway the client is told to fetch another, later that this is for good."""
    talk = Talk()
    assert error(talk.connect(expires_at=WALL - late)) == code
    assert talk.phase() is Phase.REFUSED


@pytest.mark.parametrize("late", [0.0, 31.0])
def test_plain_protocols_close_on_a_refusal(late: float) -> None:
    """Where the client knows no reply to connect, the close code says whether to come back."""
    ended = Disconnect(3500, "token expired")
    talk = Talk(close_on_refusal=True)
    assert ended == closing(talk.connect(expires_at=WALL - late))
    talk = Talk(close_on_refusal=True)
    assert ended == closing(talk.resolve(only(talk.say(Connect(1, token="t")), Verify), TokenError(109, "x")))
    talk = Talk(close_on_refusal=True)
    no_keys = talk.resolve(only(talk.say(Connect(1, token="t")), Verify), TokenError(100, "x"))
    assert SERVER_ERROR == closing(no_keys)
    talk = Talk(close_on_refusal=True)
    (join,) = talk.connect(grants={ROOM: Grant()})
    assert SERVER_ERROR == closing(talk.resolve(join, EngineFault("down")))
    talk = Talk(close_on_refusal=True)
    assert Disconnect(3500, "unknown channel") == closing(talk.connect(grants={Channel("none:x"): Grant()}))


def test_ttl_is_a_year_at_most_and_a_second_at_least() -> None:
    """Clients count on a whole number of seconds that fits their timers."""
    assert _result(Talk().connect(expires_at=WALL + 1e12)).ttl == 365 * 86_400
    assert _result(Talk().connect(expires_at=WALL + 0.2)).ttl == 1


@pytest.mark.parametrize(
    ("rules", "ping", "pong"),
    [
        ({}, 25, True),
        ({"pong_timeout": 0.0}, 25, False),
        ({"ping_interval": 0.0}, 0, False),
        ({"show_ping": False}, 0, False),
    ],
)
def test_what_the_reply_says_of_pings(rules: dict[str, Any], ping: int, pong: bool) -> None:
    """Only pings that the client will see are announced."""
    result = _result(Talk(**rules).connect())
    assert (ping, pong) == (result.ping, result.pong)


# --- subscriptions of the server


def test_the_personal_channel() -> None:
    """It is joined when the client or the server wants it, with fixed options, before the reply."""
    for talk, command in ((Talk(personal=True), Connect(1, token="t")), (Talk(), Connect(1, token="t", personal=True))):
        effects = talk.connect(command)
        who = ClientInfo(ALICE, ME)
        join = Join(1, Channel("#alice"), who, server=True, presence=True, history_meta_ttl=720 * 3600.0)
        assert [join] == effects
        assert talk.phase() is Phase.VERIFYING
        effects = talk.join_all(effects)
        assert isinstance(effects[0], Send)
        assert [Live(Channel("#alice"))] == effects[1:]
        [sub] = _result(effects).subs
        assert ("#alice", None, False) == (sub.channel, sub.position, sub.positioned)
        assert talk.session.subscriptions[Channel("#alice")].server


@pytest.mark.parametrize("user", ["a,b", "a#b", "a\x00", "x" * 201])
def test_a_user_who_cannot_have_a_personal_channel(user: str) -> None:
    """Such a token is refused where the channel is wanted, and good where it is not."""
    assert closing(Talk(personal=True).connect(user=user)) is INVALID_TOKEN
    assert _result(Talk().connect(user=user)).user == user


def test_channels_of_the_token() -> None:
    """Each is joined with what the token says of it, recovers from the client's position, and is in the reply."""
    grant = Grant(info=b'"I"', data=b'"D"', override={"join_leave": True, "force_push_join_leave": True})
    other = Channel("optional:x")
    talk = Talk()
    since = Position(5, TOP.epoch)
    command = Connect(1, token="t", subs={ROOM: since, other: since})
    first, second = talk.connect(command, grants={ROOM: Grant(), other: grant})
    assert isinstance(first, Join)
    assert isinstance(second, Join)
    assert (since, True, True) == (first.since, first.positioned, first.server)
    assert (None, False) == (second.since, second.positioned)  # recovery is not forced there
    assert (True, True, b'"I"') == (second.join_leave, second.watch, second.who.chan_info)
    assert talk.resolve(second, Joined(None, [], recovered=False)) == []
    effects = talk.resolve(first, Joined(TOP, [publication(6), publication(7)], recovered=True))
    subs = {it.channel: it for it in _result(effects).subs}
    assert (True, True, since, TOP) == (
        subs[ROOM].was_recovering,
        subs[ROOM].recovered,
        subs[ROOM].since,
        subs[ROOM].position,
    )
    assert [6, 7] == [it.offset for it in subs[ROOM].publications]
    assert (True, False, b'"D"') == (subs[other].was_recovering, subs[other].recovered, subs[other].data)
    assert {Live(ROOM).channel, Live(other).channel} == {it.channel for it in effects if isinstance(it, Live)}


def test_a_personal_channel_that_the_token_grants_is_joined_once() -> None:
    """What the token says of it counts."""
    [join] = Talk(personal=True).connect(grants={Channel("#alice"): Grant(override={"join_leave": True})})
    assert isinstance(join, Join)
    assert join.join_leave


def test_too_many_channels_in_the_token() -> None:
    """The personal channel counts too."""
    grants = {Channel(f"open:{number}"): Grant() for number in range(2)}
    assert len(Talk(channel_limit=2).connect(grants=grants)) == 2
    assert closing(Talk(channel_limit=2, personal=True).connect(grants=grants)) is CHANNEL_LIMIT


@pytest.mark.parametrize("unknown", ["nope:x", ""])
def test_an_unknown_channel_in_the_token(unknown: str) -> None:
    """One bad channel refuses the whole connect, and none is joined."""
    talk = Talk()
    effects = talk.connect(grants={ROOM: Grant(), Channel(unknown): Grant()})
    assert error(effects) == 102
    assert not any(isinstance(it, Join) for it in effects)
    assert (Phase.REFUSED, {}) == (talk.session.phase, talk.session.joining)


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        (EngineFault("down"), 100),
        (EngineFault("oom"), 100),
        (ErrorReply(103, "no"), 103),
        (EngineFault("timeout"), 100),
        (SHUTDOWN, SHUTDOWN),
    ],
)
def test_a_failing_join_is_the_failure_of_the_connect(outcome: Outcome, ended: int | Disconnect) -> None:
    """What was joined before is left, and what joins afterwards too."""
    talk = Talk()
    one, two, three = talk.connect(grants={Channel(f"open:{number}"): Grant() for number in range(3)})
    assert isinstance(one, Join)
    assert isinstance(three, Join)
    assert talk.resolve(one, Joined(None, [], recovered=False)) == []
    effects = talk.resolve(two, outcome)
    if isinstance(ended, Disconnect):
        assert closing(effects) is ended
        assert talk.resolve(three, Joined(None, [], recovered=False)) == []
        return
    assert Leave(one.channel) == effects[0]
    assert error(effects) == ended
    assert talk.session.subscriptions == {}
    assert [Leave(three.channel)] == talk.resolve(three, Joined(None, [], recovered=False))
    assert talk.resolve(three, EngineFault("down")) == []


def test_the_stale_deadline_covers_everything_up_to_the_reply() -> None:
    """A client that does not identify itself is not to come back; after our own slow key fetch or join it is."""
    silent, verifying, joining = Talk(), Talk(), Talk(personal=True)
    verifying.say(Connect(1, token="t"))
    joining.connect()
    for talk, end in ((silent, STALE), (verifying, SERVER_ERROR), (joining, SERVER_ERROR)):
        assert 1010.0 == talk.session.deadline
        assert closing(talk.tick(10.0)) is end
        assert inf == talk.session.deadline


def test_an_outcome_that_comes_too_late() -> None:
    """After the end nothing follows, and a second answer to one Verify changes nothing."""
    talk = Talk()
    verify = only(talk.say(Connect(1, token="t")), Verify)
    good = Verified(Identity(ALICE), WALL)
    assert len(talk.resolve(verify, good)) == 1
    assert talk.resolve(verify, good) == []
    talk.session.close()
    assert talk.resolve(verify, good) == []
    assert talk.phase() is Phase.CLOSED
    assert not isinstance(talk.say(Connect(1, token="t")), Close)
