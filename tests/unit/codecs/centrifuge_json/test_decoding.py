"""What an SDK sends: sections 1.2, 2, 3 and 4 of the protocol page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.codecs.centrifuge_json import codec
from gateway.disconnects import BAD_REQUEST, INAPPROPRIATE_PROTOCOL, INVALID_UTF8, Disconnect
from gateway.errors import NOT_AVAILABLE, DecodeError
from gateway.protocol.messages import (
    Command,
    Connect,
    History,
    Pong,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Rpc,
    Send,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from gateway.types import Channel, Position
from tests.support.codecs import decode, hello

X = Channel("x")
DIALECT = codec.dialect(hello())


def fault(payload: Any, *, text: bool = True) -> DecodeError:
    """Return what a bad frame raises."""
    with pytest.raises(DecodeError) as caught:
        DIALECT.decode(payload, text=text) if isinstance(payload, bytes) else decode(DIALECT, payload)
    return caught.value


def test_handshake_asks_nothing() -> None:
    """The first command is the client's own connect."""
    assert DIALECT.open() == ()


@pytest.mark.parametrize(
    ("message", "command"),
    [
        # section 3.1, connect
        ({"id": 1, "connect": {}}, Connect(1)),
        ({"id": 1, "connect": {"token": ""}}, Connect(1)),
        (
            {"id": 1, "connect": {"token": "t", "data": {"a": 1}, "name": "js", "version": "5"}},
            Connect(1, "t", data=b'{"a": 1}', name="js", version="5"),
        ),
        (
            {
                "id": 1,
                "connect": {
                    "subs": {
                        "a": {"recover": True, "offset": 7, "epoch": "e"},
                        "b": {"recover": True},
                        "c": {"offset": 7},
                        "d": {},
                    }
                },
            },
            Connect(1, subs={Channel("a"): Position(7, "e"), Channel("b"): Position(0, "")}),
        ),
        ({"id": 1, "connect": {"subs": None, "flag": 1, "dict": "d", "profile": "p", "headers": {}}}, Connect(1)),
        # section 3.2, subscribe
        ({"id": 2, "subscribe": {"channel": "x"}}, Subscribe(2, X)),
        ({"id": 2, "subscribe": {"channel": "x", "token": "t"}}, Subscribe(2, X, "t")),
        (
            {"id": 2, "subscribe": {"channel": "x", "recover": True, "offset": 2**63 - 1, "epoch": "e"}},
            Subscribe(2, X, since=Position(2**63 - 1, "e")),
        ),
        ({"id": 2, "subscribe": {"channel": "x", "offset": 7, "epoch": "e"}}, Subscribe(2, X)),
        ({"id": 2, "subscribe": {"channel": "x", "positioned": True}}, Subscribe(2, X, positioned=True)),
        ({"id": 2, "subscribe": {"channel": "x", "recoverable": True}}, Subscribe(2, X, recoverable=True)),
        ({"id": 2, "subscribe": {"channel": "x", "join_leave": True}}, Subscribe(2, X, join_leave=True)),
        ({"id": 2, "subscribe": {"channel": "x", "delta": "fossil"}}, Subscribe(2, X)),
        ({"id": 2, "subscribe": {"channel": "x", "tf": {"op": "and"}}}, Subscribe(2, X, tags_filter=True)),
        ({"id": 2, "subscribe": {"channel": "x", "tf": None}}, Subscribe(2, X)),
        ({"id": 2, "subscribe": {"channel": "x", "flag": 1}}, Subscribe(2, X)),
        ({"id": 2, "subscribe": {"channel": "x", "flag": 3}}, Subscribe(2, X, reject_unrecovered=True)),
        ({"id": 2, "subscribe": {"channel": "x", "type": 4}}, Subscribe(2, X, kind=4)),
        (
            {"id": 2, "subscribe": {"channel": "x", "data": 1, "phase": 2, "cursor": "c", "limit": 1, "asc": True}},
            Subscribe(2, X),
        ),
        # section 3.3, the others
        ({"id": 3, "unsubscribe": {"channel": "x"}}, Unsubscribe(3, X)),
        (b'{"id":3,"publish":{"channel":"x","data":{"a": [1, "\\u00fc"]}}}', Publish(3, X, b'{"a": [1, "\\u00fc"]}')),
        ({"id": 3, "publish": {"channel": "x", "data": None}}, Publish(3, X, b"null")),
        ({"id": 3, "publish": {"channel": "x"}}, Publish(3, X, b"")),
        (b'{"id":3,"publish":{"channel":"x","data":1e400}}', Publish(3, X, b"1e400")),
        (b'{"id":3,"publish":{"channel":"x","data":"\\ud83d"}}', Publish(3, X, b'"\\ufffd"')),
        (b'{"id":3,"publish":{"data":1,"channel":"y","channel":"x","data":2}}', Publish(3, X, b"2")),
        ({"id": 3, "presence": {"channel": "x"}}, Presence(3, X)),
        ({"id": 3, "presence_stats": {"channel": "x"}}, PresenceStats(3, X)),
        ({"id": 3, "history": {"channel": "x"}}, History(3, X)),
        ({"id": 3, "history": {"channel": "x", "limit": 10}}, History(3, X, 10)),
        ({"id": 3, "history": {"channel": "x", "limit": -1, "reverse": True}}, History(3, X, -1, reverse=True)),
        ({"id": 3, "history": {"channel": "x", "limit": -7}}, History(3, X, -1)),
        (
            {"id": 3, "history": {"channel": "x", "since": {"offset": 5, "epoch": "e"}, "limit": 1}},
            History(3, X, 1, Position(5, "e")),
        ),
        ({"id": 3, "history": {"channel": "x", "since": {}}}, History(3, X, 0, Position(0, ""))),
        ({"id": 3, "rpc": {"method": "m", "data": [1]}}, Rpc(3, "m", b"[1]")),
        ({"id": 3, "rpc": {}}, Rpc(3, "", b"")),
        ({"send": {"data": 5}}, Send(0, b"5")),
        ({"id": 3, "send": {}}, Send(3, b"")),
        ({"id": 3, "refresh": {"token": "t"}}, Refresh(3, "t")),
        ({"id": 3, "sub_refresh": {"channel": "x", "token": "t"}}, SubRefresh(3, X, "t")),
        ({"id": 3, "sub_refresh": {"token": "t"}}, SubRefresh(3, Channel(""), "t")),
        # section 2, the envelope
        ({}, Pong()),
        (b" {} ", Pong()),
        ({"id": 0}, Pong()),
        ({"id": 0, "publish": {"channel": "x", "data": 1}}, Pong()),
        ({"id": 2**32 - 1, "presence": {"channel": "x"}}, Presence(2**32 - 1, X)),
        ({"id": 3, "connect": None, "presence": {"channel": "x"}}, Presence(3, X)),
        ({"id": 3, "publish": {"channel": "x", "data": 1}, "presence": {"channel": "x"}}, Publish(3, X, b"1")),
        ({"id": 3, "presence": {"channel": "x"}, "unsubscribe": {"channel": "x"}}, Unsubscribe(3, X)),
        ({"id": 3, "presence": {"channel": "x", "new": 1}, "newer": [{}]}, Presence(3, X)),
    ],
)
@pytest.mark.parametrize("text", [True, False])
def test_command(message: Any, command: Command, *, text: bool) -> None:
    """Each field of each request arrives where it belongs, in text and binary frames; unknown ones are ignored."""
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    assert [command] == list(DIALECT.decode(payload, text=text))


def test_data_is_bytes_of_its_own() -> None:
    """Data is cut out of the frame and does not keep it alive."""
    (publish,) = decode(DIALECT, b'{"id":1,"publish":{"channel":"x","data":[1]}}')
    assert isinstance(publish, Publish)
    assert type(publish.data) is bytes


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_several_commands_in_a_frame(end: bytes) -> None:
    """Objects are joined by a line end, with at most one after the last; a subscribe may ride with its connect."""
    payload = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"x"}}\n{}' + end
    assert [Connect(1), Subscribe(2, X), Pong()] == list(decode(DIALECT, payload))


@pytest.mark.parametrize(
    "message",
    [
        "",
        " ",
        "\n",
        "{}\n\n",
        "null",
        "[]",
        "5",
        "hello",
        "{",
        "{} {}",
        '{"id":1,"publish":{"channel":"x","data":{"a":\n1}}}',
        {"id": -1, "presence": {"channel": "x"}},
        {"id": 2**32, "presence": {"channel": "x"}},
        {"id": "1", "presence": {"channel": "x"}},
        b'{"id":1e400}',
        b'{"id":1,"publish":{"channel":"x","data":NaN}}',
        b'{"id":1,"publish":{"channel":"x","data":"\\q"}}',
        b'{"id":1,"publish":{"channel":"x","data":01}}',
        b'{"id":1,"publish":{"channel":"x","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
        {"id": 1},
        {"id": 1, "ping": {}},
        {"id": 1, "connect": {"token": 5}},
        {"id": 1, "connect": {"subs": {"a": {"delta": "zip"}}}},
        {"id": 1, "subscribe": {}},
        {"id": 1, "subscribe": {"channel": ""}},
        {"id": 1, "subscribe": {"channel": "x", "delta": "zip"}},
        {"id": 1, "subscribe": {"channel": "x", "offset": -1}},
        {"id": 1, "subscribe": {"channel": "x", "offset": 2**63}},
        {"id": 1, "unsubscribe": {}},
        {"id": 1, "publish": {"data": 1}},
        {"id": 1, "presence": {}},
        {"id": 1, "presence_stats": {}},
        {"id": 1, "history": {}},
        {"id": 1, "history": {"channel": "x", "limit": 2**31}},
        {"id": 1, "refresh": {}},
        {"id": 1, "sub_refresh": {"channel": "x"}},
    ],
)
def test_bad_request(message: Any) -> None:
    """Blank and broken frames, commands without what they need, and pings of the client's own are 3501."""
    assert fault(message).refusal is BAD_REQUEST


@pytest.mark.parametrize(
    ("payload", "text", "refusal"),
    [
        (b"\x00", False, INAPPROPRIATE_PROTOCOL),
        (b"\x06\x08\x01\x22\x02\x0a\x00", False, INAPPROPRIATE_PROTOCOL),
        (b"\xff\xfe", False, INAPPROPRIATE_PROTOCOL),
        (b'{"id":1', False, BAD_REQUEST),
        (b"", False, BAD_REQUEST),
        (b"\x06\x08\x01", True, BAD_REQUEST),
        (b'{"id":1,"publish":{"channel":"x","data":"\xff"}}', True, INVALID_UTF8),
        (b'{"id":1,"publish":{"channel":"x","data":"\xff"}}', False, INAPPROPRIATE_PROTOCOL),
    ],
)
def test_other_protocols(payload: bytes, refusal: Disconnect, *, text: bool) -> None:
    """Protobuf sent to a JSON connection is told apart from broken JSON; nothing but UTF-8 gets through."""
    assert fault(payload, text=text).refusal is refusal


@pytest.mark.parametrize(
    "message",
    [
        {"id": 9, "publish": {"channel": "x", "data": 1, "type": 1, "key": "k"}},
        {"id": 9, "sub_refresh": {"channel": "x", "type": 1, "track": []}},
    ],
)
def test_maps_and_polls_are_not_available(message: dict[str, Any]) -> None:
    """Commands that mean something else than their plain form are answered with 108."""
    error = fault(message)
    assert (NOT_AVAILABLE, 9) == (error.refusal, error.ref)


@pytest.mark.parametrize("last", [b"", b"{", b'{"id":2}', b'{"id":2,"publish":{"channel":"x","type":1}}', b"[]"])
def test_commands_ahead_of_a_fault(last: bytes) -> None:
    """What stood in the frame ahead of the fault is handed over with it."""
    error = fault(b'{"id":1,"connect":{}}\n{"id":2,"presence":{"channel":"x"}}\n' + last + b"\n{}")
    assert [Connect(1), Presence(2, X)] == list(error.before)


def test_commands_ahead_of_a_fault_in_a_mended_frame() -> None:
    """A cut emoji ahead of a fault changes nothing about either."""
    error = fault(b'{"id":1,"publish":{"channel":"x","data":"\\ud83d"}}\n{')
    assert (BAD_REQUEST, [Publish(1, X, b'"\\ufffd"')]) == (error.refusal, list(error.before))


@pytest.mark.parametrize("name", ["info", "user", "client", "sender", "offset", "epoch", "tags", "time"])
def test_what_only_the_server_sets_is_a_forgery(name: str) -> None:
    """A publish command that names it is marked; null names nothing, and inside the data it is data."""

    def published(**more: Any) -> Command:
        (command,) = decode(DIALECT, {"id": 3, "publish": {"channel": "x", "data": 1, **more}})
        return command

    values: list[Any] = [{"user": "eve"}, "eve", 7, 0, "", False, [], {}]
    for value in values:
        assert Publish(3, X, b"1", forged=True) == published(**{name: value})
    assert Publish(3, X, b"1") == published(**{name: None})
    assert Publish(3, X, b"1") == published(anything="else")
    assert Publish(3, X, b'{"%b": 7}' % name.encode()) == published(data={name: 7})
