"""RFC 6455 as a pure state machine: the bytes of a client to events.

The state machine of `websockets` is fed whole frames only, so it is at a frame boundary by construction; a plain
frame never reaches it, and it exists only while a frame needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask

from gateway.disconnects import INVALID_UTF8, TOO_MANY_REQUESTS, Disconnect
from gateway.protocol.limits import TokenBucket
from gateway.transports.events import Answer, Ended, Event, Message, Ponged
from gateway.transports.frames import close_frame

_TEXT: Final = 0x81  # FIN and opcode 1
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_FIN: Final = 0x80
_MASKED: Final = 0x80
_CONTROL: Final = 0x08  # the opcode bit that control frames share
_SHORT: Final = 126  # length code: 16 bits follow; below it is the length itself
_HEADER: Final = 2
_KEY: Final = 4
_OPCODES: Final = frozenset(int(opcode) for opcode in Opcode)
_DATA: Final = frozenset((Opcode.CONT, Opcode.TEXT, Opcode.BINARY))
AT_ONCE: Final = 64  # frames of one call: a read may bring 30,000, and others have their turn between


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """What one WebSocket connection may do; sizes in bytes, times in seconds, rates per second (0 = no limit)."""

    message_size: int = 65_536
    fragments: int = 64  # of one message
    control_rate: float = 10.0  # control frames and empty fragments: frames that carry nothing
    control_burst: float = 20.0
    high_water: int = 65_536  # of the write buffer: beyond it the receiver is told to stop
    control_backlog: int = 262_144  # replies to control frames that a client has not read
    close_timeout: float = 2.0  # a closed link that is not gone by then is aborted


class _State(Enum):
    OPEN = 0
    CLOSING = 1  # we have sent a close frame and wait for the client's
    OVER = 2  # whatever comes is dropped


class WireReader:
    """The receiving half of one connection, after the handshake."""

    __slots__ = ("_budget", "_fragments", "_limits", "_machine", "_need", "_room", "_state", "_tail", "_text", "behind")

    def __init__(self, limits: WebSocketLimits) -> None:
        self.behind = False  # frames may lie here that were not looked at: feed on, if only with nothing
        self._limits = limits
        self._tail: bytes | bytearray = b""  # of an unfinished frame
        self._need = 0  # how long the tail must get before it is worth looking at
        self._machine: ServerProtocol | None = None  # None: it would be open and at a frame boundary
        self._fragments: list[bytes] | None = None  # of an unfinished message
        self._text = False  # of that message
        self._room = limits.message_size  # what is left for that message
        self._state = _State.OPEN
        self._budget: TokenBucket | None = None

    def feed(self, data: bytes, now: float) -> list[Event]:
        """Take bytes as they come from the socket, cut anywhere; return what they complete. Never raises.

        No more than AT_ONCE frames are looked at; then `behind` says that the next call has something to begin with.
        """
        whole = self._join(data)
        events: list[Event] = []
        position, end, need, left = 0, len(whole), _HEADER, AT_ONCE
        while end - position >= _HEADER and left and self._state is not _State.OVER:
            stop, start = self._measure(whole, position)
            if stop > end:
                need = stop - position
                break
            first = whole[position]
            if first in (_TEXT, _BINARY) and start and self._fragments is None:  # final and not compressed
                if self._state is _State.OPEN:
                    self._deliver(apply_mask(whole[start:stop], whole[start - _KEY : start]), first == _TEXT, events)
            else:
                self._step(whole[position:stop], now, events)
            position = stop
            left -= 1
        self.behind = not left and position < end and self._state is not _State.OVER
        if position < end and self._state is not _State.OVER:
            self._keep(whole, position, need)
        return events

    def close(self, disconnect: Disconnect) -> bytes:
        """Begin the closing handshake: return the close frame. From now on only the client's close frame counts."""
        machine = self._awake()
        machine.send_close(CloseCode.NORMAL_CLOSURE)
        machine.data_to_send()  # ours says it better
        self._state = _State.CLOSING
        return close_frame(disconnect)

    def _join(self, data: bytes) -> bytes:
        """Return what is to be looked at: the tail and what came, or nothing while a frame is known to be short."""
        if not self._tail:
            return data
        tail = self._tail
        tail += data
        if len(tail) < self._need:
            self._tail = tail
            return b""
        self._tail = b""
        return bytes(tail)

    def _keep(self, whole: bytes, position: int, need: int) -> None:
        self._tail = bytearray(memoryview(whole)[position:])
        self._need = need

    def _measure(self, data: bytes, position: int) -> tuple[int, int]:
        """Return where the frame at `position` stops and where its payload starts.

        The start is 0 where the header alone is fed, because the machine fails on it: a reserved opcode, no mask, or
        a payload that there is no room for (and which is therefore never stored).
        """
        second = data[position + 1]
        if second < _MASKED or data[position] & 0x0F not in _OPCODES:
            return position + _HEADER, 0
        length = second & 0x7F
        start = position + _HEADER
        if length >= _SHORT:
            start += 2 if length == _SHORT else 8
            if start > len(data):
                return start, 0
            if length == _SHORT:
                length = data[start - 2] << 8 | data[start - 1]
            else:
                length = int.from_bytes(data[start - 8 : start])
        if length > self._room:
            return start, 0
        start += _KEY
        return start + length, start

    def _deliver(self, payload: bytes, text: bool, events: list[Event]) -> None:
        if text and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                self._end(INVALID_UTF8, events)
                return
        events.append(Message(payload, text))

    def _step(self, frame: bytes, now: float, events: list[Event]) -> None:
        """Feed exactly one frame (or a header that it fails on) to the machine."""
        if not self._afford(frame, now):
            self._end(TOO_MANY_REQUESTS, events)
            return
        machine = self._awake()
        machine.receive_data(frame)
        received = machine.events_received()
        answer = b"".join(machine.data_to_send())
        if machine.parser_exc is not None:
            self._fail(machine, answer, events)
        for event in received:
            self._take(cast("Frame", event), answer, events)
        if self._fragments is None and self._state is _State.OPEN:
            self._let_go()

    def _awake(self) -> ServerProtocol:
        if self._machine is None:
            self._machine = ServerProtocol(state=State.OPEN, max_size=self._limits.message_size)
        return self._machine

    def _afford(self, frame: bytes, now: float) -> bool:
        """Count what carries nothing: control frames other than close, and empty fragments."""
        limits = self._limits
        first = frame[0]
        counts = first != _CLOSE if first & _CONTROL else first < _FIN and frame[1] == _MASKED
        if not counts or not limits.control_rate:
            return True
        if self._budget is None:
            self._budget = TokenBucket(rate=limits.control_rate, burst=limits.control_burst, now=now)
        return self._budget.take(now)

    def _take(self, frame: Frame, answer: bytes, events: list[Event]) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._take_close(answer, events)
        elif frame.opcode in _DATA:
            self._take_fragment(frame, events)
        elif self._state is _State.OPEN:
            events.append(Answer(answer) if frame.opcode is Opcode.PING else Ponged())

    def _take_fragment(self, frame: Frame, events: list[Event]) -> None:
        """Put messages together, as the machine does; while closing only the count is kept."""
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
            self._fragments = []
        fragments = self._fragments
        assert fragments is not None  # noqa: S101 - the machine refuses a continuation of nothing
        opened = self._state is _State.OPEN
        if opened:
            fragments.append(bytes(frame.data))
        if frame.fin:
            self._fragments = None
            self._room = self._limits.message_size
            if opened:
                self._deliver(b"".join(fragments), self._text, events)
            return
        self._room -= len(frame.data)
        if len(fragments) >= self._limits.fragments:
            self._end(TOO_MANY_REQUESTS, events)

    def _take_close(self, answer: bytes, events: list[Event]) -> None:
        machine = self._awake()
        code = machine.close_rcvd.code if machine.close_rcvd else CloseCode.NO_STATUS_RCVD
        self._over(Ended(int(code), by_client=True, frame=answer), events)

    def _fail(self, machine: ServerProtocol, answer: bytes, events: list[Event]) -> None:
        code = machine.close_sent.code if machine.close_sent else CloseCode.ABNORMAL_CLOSURE
        self._over(Ended(int(code), by_client=False, frame=answer), events)

    def _end(self, disconnect: Disconnect, events: list[Event]) -> None:
        frame = close_frame(disconnect) if self._state is _State.OPEN else b""
        self._over(Ended(disconnect.code, by_client=False, frame=frame), events)

    def _over(self, ended: Ended, events: list[Event]) -> None:
        self._state = _State.OVER
        self._fragments = None
        self._let_go()
        events.append(ended)

    def _let_go(self) -> None:
        """Drop the machine so that nothing waits for the garbage collector.

        Its parser refers back to it, and to the last frame with all that this carries; so does its exception.
        """
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.parser.close()
            if machine.parser_exc is not None:
                machine.parser_exc.__traceback__ = None
