"""A chat conversation: entering, recovering, and the answers to what was asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.codecs.chat import codec
from gateway.contracts.codec import Dialect
from gateway.errors import ALREADY_SUBSCRIBED, INTERNAL, PERMISSION_DENIED, TOO_MANY_REQUESTS
from gateway.protocol.messages import (
    Command,
    Connect,
    ConnectResult,
    EchoResult,
    ExpiringPush,
    History,
    HistoryResult,
    MembersResult,
    MessageResult,
    PingResult,
    PresenceResult,
    PublicationPush,
    PublishResult,
    RefreshResult,
    Reply,
    Subscribe,
    SubscribeResult,
    UnsubscribePush,
    UnsubscribeResult,
)
from gateway.types import Channel, ClientInfo, ConnectionId, Position, Publication, UserId
from tests.support.codecs import decode, hello, shown

LOBBY = Channel("chat:lobby")
ME = ConnectionId("c1")
BOB = ClientInfo(UserId("bob"), ConnectionId("c2"))
WELCOME = {"type": "welcome", "user": "alice", "room": "lobby", "client": "c1", "node": "host_8000"}
GAP = {"type": "gap", "room": "lobby"}
LEFT = {"type": "left", "room": "lobby"}


def publication(offset: int) -> Publication:
    """Return one of Bob's messages."""
    return Publication(b'{"message":"m%d"}' % offset, offset, "abc", BOB, 0)


def message(offset: int) -> dict[str, Any]:
    """Return how it is shown."""
    return {
        "type": "chat_message",
        "room": "lobby",
        "sender": "bob",
        "content": f"m{offset}",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "id": f"{offset}@abc",
    }


def history(*offsets: int, **members: Any) -> dict[str, Any]:
    """Return a `history` of such messages."""
    return {"type": "history", "room": "lobby", "messages": [message(offset) for offset in offsets]} | members


def subscribed(*offsets: int, recovered: bool = False, was_recovering: bool = False) -> SubscribeResult:
    """Return what a subscription brings."""
    return SubscribeResult(
        LOBBY,
        Position(9, "abc"),
        recovered=recovered,
        was_recovering=was_recovering,
        publications=[publication(offset) for offset in offsets],
    )


def connected(*subs: SubscribeResult) -> ConnectResult:
    """Return what a connect brings."""
    return ConnectResult(ME, UserId("alice"), "1", node="host_8000", subs=subs)


def entered() -> tuple[Dialect, Subscribe]:
    """Return a conversation whose connect was answered, and the subscription it enters with."""
    dialect = codec.dialect(hello(token="jwt"))
    connect, subscribe = dialect.open()
    assert isinstance(connect, Connect)
    assert isinstance(subscribe, Subscribe)
    dialect.encode(Reply(connect.ref, connected()))
    return dialect, subscribe


def opening(since: str | None = None) -> tuple[Connect, Subscribe]:
    """Return what the handshake asks."""
    connect, subscribe = codec.dialect(hello(token="jwt", since=since)).open()
    assert isinstance(connect, Connect)
    assert isinstance(subscribe, Subscribe)
    return connect, subscribe


def shown_payloads(payloads: Sequence[bytes]) -> list[Any]:
    """Parse payloads."""
    return [json.loads(payload) for payload in payloads]


class TestEntering:
    """From the handshake to the first live message."""

    def test_enters_the_lobby(self) -> None:
        """Without a room in the path it is the lobby, with the newest history in the same step."""
        connect, subscribe = opening()
        assert connect.personal
        assert (LOBBY, 100, None) == (subscribe.channel, subscribe.recent, subscribe.since)
        assert subscribe.recoverable
        assert subscribe.join_leave
        assert connect.subs == {}

    @pytest.mark.parametrize(
        ("since", "expected"),
        [("7@abc", Position(7, "abc")), ("nonsense", Position(0, "_")), ("", None)],
    )
    def test_since(self, since: str, expected: Position | None) -> None:
        """The last id seen recovers; one that is none asks for what cannot be had, so that the gap is told."""
        connect, subscribe = opening(since=since)
        assert expected == subscribe.since
        assert expected == connect.subs.get(LOBBY)

    def test_connect_shows_nothing(self) -> None:
        """The welcome waits until the client is in the room."""
        dialect = codec.dialect(hello(token="jwt"))
        ref = dialect.open()[0].ref
        assert shown(dialect, Reply(ref, connected(SubscribeResult(Channel("#alice"))))) == []

    @pytest.mark.parametrize(
        ("result", "expected"),
        [
            (subscribed(), [WELCOME]),
            (subscribed(8, 9), [WELCOME, history(8, 9)]),
            (subscribed(8, 9, recovered=True, was_recovering=True), [WELCOME, history(8, 9, recovered=True)]),
            (subscribed(recovered=True, was_recovering=True), [WELCOME]),
            (subscribed(8, 9, was_recovering=True), [WELCOME, GAP, history(8, 9)]),
            (subscribed(was_recovering=True), [WELCOME, GAP]),
        ],
    )
    def test_welcome(self, result: SubscribeResult, expected: list[Any]) -> None:
        """Welcome, then a gap if something is lost for good, then history if there is any."""
        dialect, subscribe = entered()
        assert expected == shown(dialect, Reply(subscribe.ref, result))

    def test_no_position(self) -> None:
        """A room without history welcomes too; ids fall back to the epoch of the stream."""
        dialect, subscribe = entered()
        result = SubscribeResult(LOBBY, publications=[Publication(b'{"message":"m"}', 5)])
        assert shown(dialect, Reply(subscribe.ref, result))[1]["messages"][0]["id"] == "5@"

    def test_epoch_of_the_stream(self) -> None:
        """Publications that name no epoch get the one of the stream they were read from."""
        dialect, subscribe = entered()
        result = SubscribeResult(LOBBY, Position(5, "xyz"), publications=[Publication(b'{"message":"m"}', 5)])
        assert shown(dialect, Reply(subscribe.ref, result))[1]["messages"][0]["id"] == "5@xyz"

    def test_refused(self) -> None:
        """A room one may not enter is an error that names `join`."""
        dialect, subscribe = entered()
        expected = [{"type": "error", "code": 103, "message": "permission denied", "request": "join"}]
        assert expected == shown(dialect, Reply(subscribe.ref, PERMISSION_DENIED))

    def test_further_room(self) -> None:
        """`join` welcomes to that room, and a second refusal is not kept from the client."""
        dialect, _ = entered()
        (join,) = decode(dialect, {"type": "join", "room": "dev"})
        (welcome,) = shown(dialect, Reply(join.ref, SubscribeResult(Channel("chat:dev"))))
        assert WELCOME | {"room": "dev"} == welcome
        (join,) = decode(dialect, {"type": "join", "room": "dev"})
        (error,) = shown(dialect, Reply(join.ref, ALREADY_SUBSCRIBED))
        assert (105, "join") == (error["code"], error["request"])


class TestSubscribedByToken:
    """A token that names the room subscribes before the dialect can."""

    def test_shows_the_room(self) -> None:
        """The room is entered all the same: welcome, history by a read of its own, and no error."""
        dialect = codec.dialect(hello(token="jwt"))
        connect, subscribe = dialect.open()
        encoded = dialect.encode(Reply(connect.ref, connected(subscribed())))
        assert [WELCOME] == shown_payloads(encoded.payloads)
        (read,) = encoded.commands
        assert History(read.ref, LOBBY, 100, reverse=True, ours=True) == read
        assert shown(dialect, Reply(subscribe.ref, ALREADY_SUBSCRIBED)) == []
        result = HistoryResult(LOBBY, [publication(9), publication(8)], Position(9, "abc"))
        assert [history(8, 9)] == shown(dialect, Reply(read.ref, result))

    def test_empty_history_is_not_shown(self) -> None:
        """Entering an empty room shows no history."""
        dialect = codec.dialect(hello(token="jwt"))
        encoded = dialect.encode(Reply(dialect.open()[0].ref, connected(subscribed())))
        result = HistoryResult(LOBBY, [], Position(0, "abc"))
        assert shown(dialect, Reply(encoded.commands[0].ref, result)) == []

    def test_recovered(self) -> None:
        """What was missed comes with the connect and is not read again."""
        dialect = codec.dialect(hello(token="jwt", since="7@abc"))
        ref = dialect.open()[0].ref
        encoded = dialect.encode(Reply(ref, connected(subscribed(8, 9, recovered=True, was_recovering=True))))
        assert [WELCOME, history(8, 9, recovered=True)] == shown_payloads(encoded.payloads)
        assert list(encoded.commands) == []


class TestFallingBehind:
    """The dialect's own recovery."""

    def recovering(self, position: Position | None) -> tuple[Dialect, Command]:
        """Return a conversation that recovers the lobby, and how."""
        dialect, subscribe = entered()
        dialect.encode(Reply(subscribe.ref, subscribed()))
        encoded = dialect.encode(UnsubscribePush(LOBBY, 2500, "insufficient state", position))
        assert encoded.payloads == ()
        (again,) = encoded.commands
        assert isinstance(again, Subscribe)
        assert (LOBBY, position, 100, True) == (again.channel, again.since, again.recent, again.recoverable)
        assert again.ours
        return dialect, again

    @pytest.mark.parametrize(
        ("result", "expected"),
        [
            (subscribed(8, 9, recovered=True, was_recovering=True), [history(8, 9, recovered=True)]),
            (subscribed(recovered=True, was_recovering=True), []),
            (subscribed(8, 9, was_recovering=True), [GAP, history(8, 9)]),
            (subscribed(was_recovering=True), [GAP]),
        ],
    )
    def test_recovers(self, result: SubscribeResult, expected: list[Any]) -> None:
        """No second welcome: what was missed, or the gap and the newest."""
        dialect, again = self.recovering(Position(7, "abc"))
        assert expected == shown(dialect, Reply(again.ref, result))

    def test_without_position(self) -> None:
        """Where there is nothing to recover from, the gap is told."""
        dialect, again = self.recovering(None)
        assert [GAP, history(9)] == shown(dialect, Reply(again.ref, subscribed(9)))

    def test_refused(self) -> None:
        """A client that cannot be subscribed again is told that it is in the room no more."""
        dialect, again = self.recovering(Position(7, "abc"))
        error, left = shown(dialect, Reply(again.ref, INTERNAL))
        assert ("error", 100, "join") == (error["type"], error["code"], error["request"])
        assert LEFT == left

    def test_unsubscribed_for_good(self) -> None:
        """Codes below 2500 end it."""
        dialect, _ = entered()
        encoded = dialect.encode(UnsubscribePush(LOBBY, 2000, "server unsubscribe"))
        assert [LEFT] == shown_payloads(encoded.payloads)
        assert encoded.commands == ()

    def test_other_channels(self) -> None:
        """Channels that are no rooms are neither shown nor recovered."""
        dialect, _ = entered()
        encoded = dialect.encode(UnsubscribePush(Channel("news"), 2500, "insufficient state"))
        assert ((), ()) == (encoded.payloads, encoded.commands)


@pytest.mark.parametrize(
    ("asked", "result", "expected"),
    [
        ("hi", PublishResult(), []),
        ("hi", TOO_MANY_REQUESTS, [{"type": "error", "code": 111, "message": "too many requests", "request": "chat"}]),
        (
            "/pm bob hi",
            MessageResult(UserId("bob"), delivered=True),
            [{"type": "private_chat_sent", "target": "bob", "delivered": True}],
        ),
        (
            {"type": "private_chat", "target_user": "bob", "message": "hi"},
            MessageResult(UserId("bob"), delivered=False),
            [{"type": "private_chat_sent", "target": "bob", "delivered": False}],
        ),
        (
            {"type": "private_chat", "target_user": "bob", "message": "hi"},
            PERMISSION_DENIED,
            [{"type": "error", "code": 103, "message": "permission denied", "request": "private_chat"}],
        ),
        (
            "/users",
            MembersResult(LOBBY, [UserId("alice"), UserId("bob")]),
            [{"type": "users", "room": "lobby", "users": ["alice", "bob"]}],
        ),
        ("/history", HistoryResult(LOBBY, [publication(9), publication(8)], Position(9, "abc")), [history(8, 9)]),
        ("/history", HistoryResult(LOBBY, [], Position(0, "abc")), [history()]),
        ({"type": "leave", "room": "lobby"}, UnsubscribeResult(LOBBY), [LEFT]),
        ({"type": "auth", "token": "t"}, RefreshResult(ME, "1", 600), [{"type": "refreshed", "expires_in": 600}]),
        ({"type": "auth", "token": "t"}, RefreshResult(ME, "1", None), [{"type": "refreshed", "expires_in": None}]),
        ({"type": "ping"}, PingResult(), [{"type": "pong"}]),
        ("/help", EchoResult(b'{"type":"help"}', text=True), [{"type": "help"}]),
        ("/users", PresenceResult(LOBBY, {}), []),
    ],
)
def test_answer(asked: Any, result: Any, expected: list[Any]) -> None:
    """Each question and its answers; errors repeat what was asked; a publication is its own confirmation."""
    dialect, _ = entered()
    (command,) = decode(dialect, asked)
    assert expected == shown(dialect, Reply(command.ref, result))


def test_unknown_ref() -> None:
    """An error that belongs to nothing is shown without a request."""
    dialect, _ = entered()
    assert shown(dialect, Reply(999, INTERNAL))[0]["request"] is None


def test_nothing_is_kept_of_what_was_answered() -> None:
    """A long conversation leaves no trace of its questions."""
    dialect, subscribe = entered()
    dialect.encode(Reply(subscribe.ref, subscribed()))
    for _ in range(10):
        (command,) = decode(dialect, "hi")
        dialect.encode(Reply(command.ref, PublishResult()))
    assert dialect._asked == {}  # type: ignore[attr-defined]  # of the plain dialects


def test_pushes_as_for_everybody() -> None:
    """A push that needs no bytes of its own is the shared one."""
    dialect, _ = entered()
    push = PublicationPush(LOBBY, publication(3))
    assert [codec.push(push)] == list(dialect.encode(push).payloads)
    assert [{"type": "expiring", "in": 60}] == shown(dialect, ExpiringPush(60))
