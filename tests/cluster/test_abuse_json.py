"""Who attacks with JSON: broken, endless, or good and still more than a parser takes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.cluster.siege import Siege, siege, token
from tests.support.attackers import connected, frame, heard, lines, upgraded
from tests.support.rawsocket import BINARY, CLOSE, TEXT, RawSocket, on_uvloop

SOURCE = "127.0.0.71"
FUZZ = 600
MORE_FUZZ = 100_000  # with --standard-load
REFUSED = {1007, 1009, 3500, 3501, 3502, 3503, 3506, 3508, 3509}  # ways in which a frame may end its connection
COMMAND = {"id": 2, "publish": {"channel": "plain:fuzz", "data": {"text": "hi", "n": [1, 2.5, None, True]}}}


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege")) as running:
        yield running


@pytest.fixture(name="rounds")
def _rounds(request: pytest.FixtureRequest) -> int:
    return MORE_FUZZ if request.config.getoption("--standard-load", default=False) else FUZZ


async def entered(besieged: Siege, user: str, *channels: str) -> RawSocket:
    """Connect with a token of this user."""
    return await connected(besieged.url, token(user), source=SOURCE, channels=channels)


async def chatting(besieged: Siege, user: str) -> RawSocket:
    """Enter a room of the chat."""
    return await upgraded(besieged.url, f"/ws/lobby?token={token(user)}", source=SOURCE)


NASTY = {
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 6_000 + b"1" + b"}" * 6_000,
    "deep without end": b"[" * 60_000,
    "too deep for others": b"[" * 500 + b"]" * 500,
    "1e400": b"1e400",
    "-1e400": b"-1e400",
    "tiny": b"1e-400",
    "huge integer": b"9" * 30_000,
    "huge fraction": b"0." + b"1" * 30_000,
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "keys that stand twice": b'{"a":1,"a":2,"channel":"closed:x"}',
    "10,000 keys": b"{" + b",".join(b'"%d":0' % number for number in range(6_000)) + b"}",
    "lone surrogate": b'"\\ud800"',
    "surrogates in turns": b'"' + b"\\udc00\\ud800" * 4_000 + b'"',
    "zero byte": b'"\\u0000"',
    "raw control character": b'"\x01"',
    "cut": b'{"a":',
    "leading zero": b"01",
    "comment": b"/* */1",
    "byte order mark": b"\xef\xbb\xbf1",
    "line ends": b'\n\n{"a"\n:1}\n',
    "blank": b" " * 60_000,
}


def commands_of(data: bytes) -> Iterator[bytes]:
    """Put data where a command could stand, or a part of it."""
    yield data
    yield b'{"id":2,"publish":{"channel":"plain:fuzz","data":' + data + b"}}"
    yield b'{"id":2,"subscribe":{"channel":' + data + b"}}"
    yield b'{"id":' + data + b',"publish":{}}'
    yield b'{"type":"chat","message":' + data + b"}"
    yield b'{"type":' + data + b"}"


def mutated(source: random.Random) -> bytes:
    """Return a good command with a few bytes changed, doubled or gone."""
    data = bytearray(json.dumps(COMMAND).encode())
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(data))
        match source.randrange(3):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                data[at:at] = data[source.randrange(len(data)) :]
            case _:
                del data[at : at + source.randint(1, 5)]
    return bytes(data)


async def survives(client: RawSocket, payload: bytes, opcode: int = TEXT) -> bool:
    """Send a payload; say whether the connection is still good. Anything but an answer or a refusal fails."""
    await client.send(frame(opcode, payload) + lines({"id": 77, "publish": {"channel": "plain:fuzz", "data": 1}}))
    while True:
        try:
            came = await client.frame()
        except EOFError:
            return False
        if came.opcode == CLOSE:
            assert came.code in REFUSED, payload[:80]
            client.close()
            return False
        if came.opcode == TEXT:
            return True


@on_uvloop
async def test_extreme_json_harms_nobody(besieged: Siege) -> None:
    """Each is refused, or delivered as it came; the node meets no bug and holds nobody up."""
    async with besieged.attack(rss=8.0):
        for data in NASTY.values():
            for payload in commands_of(data):
                for client in (await entered(besieged, "nasty"), await chatting(besieged, "nasty")):
                    await survives(client, payload[:65_536])
                    client.close()


@on_uvloop
async def test_random_bytes_harm_nobody(besieged: Siege, rounds: int) -> None:
    """Commands with random faults, as text and as binary."""
    source = random.Random(20_261_122)
    async with besieged.attack(rss=16.0):
        client = await entered(besieged, "fuzz")
        for number in range(rounds):
            opcode = BINARY if number % 4 == 0 else TEXT
            if not await survives(client, mutated(source), opcode):
                client = await entered(besieged, "fuzz")
        client.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[" * 60 + b"]" * 60, None),
        (b"[" * 61 + b"]" * 61, 107),
        (b"9" * 999, None),
        (b"9" * 1000, 107),
        (b"1e400", None),
        (b'{"a":1,"a":2}', None),
    ],
    ids=["deep", "too deep", "long", "too long", "out of range", "twice"],
)
@on_uvloop
async def test_what_breaks_readers_is_not_passed_on(besieged: Siege, data: bytes, code: int | None) -> None:
    """Data that other parsers refuse is error 107 for its publisher; the rest arrives byte by byte as it was."""
    reader = await entered(besieged, "reader", "plain:readers")
    writer = await entered(besieged, "writer")
    await writer.send(frame(TEXT, b'{"id":2,"publish":{"channel":"plain:readers","data":' + data + b"}}"))
    [reply] = await heard(writer)
    assert reply.get("error", {}).get("code") == code
    if code is None:
        assert data in (await reader.frame()).payload
    reader.close()
    writer.close()
