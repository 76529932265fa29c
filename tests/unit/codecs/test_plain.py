"""What the plain protocols share."""

from __future__ import annotations

import json

import pytest

from gateway.codecs._plain import parse_since, publication_id, timestamp
from gateway.codecs.chat import codec as chat
from gateway.codecs.echo import codec as echo
from gateway.codecs.notifications import codec as notifications
from gateway.contracts.codec import Codec
from gateway.disconnects import BAD_REQUEST, INVALID_UTF8, Disconnect
from gateway.errors import INTERNAL, DecodeError
from gateway.protocol.messages import Connect, Reply
from gateway.protocol.values import Hello, PresentedToken
from gateway.types import Position, Publication
from tests.support.codecs import PEER, decode, hello, shown

PLAIN = pytest.mark.parametrize("codec", [chat, notifications, echo], ids=lambda codec: codec.name)


@pytest.mark.parametrize(
    ("time_ms", "expected"),
    [
        (1795341600123, "2026-11-22T10:00:00.123Z"),
        (1795341600000, "2026-11-22T10:00:00.000Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1970-01-01T00:00:00.999Z"),
        (253402300799999, "9999-12-31T23:59:59.999Z"),
        (10**30, "1970-01-01T00:00:00.000Z"),
    ],
)
def test_timestamp(time_ms: int, expected: str) -> None:
    """Times are ISO 8601 in UTC with milliseconds, and no number is too odd to be shown."""
    assert expected == json.loads(timestamp(time_ms))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("17@abcdefgh", Position(17, "abcdefgh")),
        ("0@e", Position(0, "e")),
        ("1@a@b", Position(1, "a@b")),
        ("", None),
        ("17", None),
        ("17@", None),
        ("@e", None),
        ("-1@e", None),
        ("1.5@e", None),
        ("\u0661@e", None),
        ("9" * 19 + "@e", None),
        ("1@" + "e" * 65, None),
    ],
)
def test_parse_since(text: str, expected: Position | None) -> None:
    """A position is what an id says, and nothing else is one."""
    assert expected == parse_since(text)


def test_publication_id_is_a_position() -> None:
    """The id of a publication is what `since` takes; without history there is none."""
    assert publication_id(Publication(b"1", 17, "abc")) == "17@abc"
    assert publication_id(Publication(b"1", 17), "xyz") == "17@xyz"
    assert publication_id(Publication(b"1")) is None


@PLAIN
@pytest.mark.parametrize(
    ("way", "ticket"), [("header", False), ("subprotocol", False), ("ticket", True), ("query", False)]
)
def test_handshake_token_connects(codec: Codec, way: str, *, ticket: bool) -> None:
    """A token that came with the handshake is presented at once, a ticket as a ticket."""
    presented = PresentedToken("jwt", way)  # type: ignore[arg-type]  # one of the four
    connect = codec.dialect(Hello(PEER, token=presented)).open()[0]
    assert isinstance(connect, Connect)
    assert ("jwt", ticket, codec.name != "echo") == (connect.token, connect.ticket, connect.personal)


@PLAIN
def test_anonymous_handshake_connects(codec: Codec) -> None:
    """Where no token is needed the handshake connects without one."""
    connect = codec.dialect(hello(anonymous=True)).open()[0]
    assert isinstance(connect, Connect)
    assert connect.token is None


@PLAIN
def test_first_message_connects(codec: Codec) -> None:
    """Without a token in the handshake nothing is asked until the first message brings it, in a binary frame too."""
    dialect = codec.dialect(hello())
    assert dialect.open() == ()
    connect = dialect.decode(b'{"type":"auth","token":"jwt"}', text=False)[0]
    assert isinstance(connect, Connect)
    assert ("jwt", False) == (connect.token, connect.ticket)


@PLAIN
@pytest.mark.parametrize(
    "payload",
    [
        b"hello",
        b"",
        b"{}",
        b"{",
        b'{"type":"ping"}',
        b'{"type":"chat","message":"x"}',
        b'{"type":"auth"}',
        b'{"type":"auth","token":""}',
        b'{"type":"auth","token":5}',
        b'{"type":"auth","token":"\\ud800"}',
        b'{"x":' + b"[" * 10_000,
    ],
)
def test_anything_before_auth_ends_the_connection(codec: Codec, payload: bytes) -> None:
    """Whatever is not `auth` with a token, ahead of it, is 3501."""
    dialect = codec.dialect(hello())
    with pytest.raises(DecodeError) as caught:
        decode(dialect, payload)
    assert caught.value.refusal is BAD_REQUEST


@PLAIN
@pytest.mark.parametrize("text", [True, False])
def test_invalid_utf8_before_auth(codec: Codec, *, text: bool) -> None:
    """Bytes that are not UTF-8 are 1007 while text is due."""
    with pytest.raises(DecodeError) as caught:
        codec.dialect(hello()).decode(b'{"type":"\xff"}', text=text)
    assert caught.value.refusal is INVALID_UTF8


@PLAIN
def test_error_to_connect(codec: Codec) -> None:
    """A refused connect is an `error` message that names `auth`."""
    dialect = codec.dialect(hello(token="jwt"))
    ref = dialect.open()[0].ref
    expected = [{"type": "error", "code": 100, "message": "internal server error", "request": "auth"}]
    assert expected == shown(dialect, Reply(ref, INTERNAL))


@PLAIN
def test_farewell_is_the_close_frame(codec: Codec) -> None:
    """Nothing goes ahead of the close frame."""
    assert list(codec.dialect(hello()).farewell(Disconnect(3001, "shutdown"))) == []
