"""Echo: every frame comes back."""

from __future__ import annotations

import pytest

from gateway.codecs.echo import codec
from gateway.errors import TOO_MANY_REQUESTS
from gateway.protocol.messages import Connect, Echo, EchoResult, ExpiringPush, PublicationPush, PublishResult, Reply
from gateway.types import Channel, Publication
from tests.support.codecs import hello, opened, shown


def test_opening() -> None:
    """Echo connects and listens to nothing."""
    (connect,) = codec.dialect(hello(token="jwt", room="ignored")).open()
    assert Connect(connect.ref, "jwt") == connect


@pytest.mark.parametrize("payload", [b"", b"hello", b"\xff\x00", b'{"type":"auth","token":"t"}', b"{"])
@pytest.mark.parametrize("text", [True, False])
def test_comes_back(payload: bytes, *, text: bool) -> None:
    """Every frame after authentication comes back unchanged, text as text and bytes as bytes."""
    dialect = opened(codec)
    (command,) = dialect.decode(payload, text=text)
    assert Echo(command.ref, payload, text) == command
    encoded = dialect.encode(Reply(command.ref, EchoResult(payload, text)))
    assert ((payload,), text) == (encoded.payloads, encoded.text)


def test_errors_are_told() -> None:
    """A frame that is refused is answered with an error."""
    dialect = opened(codec)
    (command,) = dialect.decode(b"x", text=True)
    expected = [{"type": "error", "code": 111, "message": "too many requests", "request": "echo"}]
    assert expected == shown(dialect, Reply(command.ref, TOO_MANY_REQUESTS))


def test_nothing_else_is_shown() -> None:
    """Only what the client sent comes back."""
    dialect = opened(codec)
    push = PublicationPush(Channel("chat:lobby"), Publication(b"1"))
    assert codec.push(push) is None
    assert shown(dialect, push) == []
    assert shown(dialect, ExpiringPush(60)) == []
    assert shown(dialect, Reply(1, PublishResult())) == []
