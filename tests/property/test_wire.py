"""The reader against the state machine of `websockets` alone, on the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.disconnects import INVALID_UTF8, SHUTDOWN
from gateway.transports.events import Answer, Ended, Event, Message, Ponged
from gateway.transports.frames import close_frame
from gateway.transports.wire import WebSocketLimits, WireReader
from tests.support.rawsocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, masked

SIZE = 200  # of a message: small, so that sequences often pass it
LIMITS = WebSocketLimits(message_size=SIZE, fragments=1_000, control_rate=0.0)


class Reference:
    """ServerProtocol, fed byte by byte, with messages put together and text checked around it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._machine = ServerProtocol(state=State.OPEN, max_size=SIZE)
        self._fragments: list[bytes] = []
        self._opcode = Opcode.BINARY
        self._ours = False
        self._over = False

    def close(self) -> None:
        """Begin the closing handshake from our side."""
        if not self._over:
            self._machine.send_close(CloseCode.NORMAL_CLOSURE)
            self._machine.data_to_send()
            self._ours = True

    def feed(self, data: bytes) -> None:
        """Feed one byte after the other."""
        for index in range(len(data)):
            if self._over:
                return
            self._machine.receive_data(data[index : index + 1])
            received = self._machine.events_received()
            written = b"".join(self._machine.data_to_send())
            if self._machine.parser_exc is not None:
                sent = self._machine.close_sent
                assert sent is not None
                self._end(Ended(int(sent.code), by_client=False, frame=written))
            for frame in received:
                assert isinstance(frame, Frame)
                self._take(frame, written)

    def _take(self, frame: Frame, written: bytes) -> None:
        if frame.opcode is Opcode.CLOSE:
            assert self._machine.close_rcvd is not None
            self._end(Ended(int(self._machine.close_rcvd.code), by_client=True, frame=written))
        elif self._ours:
            return
        elif frame.opcode is Opcode.PING:
            self.events.append(Answer(written))
        elif frame.opcode is Opcode.PONG:
            self.events.append(Ponged())
        else:
            self._take_data(frame)

    def _take_data(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._opcode, self._fragments = frame.opcode, []
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        payload = b"".join(self._fragments)
        if self._opcode is Opcode.TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                self._end(Ended(INVALID_UTF8.code, by_client=False, frame=close_frame(INVALID_UTF8)))
                return
        self.events.append(Message(payload, self._opcode is Opcode.TEXT))

    def _end(self, ended: Ended) -> None:
        self.events.append(ended)
        self._over = True


masks = st.binary(min_size=4, max_size=4)
texts = st.text(max_size=20).map(str.encode)
payloads = st.one_of(texts, st.binary(max_size=20), st.integers(0, SIZE + 40).map(lambda size: b"x" * size))


@st.composite
def honest(draw: st.DrawFn) -> bytes:
    """One message as a client may send it: whole or in fragments, with control frames between them."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(st.one_of(texts, payloads)) if opcode == TEXT else draw(payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    edges = [0, *cuts, len(payload)]
    parts = [payload[start:stop] for start, stop in pairwise(edges)]
    frames = b""
    for index, part in enumerate(parts):
        frames += masked(opcode if index == 0 else CONT, part, fin=index == len(parts) - 1, mask=draw(masks))
        frames += draw(st.one_of(st.just(b""), controls()))
    return frames


def controls() -> st.SearchStrategy[bytes]:
    """Pings and pongs as a client may send them."""
    return st.builds(masked, st.sampled_from([PING, PONG]), st.binary(max_size=125), mask=masks)


def closings() -> st.SearchStrategy[bytes]:
    """Close frames, good and bad ones."""
    codes = st.sampled_from([1000, 1001, 1004, 1005, 1006, 1012, 1015, 2999, 3000, 4999, 5000, 0])
    bodies = st.one_of(
        st.just(b""), st.binary(max_size=3), st.builds(lambda code, why: code.to_bytes(2) + why, codes, texts)
    )
    return st.builds(masked, st.just(CLOSE), bodies, mask=masks)


def anything() -> st.SearchStrategy[bytes]:
    """Frames with any opcode, any bits, with or without a mask, too long, or no frames at all."""
    frames = st.builds(
        masked,
        st.integers(0, 15),
        payloads,
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, 2, 4, 7]),
        mask=st.one_of(masks, st.none()),
    )
    overlong = st.sampled_from(
        [
            b"\x82\xfe\x00\x05" + bytes(9),
            b"\x82\xff" + bytes(7) + b"\x05" + bytes(9),
            b"\x81\xff" + b"\xff" * 8 + bytes(4),
        ]
    )
    return st.one_of(frames, overlong, st.binary(max_size=30))


sequences = st.lists(st.one_of(honest(), honest(), controls(), closings(), anything()), max_size=8).map(b"".join)


def _pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in pairwise(edges):
        yield data[start:stop]


@settings(max_examples=300, deadline=None)
@given(sequences, st.lists(st.integers(0, 5_000), max_size=12))
def test_the_reader_sees_what_the_state_machine_sees(data: bytes, cuts: list[int]) -> None:
    """Any bytes, cut anywhere, give the same events in the same order, down to the bytes of the answers."""
    reader, reference = WireReader(LIMITS), Reference()
    events: list[Event] = []
    for piece in _pieces(data, cuts):
        events += reader.feed(piece, 0.0)
    reference.feed(data)

    assert reference.events == events


@settings(max_examples=300, deadline=None)
@given(sequences, sequences, st.lists(st.integers(0, 5_000), max_size=12))
def test_after_our_close_only_the_clients_counts(before: bytes, after: bytes, cuts: list[int]) -> None:
    """Wherever our close falls, between frames or within one, the rest gives what the state machine gives."""
    reader, reference = WireReader(LIMITS), Reference()
    events = reader.feed(before, 0.0)
    reference.feed(before)
    if not any(isinstance(event, Ended) for event in events):
        reader.close(SHUTDOWN)
    reference.close()
    for piece in _pieces(after, cuts):
        events += reader.feed(piece, 0.0)
    reference.feed(after)

    assert reference.events == events


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(0, 500))
def test_any_bytes_and_any_limits_never_raise_and_end_once(pieces: list[bytes], seed: int) -> None:
    """With tight budgets, too, the reader raises nothing, and nothing follows the end."""
    limits = WebSocketLimits(message_size=seed % 50, fragments=1 + seed % 3, control_rate=1.0, control_burst=2.0)
    reader = WireReader(limits)
    events = [event for index, piece in enumerate(pieces) for event in reader.feed(piece, index * 0.1)]
    ends = [index for index, event in enumerate(events) if isinstance(event, Ended)]

    assert ends in ([], [len(events) - 1])
