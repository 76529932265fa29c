"""How frames move between a client and its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from gateway.disconnects import Disconnect
from gateway.types import Peer


class Framing(Protocol):
    """Payload to wire bytes. Pure: with the codec's name the key of a frame shared by many recipients."""

    __slots__ = ()

    name: str

    def frame(self, payload: bytes, text: bool) -> bytes:
        """Return a whole WebSocket frame, line or event."""


class Transport(Protocol):
    """One live link. All calls are synchronous, on the loop, and harmless after the link is gone."""

    __slots__ = ()

    framing: Framing
    peer: Peer

    def write(self, frames: bytes) -> None:
        """Send whole frames, never part of one."""

    def backlog(self) -> int:
        """Return the bytes that the kernel has not taken."""

    def hold_reading(self, hold: bool) -> None:
        """Stop or resume taking bytes from the client."""

    def ping(self) -> None:
        """Send a WebSocket ping frame ("frame" heartbeat)."""

    def close(self, disconnect: Disconnect, grace: float) -> None:
        """Send the close frame, wait up to `grace` seconds for the client's, then abort. `lost` follows."""

    def abort(self) -> None:
        """Drop the link at once. `lost` follows."""


class Receiver(Protocol):
    """The connection, as its transport sees it. A raise from any of these ends the link with 1011."""

    __slots__ = ()

    def received(self, payload: bytes, text: bool) -> None:
        """One whole data message; text is valid UTF-8. Not called after a close has begun."""

    def ponged(self) -> None:
        """A pong frame arrived."""

    def writable(self, yes: bool) -> None:
        """The transport's buffer passed its high-water mark (False) or drained (True)."""

    def lost(self, code: int | None, initiator: Literal["client", "server", "network"]) -> None:
        """The link is gone: the last call, exactly once; `code` as the close frame said, None without one."""


Attach: TypeAlias = Callable[[Transport], Receiver]
"""Called once, when the handshake is done and the socket is ours; `received` may follow at once."""
