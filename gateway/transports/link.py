"""One live WebSocket: after the handshake the connection owns the socket.

Frames reach the receiver as plain calls; there is no task, no queue and, while nothing closes, no timer per connection.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import structlog

from gateway.contracts.recorder import Recorder
from gateway.contracts.transport import Attach, Framing, Receiver, Transport
from gateway.disconnects import INTERNAL_ERROR, SERVICE_RESTART, SHUTDOWN, TOO_MANY_REQUESTS, Disconnect
from gateway.transports.admission import Admission
from gateway.transports.events import Answer, Ended, Event, Message
from gateway.transports.frames import PING_FRAME, WebSocketFraming
from gateway.transports.partings import Partings
from gateway.transports.unattended import NOBODY, Initiator
from gateway.transports.wire import WebSocketLimits, WireReader
from gateway.types import Peer

FRAMING: Final = WebSocketFraming()
HEARD_OUT: Final = 4_194_304  # bytes of a client that was told to go; more than was under way is a flood
FLOOD_GRACE: Final = 1.0  # seconds that somebody who floods has for the close frame

log = structlog.get_logger(__name__)


class WebSocketTransport(Transport):
    """One live WebSocket: a Transport to its connection, to the event loop what asyncio.Protocol says.

    It is not derived from that: the loop asks for the calls, and a class with a base in Python has no compiled form.

    `writable` may be called from inside `write`. Holding reading holds back what came in the same read, too.
    """

    __slots__ = (
        "_admission",
        "_booked",
        "_code",
        "_connections",
        "_control_bytes",
        "_deadline",
        "_dropped",
        "_held",
        "_holding",
        "_initiator",
        "_limits",
        "_link",
        "_loop",
        "_open",
        "_partings",
        "_reader",
        "_receiver",
        "_recorder",
        "peer",
    )

    framing: Framing = FRAMING

    def __init__(
        self,
        link: asyncio.Transport,
        *,
        peer: Peer,
        limits: WebSocketLimits,
        admission: Admission,
        connections: set[object],
        partings: Partings,
        recorder: Recorder,
    ) -> None:
        self.peer = peer
        self._recorder = recorder
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._admission = admission
        self._connections = connections
        self._partings = partings
        self._receiver: Receiver = NOBODY
        self._reader = WireReader(limits)
        self._open = True
        self._holding = False
        self._held: list[Event] | None = None  # came in one read with the frame that made the receiver hold
        self._booked = False  # what lies here has its turn soon
        self._control_bytes = 0  # answers written since the write buffer was last seen empty
        self._dropped = 0  # bytes that came after the end
        self._code: int | None = None
        self._initiator: Initiator = "network"
        self._deadline: asyncio.TimerHandle | None = None
        link.set_write_buffer_limits(high=limits.high_water)
        link.set_protocol(cast("asyncio.Protocol", self))
        connections.add(self)

    def attach(self, attach: Attach, early: bytes) -> None:
        """Begin: get the receiver, deliver what the client sent ahead, and let reading go on."""
        self._receiver = attach(self)
        if early:
            self.data_received(early)
        self._follow()

    # --- Transport: what the connection calls

    def write(self, frames: bytes) -> None:
        """Send whole frames."""
        if self._open:
            self._link.write(frames)

    def backlog(self) -> int:
        """Return the bytes that the kernel has not taken."""
        return self._link.get_write_buffer_size()

    def hold_reading(self, hold: bool) -> None:
        """Stop or resume taking bytes from the client."""
        if hold is self._holding or self._link.is_closing():
            return
        self._holding = hold
        if hold:
            self._link.pause_reading()
        else:
            self._read_soon()  # never inside a call of the connection

    def ping(self) -> None:
        """Send a WebSocket ping frame."""
        self.write(PING_FRAME)

    def close(self, disconnect: Disconnect, grace: float) -> None:
        """Send the close frame, wait up to `grace` seconds for the client's, then abort."""
        if not self._open or self._link.is_closing():
            return
        self._open = False
        self._code, self._initiator = disconnect.code, "server"
        self._held = None
        self._abort_after(grace)
        self._link.write(self._reader.close(disconnect))
        self._holding = False
        self._follow()  # or the client's close frame would never be seen

    def abort(self) -> None:
        """Drop the link at once."""
        if self._open:
            self._open = False
            self._initiator = "server"
        self._held = None
        self._link.abort()

    # --- Protocol: what the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take bytes apart and hand over what they complete."""
        self._recorder.count("received_bytes", n=len(data))
        if not self._open:
            self._dropped += len(data)
        self._deliver(self._reader.feed(data, self._loop.time()))
        if self._reader.behind or self._dropped:
            self._follow()

    def eof_received(self) -> None:
        """The client ended its half: the event loop writes out what is buffered and closes; we bound that in time."""
        self._open = False
        self._abort_after(self._limits.close_timeout)

    def pause_writing(self) -> None:
        """The write buffer passed the high-water mark."""
        if self._open:
            self._tell_writable(yes=False)

    def resume_writing(self) -> None:
        """The write buffer drained."""
        self._control_bytes = 0
        if self._open:
            self._tell_writable(yes=True)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The link is gone: give back what it occupied, have the receiver told when it is its turn."""
        self._open = False
        self._held = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._admission.release(self.peer.address)
        self._partings.part(self._part)

    def shutdown(self) -> None:
        """The server goes down (called by uvicorn for every connection that is still there)."""
        self.close(SHUTDOWN if self._admission.drained else SERVICE_RESTART, self._limits.close_timeout)
        self._abort_after(self._limits.close_timeout)

    # --- within

    def _part(self) -> None:
        self._connections.discard(self)
        receiver, self._receiver = self._receiver, NOBODY
        try:
            receiver.lost(self._code, self._initiator)
        except Exception as error:  # noqa: BLE001 - root of the frame callbacks
            self._failed(error)

    def _deliver(self, events: list[Event]) -> None:
        try:
            for index, event in enumerate(events):
                if self._holding:
                    self._held = events[index:]
                    return
                if type(event) is Message:
                    if self._open:
                        self._receiver.received(event.payload, event.text)
                else:
                    self._deliver_control(event)
        except Exception as error:  # noqa: BLE001 - root of the frame callbacks
            self._failed(error)

    def _deliver_control(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._end(event)
        elif not self._open:
            return
        elif isinstance(event, Answer):
            self._answer(event.frame)
        else:
            self._receiver.ponged()

    def _follow(self) -> None:
        """Read, unless something lies here already: that has its turn first, a slice at a time.

        Of a client that was told to go, too: its close frame may be on its way. A flood is not worth the time.
        """
        if self._holding or self._link.is_closing():
            return
        if self._held or self._reader.behind:
            self._link.pause_reading()
            self._read_soon()
        elif self._dropped > HEARD_OUT:
            self._link.pause_reading()  # whatever ended us has set the time of the abort
        else:
            self._link.resume_reading()

    def _read_soon(self) -> None:
        if not self._booked:
            self._booked = True
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """Hand over what lies here, then read again, unless that made the receiver hold once more."""
        self._booked = False
        if self._holding:
            return
        held, self._held = self._held, None
        self._deliver(held or self._reader.feed(b"", self._loop.time()))
        self._follow()

    def _answer(self, frame: bytes) -> None:
        """Write the answer to a ping; whoever pings without reading the answers is dropped."""
        if not self._link.get_write_buffer_size():
            self._control_bytes = 0
        self._control_bytes += len(frame)
        if self._control_bytes > self._limits.control_backlog:
            log.info("connection.flood", address=self.peer.address, request_id=self.peer.request_id)
            self._recorder.count("transport_aborts", "backlog")
            self.abort()
        else:
            self._link.write(frame)

    def _end(self, ended: Ended) -> None:
        """The closing handshake is done, or the client broke a rule and is told."""
        if self._open:
            self._open = False
            self._code, self._initiator = ended.code, "client" if ended.by_client else "server"
            grace = self._limits.close_timeout
            if not ended.by_client and ended.code == TOO_MANY_REQUESTS.code:
                self._recorder.count("rate_limited", "control")
                grace = min(grace, FLOOD_GRACE)
            self._abort_after(grace)
        self._link.write(ended.frame)
        if ended.by_client or not self._link.can_write_eof():
            self._link.close()
        else:
            self._link.write_eof()  # closing with input unread would reset the link and lose the close frame

    def _tell_writable(self, *, yes: bool) -> None:
        try:
            self._receiver.writable(yes)
        except Exception as error:  # noqa: BLE001 - root of the frame callbacks
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._recorder.count("errors", "frame")
        log.error("connection.failed", address=self.peer.address, request_id=self.peer.request_id, exc_info=error)
        self.close(INTERNAL_ERROR, self._limits.close_timeout)

    def _abort_after(self, grace: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(grace, self._give_up)

    def _give_up(self) -> None:
        self._recorder.count("transport_aborts", "close_timeout")
        self._link.abort()
