from __future__ import annotations

from math import inf
from typing import Any

import pytest

from gateway.disconnects import (
    BAD_REQUEST,
    EXPIRED,
    INSUFFICIENT_STATE,
    INVALID_TOKEN,
    SUBSCRIPTION_EXPIRED,
    Disconnect,
)
from gateway.errors import EngineFault, TokenError
from gateway.protocol.effects import Close, Denied, Effect, Leave, Outcome, PublishTo, Verified
from gateway.protocol.messages import (
    ExpiringPush,
    Publish,
    Refresh,
    RefreshResult,
    SubRefresh,
    SubRefreshResult,
    Subscribe,
    Unsubscribe,
    UnsubscribePush,
)
from gateway.types import Channel, ClientInfo, Grant, Identity, UserId
from tests.unit.protocol.talk import ALICE, ME, ROOM, WALL, Talk, answer, closing, error, only, pushed

OTHER = Channel("open:x")


def _quiet(**rules: Any) -> Talk:
    """A talk without pings, so that only tokens end."""
    return Talk(ping_interval=0.0, **rules)


def _refresh(talk: Talk, **claims: Any) -> list[Effect]:
    return talk.verify(talk.say(Refresh(3, "new")), **claims)


# --- connection tokens


def test_a_token_that_is_not_refreshed() -> None:
    """The connection ends a while after the token, and the client may come back."""
    talk = _quiet().opened(expires_at=WALL + 60)
    assert talk.now + 85 == talk.session.deadline
    assert talk.tick(84.9) == []
    assert closing(talk.tick(0.1)) is EXPIRED


def test_a_token_without_end() -> None:
    """Nothing is ever due."""
    assert inf == _quiet(expiring_notice=60.0).opened().session.deadline


def test_notice() -> None:
    """The client is told once, with the seconds that are left; after a refresh again."""
    talk = _quiet(expiring_notice=60.0).opened(expires_at=WALL + 100)
    assert talk.now + 40 == talk.session.deadline
    assert [ExpiringPush(60)] == pushed(talk.tick(40))
    assert talk.tick(1) == []
    _refresh(talk, expires_at=WALL + 200)
    assert [ExpiringPush(60)] == pushed(talk.tick(99))


def test_notice_of_a_token_that_ends_before_it_is_due() -> None:
    """It is told at the first tick, never as less than nothing."""
    talk = _quiet(expiring_notice=60.0).opened(expires_at=WALL + 10)
    assert [ExpiringPush(10)] == pushed(talk.tick())
    talk = _quiet(expiring_notice=60.0).opened(expires_at=WALL + 10)
    assert [ExpiringPush(0)] == pushed(talk.tick(20))


def test_refresh() -> None:
    """The new end counts from now on."""
    talk = _quiet().opened(expires_at=WALL + 60)
    talk.now += 50
    assert RefreshResult(ME, "9.9", 60) == answer(_refresh(talk, expires_at=WALL + 110))
    assert talk.now + 85 == talk.session.deadline
    assert RefreshResult(ME, "9.9", None) == answer(_refresh(talk))
    assert inf == talk.session.deadline


def test_refresh_brings_a_new_info() -> None:
    """It is seen with later publications, beside the info of the channel."""
    talk = Talk().subscribed(ROOM)
    grant = Grant(info=b'"I"')
    talk.join_all(talk.verify(talk.say(Subscribe(2, OTHER, token="t")), channel=OTHER, grant=grant))
    before = talk.session.who
    _refresh(talk)
    assert talk.session.who is before
    _refresh(talk, info=b'"B"')
    assert (None, b'"B"') == (before.conn_info, talk.session.who.conn_info)
    assert ClientInfo(ALICE, ME, b'"B"') == only(talk.say(Publish(4, ROOM, b"{}")), PublishTo).options.info
    assert ClientInfo(ALICE, ME, b'"B"', b'"I"') == only(talk.say(Publish(4, OTHER, b"{}")), PublishTo).options.info


@pytest.mark.parametrize(
    ("claims", "ended"),
    [
        ({"user": UserId("bob")}, INVALID_TOKEN),
        ({"ticket": True}, INVALID_TOKEN),
        ({"channel": ROOM}, INVALID_TOKEN),
        ({"expires_at": WALL}, EXPIRED),
        ({"grants": {ROOM: Grant()}}, INSUFFICIENT_STATE),
        ({"user": UserId("")}, INVALID_TOKEN),
    ],
)
def test_a_refresh_that_does_not_fit(claims: dict[str, Any], ended: Disconnect) -> None:
    """Another user or another kind of token is a fraud, an old one ends, other channels want a new connect."""
    assert closing(_refresh(Talk().opened(), **claims)) is ended


def test_a_refresh_with_the_same_channels() -> None:
    """The personal channel, which no token names, does not count; what the token says of the client there is new."""
    talk = Talk(personal=True).opened(grants={ROOM: Grant()})
    assert RefreshResult(ME, "9.9", None) == answer(_refresh(talk, grants={ROOM: Grant(info=b'"I"')}))
    assert ClientInfo(ALICE, ME, None, b'"I"') == talk.session.subscriptions[ROOM].who
    _refresh(talk, grants={ROOM: Grant()})
    assert ClientInfo(ALICE, ME) == talk.session.subscriptions[ROOM].who


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ({}, {}, True),
        ({}, {"presence": True}, True),  # as the namespace has it
        ({}, {"nonsense": True}, True),
        ({"presence": False}, {"presence": False}, True),
        ({}, {"presence": False}, False),
        ({"force_push_join_leave": False}, {}, False),
    ],
)
def test_a_refresh_that_changes_what_a_channel_shows(
    before: dict[str, bool], after: dict[str, bool], kept: bool
) -> None:
    """Other options, more or fewer, count from the next connect on: the client is sent to make one."""
    talk = Talk().opened(grants={ROOM: Grant(override=before)})
    effects = _refresh(talk, grants={ROOM: Grant(override=after)})
    assert kept is talk.phase().name.startswith("OPEN")
    assert kept or closing(effects) is INSUFFICIENT_STATE


def test_a_refresh_after_leaving_a_channel_of_the_token() -> None:
    """What the client has left by itself stays left, and its options matter no more."""
    talk = Talk().opened(grants={ROOM: Grant()})
    talk.say(Unsubscribe(2, ROOM))
    assert RefreshResult(ME, "9.9", None) == answer(_refresh(talk, grants={ROOM: Grant(override={"presence": False})}))
    assert ROOM not in talk.session.subscriptions


def test_a_fraud_at_refresh_is_written_down() -> None:
    """Somebody else's token is an attempt, one that has ended or says other channels is none."""
    effects = _refresh(Talk().opened(), user=UserId("bob"))
    assert [Denied("refresh"), Close(INVALID_TOKEN)] == effects
    assert [Close(EXPIRED)] == _refresh(Talk().opened(), expires_at=WALL)


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        (TokenError(3500, "bad signature"), Disconnect(3500, "bad signature")),
        (TokenError(109, "token expired"), EXPIRED),
        (TokenError(100, "no keys"), 100),
        (EngineFault("down"), 100),
    ],
)
def test_a_refresh_that_fails(outcome: Outcome, ended: int | Disconnect) -> None:
    """Only what another try may mend is an error reply."""
    talk = Talk().opened()
    effects = talk.resolve(talk.say(Refresh(3, "new"))[0], outcome)
    assert ended == (error(effects) if isinstance(ended, int) else closing(effects))


def test_refreshing_with_nothing_ends_the_connection() -> None:
    """A command without its token is malformed."""
    assert closing(Talk().opened().say(Refresh(3, ""))) is BAD_REQUEST
    assert closing(Talk().opened().say(SubRefresh(3, ROOM, ""))) is BAD_REQUEST


# --- subscription tokens


def _subscribed(*channels: tuple[Channel, float | None], **rules: Any) -> Talk:
    talk = _quiet(**rules).opened()
    for channel, ends in channels:
        effects = talk.say(Subscribe(2, channel, token="t"))
        talk.join_all(talk.verify(effects, channel=channel, expires_at=None if ends is None else WALL + ends))
    return talk


def test_a_subscription_that_is_not_refreshed() -> None:
    """It ends a while after its token, others stay, and the deadline goes on to the next."""
    talk = _subscribed((ROOM, 60), (OTHER, 70), (Channel("open:y"), None))
    start = talk.now
    assert start + 85 == talk.session.deadline
    assert talk.tick(84.9) == []
    effects = talk.tick(0.1)
    assert Leave(ROOM) == effects[0]
    assert [UnsubscribePush(ROOM, 2501, "subscription expired")] == pushed(effects)
    assert start + 95 == talk.session.deadline
    talk.say(Unsubscribe(3, OTHER))
    assert inf == talk.session.deadline
    assert talk.session.subscriptions.keys() == {"open:y"}


def test_several_end_at_once() -> None:
    """Each is told."""
    assert [ROOM, OTHER] == [
        it.channel for it in pushed(_subscribed((ROOM, 60), (OTHER, 70)).tick(100)) if isinstance(it, UnsubscribePush)
    ]


def test_sub_refresh() -> None:
    """The new end counts, and the new info; without a channel the token says which."""
    talk = _subscribed((ROOM, 60))
    effects = talk.say(SubRefresh(3, ROOM, "new"))
    assert SubRefreshResult(ROOM, 100) == answer(talk.verify(effects, channel=ROOM, expires_at=WALL + 100))
    assert talk.now + 125 == talk.session.deadline
    effects = talk.say(SubRefresh(4, Channel(""), "new"))
    grant = Grant(info=b'"I"')
    assert SubRefreshResult(ROOM, None) == answer(talk.verify(effects, channel=ROOM, grant=grant))
    assert inf == talk.session.deadline
    assert ClientInfo(ALICE, ME, None, b'"I"') == only(talk.say(Publish(4, ROOM, b"{}")), PublishTo).options.info


def test_a_sub_refresh_that_changes_what_the_channel_shows() -> None:
    """It is answered, then the client is sent to subscribe again by the token that it has now."""
    talk = _subscribed((ROOM, 60))
    grant = Grant(override={"presence": False})
    effects = talk.verify(talk.say(SubRefresh(3, ROOM, "new")), channel=ROOM, grant=grant)
    assert SubRefreshResult(ROOM, None) == answer(effects)
    assert Leave(ROOM) in effects
    assert [UnsubscribePush(ROOM, 2500, "insufficient state")] == pushed(effects)
    effects = talk.verify(talk.say(Subscribe(4, ROOM, token="new")), channel=ROOM, grant=grant)
    talk.join_all(effects)
    assert [] == pushed(talk.verify(talk.say(SubRefresh(5, ROOM, "again")), channel=ROOM, grant=grant))
    assert ROOM in talk.session.subscriptions


def test_a_sub_refresh_of_what_the_server_subscribed() -> None:
    """Its options are those of the connection token, whatever this one says."""
    talk = _quiet().opened(grants={ROOM: Grant(override={"presence": False})})
    effects = talk.verify(talk.say(SubRefresh(3, ROOM, "new")), channel=ROOM)
    assert [SubRefreshResult(ROOM, None)] == [answer(effects)]
    assert [] == pushed(effects)
    assert not talk.session.subscriptions[ROOM].options.presence


def test_refreshing_what_is_not_subscribed() -> None:
    """Refused, at once or after the token has said which channel it is for."""
    talk = _subscribed((ROOM, 60))
    assert error(talk.say(SubRefresh(3, OTHER, "new"))) == 103
    assert error(talk.verify(talk.say(SubRefresh(3, Channel(""), "new")), channel=OTHER)) == 103


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        (TokenError(3500, "bad signature"), Disconnect(3500, "bad signature")),
        (TokenError(109, "token expired"), 109),
        (TokenError(100, "no keys"), 100),
        (Verified(Identity(ALICE, channel=ROOM, expires_at=WALL), WALL), 109),
        (Verified(Identity(ALICE), WALL), INVALID_TOKEN),
        (Verified(Identity(ALICE, channel=OTHER), WALL), INVALID_TOKEN),
        (Verified(Identity(UserId("bob"), channel=ROOM), WALL), INVALID_TOKEN),
    ],
)
def test_a_sub_refresh_that_fails(outcome: Outcome, ended: int | Disconnect) -> None:
    """An expired token leaves the old end as it was: the subscription does not live for ever."""
    talk = _subscribed((ROOM, 60))
    deadline = talk.session.deadline
    effects = talk.resolve(talk.say(SubRefresh(3, ROOM, "new"))[0], outcome)
    assert ended == (error(effects) if isinstance(ended, int) else closing(effects))
    assert (deadline if isinstance(ended, int) else inf) == talk.session.deadline


def test_a_subscription_of_the_server_that_ends() -> None:
    """The client cannot redo it: the connection ends, and the next connect makes it again."""
    talk = _quiet().opened(grants={ROOM: Grant()})
    talk.verify(talk.say(SubRefresh(3, ROOM, "new")), channel=ROOM, expires_at=WALL + 60)
    assert closing(talk.tick(85)) is SUBSCRIPTION_EXPIRED
