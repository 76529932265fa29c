"""One wire protocol: frames to commands, replies and pushes to payloads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from gateway.disconnects import Disconnect
from gateway.protocol.messages import Command, Push, Reply
from gateway.protocol.values import Encoded, Hello


class Codec(Protocol):
    """`gateway/codecs/<name>.py` (or a folder) defines `codec: Codec`."""

    __slots__ = ()

    name: str
    subprotocols: tuple[str, ...]
    text: bool  # payloads go out as text (or binary) frames
    heartbeat: Literal["application", "frame"]  # payloads of ours, or WebSocket ping frames

    def dialect(self, hello: Hello) -> Dialect:
        """Begin one connection's conversation."""

    def push(self, push: Push) -> bytes | None:
        """Encode for all plain subscribers at once; None = this protocol does not show it. Stateless."""


class Dialect(Protocol):
    """The state of one connection's wire protocol."""

    __slots__ = ()

    def open(self) -> Sequence[Command]:
        """Return what the handshake itself asks for."""

    def decode(self, payload: bytes, text: bool) -> Sequence[Command]:
        """Turn one data frame into commands. Raises DecodeError and nothing else, whatever the bytes."""

    def encode(self, message: Reply | Push) -> Encoded:
        """Encode for this client; may return commands of the dialect's own that follow. Never raises."""

    def farewell(self, disconnect: Disconnect) -> Sequence[bytes]:
        """Return payloads that go ahead of the close."""
