"""A transport that remembers what it was told, and a framing that can be read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from gateway.contracts.transport import Framing, Receiver
from gateway.disconnects import Disconnect
from gateway.types import Peer

Initiator = Literal["client", "server", "network"]


class PlainFraming:
    """One payload a line, behind `t` for text or `b` for binary."""

    name = "plain"

    def frame(self, payload: bytes, text: bool) -> bytes:
        """Return one line."""
        return b"%b:%b\n" % (b"t" if text else b"b", payload)


FRAMING: Final = PlainFraming()


class RecordingTransport:
    """One link whose other end is the test.

    After `close` it takes no frames, as the contract says; `lost` is for the test to bring about with `hang_up`.
    `stalled` bytes are what the kernel has not taken.
    """

    framing: Framing = FRAMING

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.peer = Peer(address, request_id="request-1")
        self.writes: list[bytes] = []
        self.late_writes: list[bytes] = []  # after close or abort
        self.closings: list[Disconnect] = []
        self.grace = 0.0
        self.aborted = False
        self.holds: list[bool] = []
        self.pings = 0
        self.stalled = 0
        self.receiver: Receiver | None = None

    # --- Transport

    def write(self, frames: bytes) -> None:
        """Take whole frames."""
        (self.late_writes if self.closed else self.writes).append(frames)

    def backlog(self) -> int:
        """Return what the test has set."""
        return self.stalled

    def hold_reading(self, hold: bool) -> None:
        """Note it."""
        self.holds.append(hold)

    def ping(self) -> None:
        """Count it."""
        self.pings += 1

    def close(self, disconnect: Disconnect, grace: float) -> None:
        """Note it; each call is noted, to see that there is one."""
        self.closings.append(disconnect)
        self.grace = grace

    def abort(self) -> None:
        """Drop the link: as a real one, it is lost on a later turn, so the test says when."""
        self.aborted = True

    # --- for tests

    @property
    def closed(self) -> bool:
        """Whether our side has ended it."""
        return bool(self.closings) or self.aborted

    @property
    def code(self) -> int | None:
        """The code of the first close, None before."""
        return self.closings[0].code if self.closings else None

    @property
    def reading_held(self) -> bool:
        """Whether bytes of the client are left unread."""
        return bool(self.holds) and self.holds[-1]

    def payloads(self) -> list[bytes]:
        """Return every payload written so far, in order."""
        return [line[2:] for line in b"".join(self.writes).splitlines()]

    def messages(self) -> list[Any]:
        """Return every payload written so far, parsed."""
        return [json.loads(payload) for payload in self.payloads()]

    def send(self, *messages: Any) -> None:
        """Let the client send each message in a frame of its own; bytes go as they are."""
        assert self.receiver is not None
        for message in messages:
            self.receiver.received(message if isinstance(message, bytes) else json.dumps(message).encode(), text=True)

    def send_together(self, messages: Sequence[Any]) -> None:
        """Let the client send several messages in one frame, a line each."""
        self.send(b"\n".join(json.dumps(message).encode() for message in messages))

    def hang_up(self, code: int | None = 1000, initiator: Initiator = "client") -> None:
        """Let the link be gone."""
        assert self.receiver is not None
        receiver, self.receiver = self.receiver, None
        receiver.lost(code, initiator)
