"""Notifications: receive only."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.codecs.notifications import codec
from gateway.contracts.codec import Dialect
from gateway.disconnects import INVALID_UTF8
from gateway.errors import ALREADY_SUBSCRIBED, INTERNAL, DecodeError, ErrorReply
from gateway.protocol.messages import (
    Command,
    Connect,
    ConnectResult,
    ExpiringPush,
    JoinPush,
    PingPush,
    PingResult,
    PublicationPush,
    PublishResult,
    Push,
    Refresh,
    RefreshResult,
    Reply,
    Subscribe,
    SubscribeResult,
    UnsubscribePush,
)
from gateway.protocol.messages import Ping as PingCommand
from gateway.types import Channel, ClientInfo, ConnectionId, Position, Publication, UserId
from tests.support.changed import changed
from tests.support.codecs import decode, hello, opened, shown

ALL = Channel("notifications:all")
MINE = Channel("#alice")
ME = ConnectionId("c1")
GAP = {"type": "gap", "channel": ALL}
LEFT = {"type": "left", "channel": ALL}


def notification(offset: int) -> dict[str, Any]:
    """Return how the publication of that offset is shown."""
    return {"type": "notification", "channel": ALL, "data": offset, "id": f"{offset}@abc"}


def subscribed(*offsets: int, recovered: bool = False, was_recovering: bool = False) -> SubscribeResult:
    """Return what a subscription brings."""
    return SubscribeResult(
        ALL,
        Position(9, "abc"),
        recovered=recovered,
        was_recovering=was_recovering,
        publications=[Publication(b"%d" % offset, offset) for offset in offsets],
    )


def opening(since: str | None = None) -> tuple[Dialect, Connect, Subscribe]:
    """Return a conversation and what its handshake asks."""
    dialect = codec.dialect(hello(token="jwt", room="ignored", since=since))
    connect, subscribe = dialect.open()
    assert isinstance(connect, Connect)
    assert isinstance(subscribe, Subscribe)
    return dialect, connect, subscribe


@pytest.mark.parametrize(
    ("since", "position", "recent"),
    [(None, None, 0), ("7@abc", Position(7, "abc"), 100), ("nonsense", Position(0, "_"), 100)],
)
def test_opening(since: str | None, position: Position | None, recent: int) -> None:
    """Everybody listens to the channel for all, from the last id seen if there is one; rooms are ignored."""
    _, connect, subscribe = opening(since)
    assert connect.personal
    assert ({} if position is None else {ALL: position}) == connect.subs
    assert (ALL, position, recent) == (subscribe.channel, subscribe.since, subscribe.recent)
    assert subscribe.recoverable
    assert not subscribe.join_leave


@pytest.mark.parametrize(
    ("push", "expected"),
    [
        (PublicationPush(ALL, Publication(b"7", 7, "abc")), notification(7)),
        (
            PublicationPush(MINE, Publication(b'{\n"a":1}')),
            {"type": "notification", "channel": MINE, "data": {"a": 1}, "id": None},
        ),
        (ExpiringPush(60), {"type": "expiring", "in": 60}),
        (UnsubscribePush(ALL, 2000, "server unsubscribe"), LEFT),
    ],
)
def test_push(push: Push, expected: dict[str, Any]) -> None:
    """Each publication is a notification, with an id where there is history."""
    payload = codec.push(push)
    assert payload is not None
    assert expected == json.loads(payload)


@pytest.mark.parametrize(
    "push",
    [
        PingPush(),
        UnsubscribePush(MINE, 2000, "server unsubscribe"),
        JoinPush(ALL, ClientInfo(UserId("bob"), ConnectionId("c2")), first=True),
    ],
)
def test_not_shown(push: Push) -> None:
    """Nobody's comings and goings, no heartbeats."""
    assert codec.push(push) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [({"type": "auth", "token": "jwt"}, Refresh(0, "jwt")), ({"type": "ping"}, PingCommand(0))],
)
@pytest.mark.parametrize("text", [True, False])
def test_command(message: dict[str, Any], expected: Command, *, text: bool) -> None:
    """A client may refresh its token and ask whether we are there."""
    (command,) = opened(codec).decode(json.dumps(message).encode(), text=text)
    assert expected == changed(command, ref=0)


@pytest.mark.parametrize(
    ("message", "code", "request_type"),
    [
        ({"type": "chat", "message": "hi"}, 108, "chat"),
        ({}, 108, None),
        ("hello", 108, None),
        ("", 108, None),
        (b'{"x":' + b"[" * 10_000, 108, None),
        ({"type": "auth"}, 107, "auth"),
        ({"type": "auth", "token": 5}, 107, "auth"),
    ],
)
def test_refused_frame(message: Any, code: int, request_type: str | None) -> None:
    """Any other frame is error 108; an `auth` that is none is 107."""
    dialect = opened(codec)
    with pytest.raises(DecodeError) as caught:
        decode(dialect, message)
    assert isinstance(caught.value.refusal, ErrorReply)
    (error,) = shown(dialect, Reply(caught.value.ref, caught.value.refusal))
    assert ("error", code, request_type) == (error["type"], error["code"], error["request"])


def test_invalid_utf8() -> None:
    """Bytes that are not UTF-8 are 1007."""
    with pytest.raises(DecodeError) as caught:
        opened(codec).decode(b'{"type":"\xff"}', text=False)
    assert caught.value.refusal is INVALID_UTF8


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (subscribed(), []),
        (subscribed(8, 9, recovered=True, was_recovering=True), [notification(8), notification(9)]),
        (subscribed(9, was_recovering=True), [GAP, notification(9)]),
        (INTERNAL, [{"type": "error", "code": 100, "message": "internal server error", "request": "auth"}]),
        (ALREADY_SUBSCRIBED, []),
    ],
)
def test_entering(result: SubscribeResult | ErrorReply, expected: list[Any]) -> None:
    """No welcome: what was missed comes one by one, or the gap is told; subscribed by token already is no error."""
    dialect, _, subscribe = opening("7@abc")
    assert expected == shown(dialect, Reply(subscribe.ref, result))


def test_without_position() -> None:
    """A publication without epoch on a channel without position is shown all the same."""
    dialect, _, subscribe = opening()
    (shown_one,) = shown(dialect, Reply(subscribe.ref, SubscribeResult(ALL, publications=[Publication(b"1", 5)])))
    assert shown_one["id"] == "5@"


def test_subscribed_by_token() -> None:
    """Channels that the token names are shown as they recover; the personal one is silent."""
    dialect, connect, _ = opening("7@abc")
    subs = [SubscribeResult(MINE), subscribed(8, recovered=True, was_recovering=True)]
    assert [notification(8)] == shown(dialect, Reply(connect.ref, ConnectResult(ME, UserId("alice"), "1", subs=subs)))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (subscribed(8, recovered=True, was_recovering=True), [notification(8)]),
        (subscribed(9, was_recovering=True), [GAP, notification(9)]),
        (
            INTERNAL,
            [{"type": "error", "code": 100, "message": "internal server error", "request": "auth"}, LEFT],
        ),
    ],
)
def test_falling_behind(result: SubscribeResult | ErrorReply, expected: list[Any]) -> None:
    """The dialect subscribes again by itself, from where the client stood."""
    dialect, _, _ = opening()
    encoded = dialect.encode(UnsubscribePush(ALL, 2500, "insufficient state", Position(7, "abc")))
    (again,) = encoded.commands
    assert isinstance(again, Subscribe)
    assert (ALL, Position(7, "abc"), 100) == (again.channel, again.since, again.recent)
    assert expected == shown(dialect, Reply(again.ref, result))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (PingResult(), [{"type": "pong"}]),
        (RefreshResult(ME, "1", 60), [{"type": "refreshed", "expires_in": 60}]),
        (PublishResult(), []),
    ],
)
def test_answer(result: Any, expected: list[Any]) -> None:
    """Answers as in chat; results that nobody here can ask for are not shown."""
    assert expected == shown(opened(codec), Reply(5, result))


def test_pushes_as_for_everybody() -> None:
    """A push that needs no bytes of its own is the shared one."""
    push = PublicationPush(ALL, Publication(b"7", 7, "abc"))
    assert [notification(7)] == shown(opened(codec), push)
