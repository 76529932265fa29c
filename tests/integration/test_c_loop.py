"""The C loop is an honest ceiling: a WebSocket server that bears what clients and networks do."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.bench.rig import Server
from loadtests.peers.registry import C_LOOP
from tests.support.rawsocket import BINARY, CLOSE, CONT, KEY, PING, PONG, TEXT, RawSocket, masked, upgrade

pytestmark = pytest.mark.needs(f"peer {C_LOOP.name}")
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
SIZE = 60_000  # bytes of a large publication
KEPT = 1 << 20  # bytes that are kept for who does not read


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[Server]:
    with C_LOOP.running("") as server:
        yield server


@pytest.fixture(name="url")
def _url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


async def test_it_proves_that_it_read_the_key(url: str) -> None:
    """The handshake is answered as the RFC computes it; what is no handshake gets a plain answer."""
    accepted = base64.b64encode(hashlib.sha1((KEY + GUID).encode(), usedforsecurity=False).digest()).decode()
    client = await RawSocket.connect(url)
    await client.send(upgrade("/subscribe"))
    head = await client.head()
    assert (101, accepted) == (head.status, head.headers["sec-websocket-accept"])
    client.close()
    other = await RawSocket.connect(url)
    await other.send(b"GET / HTTP/1.1\r\n\r\n")
    assert 200 == (await other.head()).status
    assert b"" == await other.rest()


@pytest.mark.parametrize("size", [1, 125, 126, 146, 60_000])
async def test_a_frame_cut_anywhere_arrives_whole(url: str, size: int) -> None:
    """Three pieces of one masked frame become one frame for the subscriber, and one acknowledgement."""
    subscriber, publisher = await RawSocket.websocket(url, "/subscribe"), await RawSocket.websocket(url, "/publish")
    other = await RawSocket.websocket(url, "/publish")
    payload = bytes(ord("a") + it % 26 for it in range(size))
    frame = masked(TEXT, payload)
    for piece in (frame[:1], frame[1 : len(frame) // 2], frame[len(frame) // 2 :]):
        await publisher.send(piece)
        await other.send(masked(PING))
        assert PONG == (await other.frame()).opcode  # so the piece has been read: it came before
    got = await subscriber.frame()
    assert (TEXT, payload) == (got.opcode, got.payload)
    assert b'{"id":0}' == (await publisher.frame()).payload
    for it in (subscriber, publisher, other):
        it.close()


async def test_frames_that_come_together_are_told_apart(url: str) -> None:
    """Eight publications in one piece are eight frames, in their order, and eight acknowledgements."""
    subscriber, publisher = await RawSocket.websocket(url, "/subscribe"), await RawSocket.websocket(url, "/publish")
    await publisher.send(b"".join(masked(TEXT, b"%d" % it) for it in range(8)))
    assert [b"%d" % it for it in range(8)] == [(await subscriber.frame()).payload for _ in range(8)]
    assert [b'{"id":0}'] * 8 == [(await publisher.frame()).payload for _ in range(8)]
    subscriber.close()
    publisher.close()


async def test_pings_and_closes_are_answered(url: str) -> None:
    """A ping comes back as a pong, a close as a close with its code, and then the connection ends."""
    client = await RawSocket.websocket(url, "/subscribe")
    await client.send(masked(PING, b"hey"))
    pong = await client.frame()
    assert (PONG, b"hey") == (pong.opcode, pong.payload)
    await client.send(masked(CLOSE, (1000).to_bytes(2) + b"bye"))
    assert (CLOSE, 1000) == ((closed := await client.frame()).opcode, closed.code)
    assert b"" == await client.rest()


@pytest.mark.parametrize(
    "junk",
    [
        masked(TEXT, b"bare", mask=None),
        masked(TEXT, b"half", fin=False),
        masked(CONT, b"rest"),
        masked(BINARY, b"\0"),
        masked(TEXT, b"?", rsv=4),
        masked(TEXT, bytes(70_000)),
    ],
    ids=["unmasked", "fragment", "continuation", "binary", "extension", "too long"],
)
async def test_who_breaks_the_rules_goes_and_nobody_else(url: str, junk: bytes) -> None:
    """A client that sends what nobody here sends is dropped; a subscriber still gets the next publication."""
    subscriber, publisher = await RawSocket.websocket(url, "/subscribe"), await RawSocket.websocket(url, "/publish")
    rogue = await RawSocket.websocket(url, "/publish")
    await rogue.send(junk)
    assert b"" == await rogue.rest()
    await publisher.send(masked(TEXT, b"still there"))
    assert b"still there" == (await subscriber.frame()).payload
    subscriber.close()
    publisher.close()


async def test_who_does_not_read_is_dropped_and_who_reads_late_gets_everything(server: Server, url: str) -> None:
    """What a full socket refuses is kept, in order, up to 1 MiB; beyond that a client goes, and holds up nobody."""
    healthy, publisher = await RawSocket.websocket(url, "/subscribe"), await RawSocket.websocket(url, "/publish")

    async def publish(number: int) -> None:
        await publisher.send(masked(TEXT, publication(number), mask=b"\0\0\0\0"))
        assert publication(number) == (await healthy.frame()).payload
        await publisher.frame()

    stuck, sent = await reluctant(url), 0
    sockets = len(open_files(server))
    while len(open_files(server)) == sockets:
        await publish(sent)
        sent += 1
    taken = len(await stuck.rest())  # by the kernel
    assert -2 * SIZE < sent * SIZE - taken - KEPT < 2 * SIZE
    late, much = await reluctant(url), sent - KEPT // SIZE // 2
    for it in range(much):
        await publish(it)
    assert [publication(it) for it in range(much)] == [(await late.frame()).payload for _ in range(much)]
    for client in (late, healthy, publisher):
        client.close()


def publication(number: int) -> bytes:
    """Return a payload that tells its number."""
    return b"%08d" % number * (SIZE // 8)


async def reluctant(url: str) -> RawSocket:
    """Subscribe with a small receive buffer; nothing is read unless asked for."""
    client = await RawSocket.connect(url, receive_buffer=4096, segment=1400)
    await client.send(upgrade("/subscribe"))
    assert 101 == (await client.head()).status
    return client


def open_files(server: Server) -> list[Path]:
    """Return what the server has open."""
    return list(Path(f"/proc/{server.pid}/fd").iterdir())
