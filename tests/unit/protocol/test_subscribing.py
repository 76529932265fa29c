from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.disconnects import BAD_REQUEST, INVALID_TOKEN, SHUTDOWN, UNSUBSCRIBED_BY_SERVER, Disconnect
from gateway.errors import EngineFault, ErrorReply, TokenError
from gateway.protocol.effects import Effect, Join, Joined, Leave, Live, Outcome, Send, Verified, Verify
from gateway.protocol.messages import Reply, Subscribe, SubscribeResult, Unsubscribe, UnsubscribePush, UnsubscribeResult
from gateway.types import Channel, ClientInfo, ConnectionId, Grant, Identity, Position, UserId
from tests.unit.protocol.talk import (
    ALICE,
    ME,
    NAMESPACES,
    ROOM,
    TOP,
    WALL,
    Talk,
    answer,
    closing,
    error,
    only,
    publication,
    pushed,
)

SINCE = Position(5, TOP.epoch)
NOTHING = Joined(None, [], recovered=False)


def _result(effects: list[Effect]) -> SubscribeResult:
    result = answer(effects)
    assert isinstance(result, SubscribeResult)
    return result


def _ask(channel: str, **asked: Any) -> Join:
    return only(Talk().opened().say(Subscribe(2, Channel(channel), **asked)), Join)


def test_subscribe() -> None:
    """Joined with the options of the namespace; the reply comes before what was held back."""
    talk = Talk().opened()
    join = only(talk.say(Subscribe(2, ROOM)), Join)
    assert join == Join(
        2,
        ROOM,
        ClientInfo(ALICE, ME),
        positioned=True,
        presence=True,
        join_leave=True,
        watch=True,
        history=True,
        history_meta_ttl=600.0,
        limit=300,
    )
    assert ROOM not in talk.session.subscriptions
    effects = talk.resolve(join, Joined(TOP, [], recovered=False))
    result = SubscribeResult(ROOM, position=TOP, positioned=True, recoverable=True, publications=[])
    assert [Send(Reply(2, result)), Live(ROOM)] == effects
    assert not talk.session.subscriptions[ROOM].server


def test_an_empty_channel_ends_the_connection() -> None:
    """There is nothing such a command could mean."""
    assert closing(Talk().opened().say(Subscribe(2, Channel("")))) is BAD_REQUEST
    assert closing(Talk().opened().say(Unsubscribe(2, Channel("")))) is BAD_REQUEST


@pytest.mark.parametrize(
    ("channel", "asked", "code"),
    [
        ("open:" + "x" * 250, {}, None),
        ("open:" + "x" * 251, {}, 107),
        ("open:\x00", {}, 107),
        ("open:å", {}, 107),
        ("numbers:12", {}, None),
        ("numbers:x", {}, 107),
        ("nope:x", {}, 102),
        ("open:x", {"kind": 1}, 108),
        ("open:x", {"kind": 4}, 108),
        ("open:x", {"tags_filter": True}, 107),
        ("closed:x", {}, 103),
        ("closed:x", {"token": "t"}, None),
        ("$open:x", {}, 103),
        ("#alice", {}, 103),
        ("dialog:#bob", {}, 103),
        ("dialog:x#alice,bob", {}, None),
        ("dialog:x#bob", {}, 103),
    ],
)
def test_what_may_be_subscribed_to(channel: str, asked: dict[str, Any], code: int | None) -> None:
    """Refused commands leave no trace; the others go on to a join or to the verifier."""
    talk = Talk().opened()
    effects = talk.say(Subscribe(2, Channel(channel), **asked))
    if code is None:
        assert isinstance(effects[0], Join | Verify)
        assert talk.session.joining.keys() == {channel}
    else:
        assert error(effects) == code
        assert talk.session.joining == {}


def test_an_anonymous_client_needs_the_namespace_to_allow_it() -> None:
    """Allowed for clients is not allowed for everybody."""
    assert isinstance(Talk().opened(user="").say(Subscribe(2, Channel("open:x")))[0], Join)
    assert error(Talk().opened(user="").say(Subscribe(2, ROOM))) == 103
    assert isinstance(Talk(insecure=True).opened(user="").say(Subscribe(2, Channel("closed:x")))[0], Join)


def test_a_second_subscribe_is_an_error() -> None:
    """Whether the first stands, is under way, or was the server's."""
    talk = Talk(personal=True).opened()
    assert error(talk.say(Subscribe(2, Channel("#alice")))) == 105
    join = only(talk.say(Subscribe(3, ROOM)), Join)
    assert error(talk.say(Subscribe(4, ROOM))) == 105
    talk.resolve(join, NOTHING)
    assert error(talk.say(Subscribe(5, ROOM))) == 105


def test_the_channel_limit() -> None:
    """It counts what stands and what is under way; leaving makes room."""
    talk = Talk(channel_limit=2).subscribed("open:1")
    talk.say(Subscribe(3, Channel("open:2"), token="t"))
    assert error(talk.say(Subscribe(4, Channel("open:3")))) == 106
    talk.say(Unsubscribe(5, Channel("open:1")))
    assert isinstance(talk.say(Subscribe(6, Channel("open:3")))[0], Join)


# --- what a client gets of what it asks for


@pytest.mark.parametrize(
    ("channel", "asked", "positioned", "recovers"),
    [
        ("chat:x", {}, True, True),
        ("positions:x", {}, True, False),
        ("positions:x", {"recoverable": True}, True, False),
        ("optional:x", {}, False, False),
        ("optional:x", {"positioned": True}, True, False),
        ("optional:x", {"recoverable": True}, True, True),
        ("bare:x", {"positioned": True, "recoverable": True}, False, False),
        ("open:x", {"positioned": True, "recoverable": True}, False, False),
    ],
)
def test_positions_and_recovery(channel: str, asked: dict[str, bool], positioned: bool, recovers: bool) -> None:
    """Given where forced, or asked for and allowed; otherwise silently not, and the client's position is not used."""
    join = _ask(channel, since=SINCE, **asked)
    assert positioned == join.positioned
    assert (SINCE if recovers else None) == join.since


def test_who_may_read_history_may_have_positions() -> None:
    """Access to history stands in for both permissions."""
    bare = NAMESPACES.by_name["bare"]
    readable = replace(NAMESPACES, by_name={"bare": replace(bare, allow_history_for_subscriber=True)})
    talk = Talk(namespaces=readable).opened()
    effects = talk.subscribe("bare:x", positioned=True)
    assert (True, False) == (_result(effects).positioned, _result(effects).recoverable)
    effects = talk.subscribe("bare:y", recoverable=True)
    assert (True, True) == (_result(effects).positioned, _result(effects).recoverable)


@pytest.mark.parametrize(
    ("channel", "asked", "watch"),
    [
        ("chat:x", False, True),
        ("optional:x", False, False),
        ("optional:x", True, True),
        ("open:x", True, False),
    ],
)
def test_joins_and_leaves_are_shown(channel: str, asked: bool, watch: bool) -> None:
    """Where forced, or asked for by who may see presence, in channels that announce them."""
    assert watch == _ask(channel, join_leave=asked).watch


def test_joins_and_leaves_are_not_shown_to_who_may_not_see_presence() -> None:
    """Asking alone is not enough."""
    optional = replace(NAMESPACES.by_name["optional"], allow_presence_for_subscriber=False)
    talk = Talk(namespaces=replace(NAMESPACES, by_name={"optional": optional})).opened()
    assert not only(talk.say(Subscribe(2, Channel("optional:x"), join_leave=True)), Join).watch


@pytest.mark.parametrize(
    ("channel", "recent", "given"), [("chat:x", 100, 100), ("chat:x", 1000, 300), ("bare:x", 10, 0), ("open:x", 10, 0)]
)
def test_recent_publications(channel: str, recent: int, given: int) -> None:
    """Only for who may read history there, and not more than a page of it."""
    assert given == _ask(channel, recent=recent).recent


# --- the end of the join


def test_recovered() -> None:
    """The reply echoes the client's position, and publications follow from there."""
    talk = Talk().opened()
    join = only(talk.say(Subscribe(2, ROOM, since=SINCE)), Join)
    result = _result(talk.resolve(join, Joined(TOP, [publication(6), publication(7)], recovered=True)))
    assert (True, True, SINCE, TOP) == (result.was_recovering, result.recovered, result.since, result.position)
    assert [6, 7] == [it.offset for it in result.publications]


@pytest.mark.parametrize("channel", ["chat:lobby", "optional:x"])
def test_not_recovered(channel: str) -> None:
    """The client is told, also where recovery is not enabled; or refused, if it wants all or nothing."""
    talk = Talk().opened()
    join = only(talk.say(Subscribe(2, Channel(channel), since=SINCE)), Join)
    result = _result(talk.resolve(join, Joined(TOP, [], recovered=False)))
    assert (True, False, None) == (result.was_recovering, result.recovered, result.since)
    talk = Talk().opened()
    join = only(talk.say(Subscribe(2, Channel(channel), since=SINCE, reject_unrecovered=True)), Join)
    effects = talk.resolve(join, Joined(TOP, [], recovered=False))
    assert Leave(Channel(channel)) == effects[0]
    assert error(effects) == 112
    assert talk.session.subscriptions == {}


def test_all_or_nothing_recovered() -> None:
    """Asking for all or nothing changes nothing when there is all, or when nothing was to be recovered."""
    talk = Talk().opened()
    join = only(talk.say(Subscribe(2, ROOM, since=SINCE, reject_unrecovered=True)), Join)
    assert _result(talk.resolve(join, Joined(TOP, [], recovered=True))).recovered
    assert not _result(talk.subscribe("chat:other", reject_unrecovered=True)).was_recovering


def test_no_position_is_told_where_none_is_kept() -> None:
    """A client that is not positioned would misread one."""
    assert _result(Talk().opened().subscribe("optional:x")).position is None


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        (EngineFault("down"), 100),
        (EngineFault("readonly"), 100),
        (ErrorReply(108, "no"), 108),
        (EngineFault("timeout"), 100),
        (SHUTDOWN, SHUTDOWN),
    ],
)
def test_a_join_that_fails(outcome: Outcome, ended: int | Disconnect) -> None:
    """The client may try again, unless the shell says that only a new connection is clean."""
    talk = Talk().opened()
    effects = talk.resolve(only(talk.say(Subscribe(2, ROOM)), Join), outcome)
    if isinstance(ended, Disconnect):
        assert closing(effects) is ended
    else:
        assert error(effects) == ended
        assert isinstance(talk.say(Subscribe(3, ROOM))[0], Join)


def test_a_join_that_nobody_waits_for() -> None:
    """A second outcome of one join is left alone."""
    talk = Talk().opened()
    join = only(talk.say(Subscribe(2, ROOM)), Join)
    talk.resolve(join, NOTHING)
    assert talk.resolve(join, NOTHING) == []


# --- tokens


def _with_token(talk: Talk, asked: str = "closed:x", **claims: Any) -> list[Effect]:
    effects = talk.say(Subscribe(2, Channel(asked), token="t"))
    return talk.verify(effects, **{"channel": Channel(asked), **claims})


def test_a_subscription_token() -> None:
    """It opens what the namespace does not, brings infos and overrides, and its end is told and kept."""
    talk = Talk().opened()
    grant = Grant(info=b'"I"', data=b'"D"', override={"force_positioning": True, "presence": False})
    join = only(_with_token(talk, grant=grant, client=ME, expires_at=WALL + 60), Join)
    assert (True, False, b'"I"') == (join.positioned, join.presence, join.who.chan_info)
    result = _result(talk.resolve(join, Joined(TOP, [], recovered=False)))
    assert (b'"D"', 60, True) == (result.data, result.ttl, result.positioned)
    assert talk.session.subscriptions[Channel("closed:x")].expires_at == talk.now + 60
    assert talk.session.who.chan_info is None


def test_a_private_channel_by_token() -> None:
    """That is the way into it, and a token without a grant of its own is enough."""
    talk = Talk().opened()
    result = _result(talk.join_all(_with_token(talk, "$open:x")))
    assert (None, None) == (result.ttl, result.data)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (TokenError(3500, "bad signature"), 103),
        (TokenError(109, "token expired"), 109),
        (TokenError(100, "no keys"), 100),
        (EngineFault("down"), 100),
        (Verified(Identity(ALICE), WALL), 103),
        (Verified(Identity(ALICE, channel=ROOM, ticket=True), WALL), 103),
        (Verified(Identity(ALICE, channel=ROOM, expires_at=WALL), WALL), 109),
    ],
)
def test_a_token_that_does_not_do(outcome: Outcome, code: int) -> None:
    """The subscribe is refused, even where none was needed, and the channel is free for another try."""
    talk = Talk().opened()
    verify = only(talk.say(Subscribe(2, ROOM, token="t")), Verify)
    assert error(talk.resolve(verify, outcome)) == code
    assert talk.session.joining == {}
    assert talk.resolve(verify, outcome) == []


@pytest.mark.parametrize(
    "claims",
    [{"channel": ROOM}, {"user": UserId("bob")}, {"client": ConnectionId("another")}],
)
def test_somebody_elses_token(claims: dict[str, Any]) -> None:
    """Another channel, user or connection: the client tries something on."""
    assert closing(_with_token(Talk().opened(), **claims)) is INVALID_TOKEN


# --- the end of a subscription


def test_unsubscribe() -> None:
    """Leaves, then answers; succeeds when there is nothing to leave."""
    talk = Talk().subscribed(ROOM)
    done = Send(Reply(3, UnsubscribeResult(ROOM)))
    assert [Leave(ROOM), done] == talk.say(Unsubscribe(3, ROOM))
    assert [done] == talk.say(Unsubscribe(3, ROOM))


def test_unsubscribed_by_the_server() -> None:
    """The client is told after nothing more can come; who is not subscribed is told nothing."""
    talk = Talk().subscribed(ROOM)
    effects = talk.session.unsubscribe(ROOM, UNSUBSCRIBED_BY_SERVER)
    assert Leave(ROOM) == effects[0]
    assert [UnsubscribePush(ROOM, 2000, "server unsubscribe")] == pushed(effects)
    assert talk.session.unsubscribe(ROOM, UNSUBSCRIBED_BY_SERVER) == []


def test_unsubscribed_by_the_server_while_under_way() -> None:
    """The subscription stands for a moment and ends, also when its token was still being checked."""
    talk = Talk().opened()
    verify = talk.say(Subscribe(2, ROOM, token="t"))
    assert talk.session.unsubscribe(ROOM, UNSUBSCRIBED_BY_SERVER) == []
    effects = talk.join_all(talk.verify(verify, channel=ROOM, expires_at=WALL + 60))
    assert [Send, Live, Leave, Send] == [type(it) for it in effects]
    assert talk.session.subscriptions == {}


def test_after_the_end_nothing_is_unsubscribed() -> None:
    """The connection takes everything along."""
    talk = Talk().subscribed(ROOM)
    talk.session.close()
    assert talk.session.unsubscribe(ROOM, UNSUBSCRIBED_BY_SERVER) == []
