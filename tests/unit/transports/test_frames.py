from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from gateway.disconnects import DISCONNECTS, Disconnect
from gateway.transports.frames import PING_FRAME, WebSocketFraming, close_frame


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_those_of_websockets(length: int, text: bool) -> None:
    """At every edge of the length encoding the bytes are those that `websockets` writes."""
    payload = b"x" * length
    expected = Frame(Opcode.TEXT if text else Opcode.BINARY, payload).serialize(mask=False)

    assert expected == WebSocketFraming().frame(payload, text)


def test_ping() -> None:
    """The constant is an empty ping frame."""
    assert Frame(Opcode.PING, b"").serialize(mask=False) == PING_FRAME


@pytest.mark.parametrize("disconnect", DISCONNECTS)
def test_every_disconnect_has_a_close_frame(disconnect: Disconnect) -> None:
    """Code and reason stand in it as they are in the table."""
    payload = disconnect.code.to_bytes(2) + disconnect.reason.encode()

    assert Frame(Opcode.CLOSE, payload).serialize(mask=False) == close_frame(disconnect)


def test_a_long_reason_is_cut_at_a_character() -> None:
    """A close frame holds 123 bytes of reason, and half a character is no text."""
    frame = close_frame(Disconnect(3503, "é" * 100))

    assert frame[1] == len(frame) - 2 == 2 + 122
    assert "é" * 61 == frame[4:].decode()
