from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.server import ServerProtocol

from gateway.disconnects import SHUTDOWN, TOO_MANY_REQUESTS
from gateway.transports.events import Answer, Ended, Message, Ponged
from gateway.transports.frames import close_frame
from gateway.transports.wire import WebSocketLimits, WireReader
from tests.support.rawsocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, masked

FLOODED = Ended(3013, by_client=False, frame=close_frame(TOO_MANY_REQUESTS))


def test_control_frames_have_a_budget() -> None:
    """So many at once, then so many a second; beyond it the link ends with 3013."""
    reader = WireReader(WebSocketLimits(control_rate=10.0, control_burst=3.0))

    assert [Ponged()] * 3 == reader.feed(masked(PONG) * 3, 0.0)
    assert [Ponged()] == reader.feed(masked(PONG), 0.1)
    assert [Answer(b"\x8a\x01x")] == reader.feed(masked(PING, b"x"), 0.2)
    assert [FLOODED] == reader.feed(masked(PING, b"x") * 2, 0.21)
    assert [] == reader.feed(masked(TEXT, b"ignored"), 9.0)


def test_empty_fragments_count_as_control_frames() -> None:
    """A fragment without payload carries nothing, so it is paid from the same budget; one with payload is not."""
    reader = WireReader(WebSocketLimits(control_burst=2.0))

    assert [] == reader.feed(masked(TEXT, fin=False) + masked(CONT, b"x", fin=False) * 30, 0.0)
    assert [FLOODED] == reader.feed(masked(CONT, fin=False) * 2, 0.0)


def test_a_close_frame_is_always_heard() -> None:
    """The budget does not stand in the way of an honest goodbye."""
    reader = WireReader(WebSocketLimits(control_burst=1.0))
    reader.feed(masked(PONG), 0.0)

    assert [Ended(1000, by_client=True, frame=b"\x88\x02\x03\xe8")] == reader.feed(masked(CLOSE, b"\x03\xe8"), 0.0)


def test_a_flood_after_our_close_ends_without_a_second_close_frame() -> None:
    """The budget holds while we wait for the client's close frame, too."""
    reader = WireReader(WebSocketLimits(control_burst=2.0))

    assert close_frame(SHUTDOWN) == reader.close(SHUTDOWN)
    assert [Ended(3013, by_client=False, frame=b"")] == reader.feed(masked(PING, b"x") * 3, 0.0)


def test_after_our_close_a_message_in_fragments_is_passed_over() -> None:
    """Nothing of it is handed over, and the client's close frame behind it is still found."""
    reader = WireReader(WebSocketLimits())
    reader.close(SHUTDOWN)
    message = masked(TEXT, b"a", fin=False) + masked(CONT, b"b", fin=False) + masked(CONT, b"c")
    assert [] == reader.feed(message, 0.0)
    [ended] = reader.feed(masked(CLOSE, b"\x03\xe8"), 0.0)
    assert isinstance(ended, Ended)


def test_a_rate_of_zero_is_no_limit() -> None:
    """An operator may turn the budget off."""
    reader = WireReader(WebSocketLimits(control_rate=0.0, control_burst=1.0))

    assert [Ponged()] * 64 == reader.feed(masked(PONG) * 100, 0.0)
    assert [Ponged()] * 36 == reader.feed(b"", 0.0)


@pytest.mark.parametrize("after", [b"", masked(CLOSE, b"\x03\xe8"), masked(TEXT, b"x")[:3]])
def test_frames_come_64_at_a_time(after: bytes) -> None:
    """What is left of a read waits here until it is asked for, and then nothing of it is missing."""
    reader = WireReader(WebSocketLimits())
    rounds = [reader.feed(masked(TEXT, b"x") * 200 + after, 0.0)]
    while reader.behind:
        rounds.append(reader.feed(b"", 0.0))
    assert [64, 64, 64] == [len(events) for events in rounds[:3]]
    events = [event for events in rounds for event in events]
    assert [Message(b"x", text=True)] * 200 == events[:200]
    assert len(events[200:]) == (len(after) > len(masked(TEXT, b"x")))


def test_after_our_close_frames_are_passed_over_64_at_a_time() -> None:
    """A flood behind the end of a connection is worth no more of a turn than one before it."""
    reader = WireReader(WebSocketLimits())
    reader.close(SHUTDOWN)
    assert [] == reader.feed(masked(TEXT, b"x") * 128 + masked(CLOSE, b"\x03\xe8"), 0.0)
    assert reader.behind
    assert [] == reader.feed(b"", 0.0)
    [ended] = reader.feed(b"", 0.0)
    assert isinstance(ended, Ended)
    assert not reader.behind


@pytest.mark.parametrize(("waiting", "events"), [(63, []), (64, [FLOODED])])
def test_fragments_of_one_message_are_counted(waiting: int, events: list[object]) -> None:
    """A message has at most 64 fragments: when as many wait for more, the link ends."""
    reader = WireReader(WebSocketLimits(fragments=64))
    fragments = masked(BINARY, b"x", fin=False) + masked(CONT, b"x", fin=False) * (waiting - 1)

    assert events == reader.feed(fragments, 0.0)


def test_a_message_in_as_many_fragments_as_allowed_is_whole() -> None:
    """The final fragment comes on top of the ones that waited; the next message counts from zero."""
    reader = WireReader(WebSocketLimits(fragments=3))
    message = masked(BINARY, b"a", fin=False) + masked(CONT, b"b", fin=False) + masked(CONT, b"c")

    assert [Message(b"abc", text=False)] * 2 == reader.feed(message * 2, 0.0)


def test_what_is_too_long_is_refused_at_its_header() -> None:
    """A length over the limit ends the link before any of the payload has come."""
    header = masked(BINARY, b"x" * 65_537)[:10]
    events = WireReader(WebSocketLimits()).feed(header, 0.0)

    assert [1009] == [event.code for event in events if isinstance(event, Ended)]


def test_so_is_a_fragment_that_makes_the_message_too_long() -> None:
    """What earlier fragments took of the limit is not there for a later one, and its payload is never stored."""
    reader = WireReader(WebSocketLimits(message_size=1_000))

    assert [] == reader.feed(masked(BINARY, b"x" * 700, fin=False), 0.0)
    events = reader.feed(masked(CONT, b"x" * 301)[:4], 0.0)
    assert [1009] == [event.code for event in events if isinstance(event, Ended)]


def test_an_unfinished_frame_is_kept_and_no_more() -> None:
    """What is stored between reads is bounded by the limit and one header."""
    reader = WireReader(WebSocketLimits(message_size=1_000))
    frame = masked(BINARY, b"x" * 1_000)
    for index in range(len(frame) - 1):
        assert [] == reader.feed(frame[index : index + 1], 0.0)

    assert len(reader._tail) == len(frame) - 1 <= 1_000 + 14
    assert [Message(b"x" * 1_000, text=False)] == reader.feed(frame[-1:], 0.0)


def test_the_state_machine_is_let_go_between_frames() -> None:
    """An idle connection holds none, also after pings and fragmented messages."""
    reader = WireReader(WebSocketLimits())

    reader.feed(masked(PING) + masked(TEXT, b"a", fin=False), 0.0)
    assert reader._machine is not None
    reader.feed(masked(CONT, b"b") + masked(PONG), 0.0)
    assert reader._machine is None
    assert reader._tail == b""


@contextmanager
def without_collector() -> Iterator[None]:
    """Leave freeing to the reference counts."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "frames",
    [
        masked(PING),
        masked(TEXT, b"a", fin=False) + masked(CONT, b"b"),
        masked(TEXT, b"a" * 1000, fin=False) + masked(TEXT, b"b"),
        masked(TEXT, b"a" * 1000, fin=False) + masked(3, b"b"),
        masked(TEXT, b"a" * 1000, fin=False) + masked(CLOSE, b"\x03\xe8"),
        masked(TEXT, b"\xc3", fin=False) + masked(CONT, b"{"),
    ],
    ids=["ping", "fragments", "text within text", "opcode", "close within a message", "utf-8"],
)
def test_nothing_is_left_to_the_garbage_collector(frames: bytes) -> None:
    """The machine is freed at once: cycles that hold a client's payloads would add up to far more than the limits."""
    with without_collector():
        before = {id(it) for it in gc.get_objects() if isinstance(it, ServerProtocol)}  # of tests before this one
        reader = WireReader(WebSocketLimits())
        assert reader.feed(frames, 0.0)
        assert [] == [it for it in gc.get_objects() if isinstance(it, ServerProtocol) and id(it) not in before]
