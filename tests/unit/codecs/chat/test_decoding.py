"""What a chat client sends, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.codecs.chat import codec
from gateway.codecs.chat.decoding import MESSAGE_LIMIT
from gateway.contracts.codec import Dialect
from gateway.disconnects import INVALID_UTF8
from gateway.errors import BAD_REQUEST, DecodeError, ErrorReply
from gateway.protocol.messages import (
    Command,
    Echo,
    History,
    Members,
    Message,
    Nothing,
    Ping,
    Publish,
    Refresh,
    Reply,
    Subscribe,
    Unsubscribe,
)
from gateway.types import Channel, Position, UserId
from tests.support.changed import changed
from tests.support.codecs import decode, hello, opened, shown

LOBBY = Channel("chat:lobby")
DEV = Channel("chat:dev")


def said(text: str) -> bytes:
    """Return the data of a chat message."""
    return b'{"message":%b}' % json.dumps(text, ensure_ascii=False).encode()


def entering(channel: Channel, since: Position | None = None) -> Subscribe:
    """Return the subscription of one who enters a room."""
    return Subscribe(0, channel, since=since, recent=100, positioned=True, recoverable=True, join_leave=True)


def only(dialect: Dialect, message: Any) -> Command:
    """Return the one command of a message, without its ref."""
    (command,) = decode(dialect, message)
    assert command.ref > 0
    return changed(command, ref=0)


def refused(dialect: Dialect, message: Any) -> dict[str, Any]:
    """Return the `error` message that a bad message is answered with."""
    with pytest.raises(DecodeError) as caught:
        decode(dialect, message)
    assert isinstance(caught.value.refusal, ErrorReply)
    (error,) = shown(dialect, Reply(caught.value.ref, caught.value.refusal))
    assert isinstance(error, dict)
    return error


@pytest.fixture(name="dialect")
def _dialect() -> Dialect:
    return opened(codec)


@pytest.mark.parametrize(
    ("message", "command"),
    [
        # plain text
        ("hello", Publish(0, LOBBY, said("hello"))),
        (" {not json", Publish(0, LOBBY, said(" {not json"))),
        ('"quoted"', Publish(0, LOBBY, said('"quoted"'))),
        ("grüß\ndich", Publish(0, LOBBY, said("grüß\ndich"))),
        ("x" * MESSAGE_LIMIT, Publish(0, LOBBY, said("x" * MESSAGE_LIMIT))),
        # slashes
        ("/pm bob hi there", Message(0, UserId("bob"), said("hi there"))),
        ("/pm  bob  hi", Message(0, UserId("bob"), said("hi"))),
        ("/users", Members(0, LOBBY)),
        ("/users now", Members(0, LOBBY)),
        ("/history", History(0, LOBBY, 100, reverse=True)),
        # objects
        ({"type": "auth", "token": "jwt"}, Refresh(0, "jwt")),
        ({"type": "chat", "message": "hi"}, Publish(0, LOBBY, said("hi"))),
        ({"type": "chat", "message": "hi", "room": "dev"}, Publish(0, DEV, said("hi"))),
        ({"type": "chat", "message": "/users"}, Publish(0, LOBBY, said("/users"))),
        ({"type": "chat", "message": "hi", "sender": "eve"}, Publish(0, LOBBY, said("hi"), forged=True)),
        ({"type": "chat", "message": "hi", "sender": None, "id": "7@abc"}, Publish(0, LOBBY, said("hi"))),
        ({"message": "hi", "type": "chat"}, Publish(0, LOBBY, said("hi"))),
        (b'{"type":"chat","message":"cut \\ud83d"}', Publish(0, LOBBY, said("cut \ufffd"))),
        ({"type": "private_chat", "target_user": "bob", "message": "hi"}, Message(0, UserId("bob"), said("hi"))),
        ({"type": "history", "limit": 5}, History(0, LOBBY, 5, reverse=True)),
        ({"type": "history", "limit": 0}, History(0, LOBBY, 0, reverse=True)),
        ({"type": "history", "limit": 5000}, History(0, LOBBY, 100, reverse=True)),
        ({"type": "history", "limit": 2**70}, History(0, LOBBY, 100, reverse=True)),
        ({"type": "history"}, History(0, LOBBY, 100, reverse=True)),
        ({"type": "history", "limit": 1, "room": "dev"}, History(0, DEV, 1, reverse=True)),
        ({"type": "users"}, Members(0, LOBBY)),
        ({"type": "users", "room": "dev"}, Members(0, DEV)),
        ({"type": "join", "room": "dev"}, entering(DEV)),
        ({"type": "join", "room": "a.B_9-"}, entering(Channel("chat:a.B_9-"))),
        ({"type": "join", "room": "dev", "since": "7@abc"}, entering(DEV, Position(7, "abc"))),
        ({"type": "join", "room": "dev", "since": ""}, entering(DEV)),
        ({"type": "leave", "room": "dev"}, Unsubscribe(0, DEV)),
        ({"type": "ping"}, Ping(0)),
    ],
)
def test_message_becomes_command(dialect: Dialect, message: Any, command: Command) -> None:
    """Each row of the table of client messages is one command."""
    assert command == only(dialect, message)


@pytest.mark.parametrize("name", ["sender", "user", "client", "info", "offset", "epoch", "tags"])
def test_what_only_the_server_sets_is_a_forgery(dialect: Dialect, name: str) -> None:
    """A message that names it is marked, to a room or to one user; null names nothing."""
    room, one = {"type": "chat", "message": "hi"}, {"type": "private_chat", "target_user": "bob", "message": "hi"}
    values: list[Any] = [{"user": "eve"}, "eve", 7, 0, "", False, [], {}]
    for value in values:
        assert Publish(0, LOBBY, said("hi"), forged=True) == only(dialect, {**room, name: value})
        assert Message(0, UserId("bob"), said("hi"), forged=True) == only(dialect, {**one, name: value})
    assert Publish(0, LOBBY, said("hi")) == only(dialect, {**room, name: None})


@pytest.mark.parametrize(
    "message", ["", "   ", "\n\t", {"type": "chat", "message": ""}, {"type": "chat", "message": " "}]
)
def test_blank_is_ignored(dialect: Dialect, message: Any) -> None:
    """A blank chat message is not said and is no error; it counts all the same."""
    assert [Nothing()] == list(decode(dialect, message))


@pytest.mark.parametrize(
    ("message", "request_type", "why"),
    [
        ("{", None, "broken JSON"),
        ('{"type":"chat"', None, "broken JSON"),
        ('{"type":"chat","message":NaN}', None, "broken JSON"),
        ('{"type":"chat","message":"x"}{}', None, "broken JSON"),
        (b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", None, "broken JSON"),
        ({}, None, 'missing "type"'),
        ({"type": 5}, None, 'missing "type"'),
        ({"type": "sing"}, "sing", 'unknown type "sing"'),
        ({"type": "x" * 500}, "x" * 64, f'unknown type "{"x" * 64}"'),
        ({"type": "chat"}, "chat", "`message`"),
        ({"type": "chat", "message": 5}, "chat", "Expected `str`"),
        ({"type": "chat", "message": "x" * (MESSAGE_LIMIT + 1)}, "chat", "16384"),
        ("ü" * (MESSAGE_LIMIT // 2 + 1), "chat", "16384"),
        ({"type": "chat", "message": "x", "room": "no spaces"}, "chat", "regex"),
        ({"type": "auth"}, "auth", "`token`"),
        ({"type": "private_chat", "message": "x"}, "private_chat", "`target_user`"),
        ({"type": "private_chat", "target_user": "", "message": "x"}, "private_chat", "length"),
        ({"type": "private_chat", "target_user": "bob", "message": " "}, "private_chat", "blank"),
        ({"type": "private_chat", "target_user": "bob", "message": ""}, "private_chat", "blank"),
        ({"type": "private_chat", "target_user": "b", "message": "x" * 20_000}, "private_chat", "16384"),
        ({"type": "history", "limit": -1}, "history", ">= 0"),
        ({"type": "history", "limit": "5"}, "history", "Expected `int`"),
        ({"type": "users", "room": "x" * 65}, "users", "regex"),
        ({"type": "join"}, "join", "`room`"),
        ({"type": "join", "room": ""}, "join", "regex"),
        ({"type": "join", "room": "dev\n"}, "join", "regex"),
        ({"type": "join", "room": "a:b"}, "join", "regex"),
        ({"type": "join", "room": "dev", "since": "7"}, "join", "since"),
        ({"type": "leave"}, "leave", "`room`"),
        ({"type": "leave", "room": "#bob"}, "leave", "regex"),
        ("/pm", "private_chat", "/pm <user> <text>"),
        ("/pm bob", "private_chat", "/pm <user> <text>"),
        ("/sing", "chat", "/help"),
        ("/", "chat", "/help"),
    ],
)
def test_bad_message_is_an_error(dialect: Dialect, message: Any, request_type: str | None, why: str) -> None:
    """What cannot be understood is error 107, which repeats the type and says what is wrong; the connection stays."""
    error = refused(dialect, message)
    assert ("error", BAD_REQUEST.code, request_type) == (error["type"], error["code"], error["request"])
    assert why in error["message"]
    assert len(error["message"]) <= 300


def test_binary_frame_holds_json(dialect: Dialect) -> None:
    """A binary frame may hold an object, and never plain text."""
    (command,) = dialect.decode(b'{"type":"chat","message":"hi"}', text=False)
    assert isinstance(command, Publish)
    with pytest.raises(DecodeError) as caught:
        dialect.decode(b"hi", text=False)
    assert caught.value.refusal == BAD_REQUEST.saying("broken JSON")


@pytest.mark.parametrize("text", [True, False])
def test_invalid_utf8_ends_the_connection(dialect: Dialect, *, text: bool) -> None:
    """Bytes that are not UTF-8 are 1007."""
    with pytest.raises(DecodeError) as caught:
        dialect.decode(b'{"type":"chat","message":"\xff"}', text=text)
    assert caught.value.refusal is INVALID_UTF8


def test_help(dialect: Dialect) -> None:
    """`/help` is answered with a text that names every command."""
    (command,) = decode(dialect, "/help")
    assert isinstance(command, Echo)
    content = json.loads(command.payload)
    assert content["type"] == "help"
    assert all(word in content["content"] for word in ("/pm <user> <text>", "/users", "/history", "/help"))


def test_the_path_names_the_room() -> None:
    """What names no room goes to the one of the path."""
    dialect = opened(codec, hello(room="dev", token="t"))
    assert Publish(0, DEV, said("hi")) == only(dialect, "hi")
    assert Members(0, DEV) == only(dialect, {"type": "users"})


def test_refs_differ(dialect: Dialect) -> None:
    """No two commands of a connection have the same ref."""
    refs = [command.ref for text in ("a", "b", "/users") for command in decode(dialect, text)]
    assert len(set(refs)) == 3
