"""Cutting a stream of Redis into messages."""

from __future__ import annotations

import pytest

from tests.support.resp import Messages

WHOLE = (
    b"+OK\r\n",
    b":7\r\n",
    b"$5\r\na\r\nbc\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"_\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n",
    b"%1\r\n+a\r\n*2\r\n:1\r\n$1\r\nx\r\n",
    b"|1\r\n+ttl\r\n:9\r\n$1\r\nx\r\n",
)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_messages_come_out_whole_however_they_were_cut(cut: int) -> None:
    """What comes out is what went in, message by message, whatever the sizes of the chunks."""
    stream, messages = b"".join(WHOLE), Messages()
    found = [it for at in range(0, len(stream), cut) for it in messages.feed(stream[at : at + cut])]
    assert list(WHOLE) == found
    assert messages.rest == b""


@pytest.mark.parametrize("data", [b"HTTP/1.1 101\r\n\r\n", b"$x\r\n", b"\x81\x05"])
def test_another_protocol_passes_as_it_comes(data: bytes) -> None:
    """What is not RESP is never held back, nor looked at again."""
    messages = Messages()
    assert [b"+OK\r\n", data] == messages.feed(b"+OK\r\n" + data)
    assert [b"+OK"] == messages.feed(b"+OK")
