"""What a chat client is sent for pushes, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.codecs.chat import codec
from gateway.protocol.messages import (
    ExpiringPush,
    JoinPush,
    LeavePush,
    PingPush,
    PublicationPush,
    Push,
    UnsubscribePush,
)
from gateway.types import Channel, ClientInfo, ConnectionId, Publication, UserId

LOBBY = Channel("chat:lobby")
ALICE = ClientInfo(UserId("alice"), ConnectionId("c1"), b'{"role":"admin"}')
TIME_MS = 1795341600123
TIME = "2026-11-22T10:00:00.123Z"


def published(data: bytes, info: ClientInfo | None = ALICE, *, channel: str = LOBBY, offset: int = 7) -> Push:
    """Return one of Alice's publications."""
    return PublicationPush(Channel(channel), Publication(data, offset, "abc", info, TIME_MS))


def chat_message(**members: Any) -> dict[str, Any]:
    """Return how it is shown, but for these members."""
    base = {"type": "chat_message", "room": "lobby", "sender": "alice", "timestamp": TIME, "id": "7@abc"}
    return base | members


@pytest.mark.parametrize(
    ("push", "expected"),
    [
        (published(b'{"message":"hi"}'), chat_message(content="hi")),
        (published(b'{"message":"\\u00fc \\n \\ud83d\\ude00"}'), chat_message(content="ü \n 😀")),
        (published(b'{"message":"hi"}', None), chat_message(content="hi", sender=None)),
        (published(b'{"message":"hi","sender":"eve"}'), chat_message(content="hi")),
        (published(b'{"message":"hi"}', offset=0), chat_message(content="hi", id=None)),
        (published(b'{"message":5}'), chat_message(data={"message": 5})),
        (published(b'{\n"text":\r\n"hi"}'), chat_message(data={"text": "hi"})),
        (published(b'"hi"'), chat_message(data="hi")),
        (published(b"[1,2]"), chat_message(data=[1, 2])),
        (published(b"null"), chat_message(data=None)),
        (published(b'{"message":"x"}', channel="chat:dev"), chat_message(content="x", room="dev")),
        (
            published(b'{"message":"psst"}', channel="#bob", offset=0),
            {
                "type": "private_chat_message",
                "sender": "alice",
                "target": "bob",
                "content": "psst",
                "timestamp": TIME,
            },
        ),
        (
            published(b'{"badge":3}', None, channel="#bob", offset=0),
            {"type": "private_chat_message", "sender": None, "target": "bob", "data": {"badge": 3}, "timestamp": TIME},
        ),
        (
            JoinPush(LOBBY, ALICE, first=True, time_ms=TIME_MS),
            {
                "type": "system",
                "event": "joined",
                "user": "alice",
                "room": "lobby",
                "content": "User 'alice' has joined the chat.",
                "timestamp": TIME,
            },
        ),
        (
            LeavePush(LOBBY, ALICE, last=True, time_ms=TIME_MS),
            {
                "type": "system",
                "event": "left",
                "user": "alice",
                "room": "lobby",
                "content": "User 'alice' has left the chat.",
                "timestamp": TIME,
            },
        ),
        (ExpiringPush(60), {"type": "expiring", "in": 60}),
        (UnsubscribePush(LOBBY, 2000, "server unsubscribe"), {"type": "left", "room": "lobby"}),
    ],
)
def test_push(push: Push, expected: dict[str, Any]) -> None:
    """Each row of the table of server messages, as everybody in the room gets it."""
    payload = codec.push(push)
    assert payload is not None
    assert expected == json.loads(payload)
    assert payload.startswith(b'{"type":')


@pytest.mark.parametrize(
    "push",
    [
        JoinPush(LOBBY, ALICE, first=False),
        LeavePush(LOBBY, ALICE, last=False),
        JoinPush(Channel("news"), ALICE, first=True),
        LeavePush(Channel("news"), ALICE, last=True),
        published(b"1", channel="news"),
        published(b"1", channel="notifications:all"),
        UnsubscribePush(Channel("#alice"), 2000, "server unsubscribe"),
        PingPush(),
    ],
)
def test_not_shown(push: Push) -> None:
    """More tabs of the same user, channels that are no rooms, and heartbeats are not shown."""
    assert codec.push(push) is None


def test_data_nested_too_deeply_to_look_into() -> None:
    """Data that no parser here looks into is handed on as it stands."""
    data = b'{"message":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    payload = codec.push(published(data))
    assert payload is not None
    assert b'"data":' + data in payload


def test_data_that_is_not_utf8() -> None:
    """Broken data of another writer is handed on and hurts nobody here."""
    payload = codec.push(published(b'{"\xff":1}'))
    assert payload is not None
    assert b'"data":{"\xff":1}' in payload
