"""Frames of a WebSocket server: payloads and closings to wire bytes."""

from __future__ import annotations

from typing import Final

from gateway.contracts.transport import Framing
from gateway.disconnects import Disconnect

_TEXT: Final = 0x81  # FIN and opcode 1
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_SHORT: Final = 126  # up to here (not included) the length stands in the second byte
_MEDIUM_END: Final = 1 << 16
_REASON_SIZE: Final = 123  # what a close frame has room for after the code

PING_FRAME: Final = b"\x89\x00"


class WebSocketFraming(Framing):
    """Payloads to unmasked frames of a server."""

    name = "websocket"

    def __init__(self) -> None:
        self._text = tuple(bytes((_TEXT, length)) for length in range(_SHORT))
        self._binary = tuple(bytes((_BINARY, length)) for length in range(_SHORT))

    def frame(self, payload: bytes, text: bool) -> bytes:
        """Return the whole frame."""
        length = len(payload)
        if length < _SHORT:
            return (self._text if text else self._binary)[length] + payload
        first = b"\x81" if text else b"\x82"
        if length < _MEDIUM_END:
            return b"%b\x7e%b%b" % (first, length.to_bytes(2, "big"), payload)
        return b"%b\x7f%b%b" % (first, length.to_bytes(8, "big"), payload)


def close_frame(disconnect: Disconnect) -> bytes:
    """Return the close frame; a reason that does not fit is cut at a character."""
    reason = disconnect.reason.encode()[:_REASON_SIZE].decode(errors="ignore").encode()
    return bytes((_CLOSE, 2 + len(reason))) + disconnect.code.to_bytes(2) + reason
