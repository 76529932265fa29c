"""One connection of the generator."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from loadtests.clients import frames
from loadtests.clients.link import GONE, LONGEST_HEAD, HandshakeError, Link
from tests.loadtests.clients.test_frames import unmasked


class Transport:
    """Takes bytes down; closing it is told to the link, as a loop does."""

    def __init__(self, link: Link) -> None:
        self.sent = b""
        self.reading = True
        self._link = link

    def write(self, data: bytes) -> None:
        """Note it."""
        self.sent += data

    def close(self) -> None:
        """End."""
        asyncio.get_running_loop().call_soon(self._link.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        """Note it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True


class Ends:
    """A link with what it tells."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.ended: list[int] = []
        self.link = Link("h", "/x", told=self.told.append, ended=self.ended.append)
        self.transport = Transport(self.link)
        self.link.connection_made(cast("Any", self.transport))

    def upgrade(self, behind: bytes = b"") -> None:
        """Answer the handshake as a server does, with `behind` in the same segment."""
        key = frames.header(self.transport.sent, b"sec-websocket-key")
        head = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: " + frames.accepting(key)
        self.transport.sent = b""
        self.link.data_received(head + b"\r\n\r\n" + behind)


async def test_messages_may_come_with_the_answer_to_the_handshake() -> None:
    """Head and frames in one segment, or the head in two."""
    ends = Ends()
    ends.upgrade(unmasked(b"{}", 0x81))
    await ends.link.upgraded
    assert [b"{}"] == ends.told
    ends.link.send(b"hello")
    assert frames.masked(b"hello") == ends.transport.sent


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nfull", (503, "full", 7.0)),
        (b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n\r\n", (101, "", 0.0)),
        (b"SSH-2.0\r\n\r\n", (0, "", 0.0)),
        (b"x" * (LONGEST_HEAD + 1), (0, "a head without an end", 0.0)),
    ],
)
async def test_another_answer_is_a_refusal(answer: bytes, expected: tuple[int, str, float]) -> None:
    """Status, what the body says and when to come back are known; the connection is dropped."""
    ends = Ends()
    ends.link.data_received(answer[:3])
    ends.link.data_received(answer[3:])
    with pytest.raises(HandshakeError) as caught:
        await ends.link.upgraded
    assert expected == (caught.value.status, caught.value.detail, caught.value.retry_after)
    await ends.link.lost
    assert not ends.link.open


async def test_who_hangs_up_during_the_handshake_refuses() -> None:
    """No answer is no connection."""
    ends = Ends()
    ends.link.connection_lost(None)
    with pytest.raises(HandshakeError, match="hung up"):
        await ends.link.upgraded
    assert [GONE] == ends.ended
    ends.link.send(b"nobody reads this")
    ends.link.close()
    ends.link.read(True)


async def test_a_ping_is_answered_and_a_close_is_echoed() -> None:
    """As RFC 6455 wants it; the code is told when the connection has ended."""
    ends = Ends()
    ends.upgrade()
    ends.link.data_received(unmasked(b"?", 0x89) + unmasked(b"\x0b\xb9shutdown", 0x88))
    assert frames.masked(b"?", frames.PONG) + frames.masked(b"\x0b\xb9", frames.CLOSE) == ends.transport.sent
    await ends.link.lost
    assert [3001] == ends.ended
    ends.link.data_received(unmasked(b"?", 0x89))  # what is left in the buffer of a loop


async def test_a_goodbye_says_so() -> None:
    """Close sends a close frame, cut sends nothing; reading stops and goes on."""
    ends = Ends()
    ends.upgrade()
    ends.link.read(False)
    assert not ends.transport.reading
    ends.link.read(True)
    assert ends.transport.reading
    ends.link.close()
    assert frames.masked(b"\x03\xe8", frames.CLOSE) == ends.transport.sent
