"""Frames of the generator's clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.clients import frames


def unmasked(payload: bytes, first: int) -> bytes:
    """Build a server's frame."""
    size = len(payload)
    if size < 126:
        head = bytes((first, size))
    elif size < 65_536:
        head = bytes((first, 126)) + size.to_bytes(2)
    else:
        head = bytes((first, 127)) + size.to_bytes(8)
    return head + payload


@pytest.mark.parametrize(("size", "head"), [(0, "8180"), (125, "81fd"), (126, "81fe007e"), (65_536, "81ff" + "00" * 5)])
def test_clients_mask_with_nothing(size: int, head: str) -> None:
    """Each way to write a length, the bit that says masked, four bytes of zero, and the payload as it is."""
    whole = frames.masked(b"x" * size)
    assert whole.hex().startswith(head)
    assert b"\0\0\0\0" + b"x" * size == whole[-size - 4 :]


@given(
    messages=st.lists(st.tuples(st.sampled_from([1, 2, 8, 9, 10]), st.sampled_from([0, 1, 125, 126, 70_000]))),
    cuts=st.lists(st.integers(1, 5000), max_size=30),
)
def test_messages_are_whole_however_they_are_cut(messages: list[tuple[int, int]], cuts: list[int]) -> None:
    """What comes out does not depend on where the network cut it."""
    wire = b"".join(unmasked(b"x" * size, frames.FIN | opcode) for opcode, size in messages)
    reader, taken = frames.Reader(), []
    for cut in (*cuts, len(wire)):
        piece, wire = wire[:cut], wire[cut:]
        taken += [(opcode, len(payload)) for opcode, payload in reader.take(piece)]
    assert messages == taken


def test_fragments_are_joined_around_control_frames() -> None:
    """A ping may come between the fragments of a message."""
    wire = unmasked(b"a", 1) + unmasked(b"?", 0x89) + unmasked(b"b", 0) + unmasked(b"c", 0x80) + unmasked(b"d", 0x81)
    assert [(9, b"?"), (1, b"abc"), (1, b"d")] == list(frames.Reader().take(wire))


def test_an_upgrade_is_proved() -> None:
    """The example of RFC 6455."""
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    assert frames.accepting(key) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert b"GET /x HTTP/1.1\r\nHost: h:1\r\n" in frames.upgrade("h:1", "/x", key)
    assert frames.upgrade("h:1", "/x", key).endswith(b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "expected"),
    [(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After:  7 ", (503, b"7")), (b"SSH-2.0-x", (0, b"")), (b"", (0, b""))],
)
def test_heads_are_read(head: bytes, expected: tuple[int, bytes]) -> None:
    """Status and headers of an answer; what is no HTTP has none."""
    assert expected == (frames.status(head), frames.header(head, b"retry-after"))


def test_a_close_frame_has_a_code_or_none() -> None:
    """1005 stands for none, as RFC 6455 has it."""
    assert [3001, 1005] == [frames.close_code(it) for it in (b"\x0b\xb9shutdown", b"")]
