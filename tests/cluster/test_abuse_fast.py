"""Who sends as fast as the wire takes it: others wait for a slice of a turn, never for all that came in one read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cluster.siege import Siege, siege, token
from tests.support.attackers import CENTRIFUGE, Ending, connected, ending, frame, lines, paced, upgraded
from tests.support.exactness import within
from tests.support.rawsocket import CONT, TEXT, RawSocket, on_uvloop

SOURCE = "127.0.0.78"
LONGEST = 0.1  # seconds that one of the healthy may wait; without slices it was up to 5
FULL = 65_536  # bytes of a message
SECONDS = 30.0  # of a flood that nobody ends


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege")) as running:
        yield running


def longest() -> float:
    """Return for how long one of the crowd may wait, on this machine."""
    return within(LONGEST, otherwise=5.0)


async def poured(client: RawSocket, block: bytes) -> Ending:
    """Send the same again and again, as fast as it is taken, until the node closes; read what it answers."""
    reader = asyncio.ensure_future(ending(client))
    loop = asyncio.get_running_loop()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(SECONDS):
            while not reader.done():
                await loop.sock_sendall(client.sock, block)
    return await reader


@on_uvloop
async def test_pongs_that_nobody_asked_for_are_no_way_in(besieged: Siege) -> None:
    """13 MB of them before any connect, 20,000 in a frame: the first is 3501, and nobody else waits for the others."""
    async with besieged.attack(rss=8.0, longest=longest()):
        client = await upgraded(besieged.url, f"{CENTRIFUGE}?cf_ws_frame_ping_pong=true", source=SOURCE)
        end = asyncio.ensure_future(ending(client))
        with suppress(OSError):
            await client.send(frame(TEXT, b"{}\n" * (FULL // 3)) * 200)
        assert (await end).code == 3501
        client.close()


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(frame(TEXT, b'{"id":7,"rpc":{}}') * 1_000, id="frames"),
        pytest.param(frame(TEXT, b"\n".join([b'{"id":7,"rpc":{}}'] * (FULL // 18))), id="commands"),
        pytest.param((frame(TEXT, b'{"id":7,', fin=False) + frame(CONT, b'"rpc":{}}')) * 1_000, id="fragments"),
        pytest.param(frame(TEXT, b"{}") * 1_000, id="pongs"),
    ],
)
@on_uvloop
async def test_a_flood_at_full_speed_is_ended_like_any_other(besieged: Siege, block: bytes) -> None:
    """Over the rate for five seconds on end: 3013, and until then it takes turns with the others."""
    async with besieged.attack(rss=12.0, longest=longest()):
        path = f"{CENTRIFUGE}?cf_ws_frame_ping_pong=true"
        client = await upgraded(besieged.url, path, source=SOURCE)
        await client.send(lines({"id": 1, "connect": {"token": token("flooder")}}))
        end = await poured(client, block)
        client.close()
    assert end.code == 3013
    assert end.after >= 5.0


@on_uvloop
async def test_blank_lines_count(besieged: Siege) -> None:
    """They say nothing and are not answered; a thousand a second are a flood all the same."""
    async with besieged.attack(rss=4.0, longest=longest()):
        client = await upgraded(besieged.url, f"/ws/lobby?token={token('silent')}", source=SOURCE)
        blanks = (frame(TEXT, b" ") for _ in range(20_000))
        _, end = await asyncio.gather(paced(client, blanks, 1_000.0), ending(client))
        client.close()
    assert end.code == 3013


@on_uvloop
async def test_what_comes_after_the_end_is_passed_over_in_turns(besieged: Siege) -> None:
    """A client that was told to go sends on: 3 MB of small frames are looked through for its close frame, in slices."""
    async with besieged.attack(rss=8.0, longest=longest()):
        client = await connected(besieged.url, token("gone"), source=SOURCE)
        end = asyncio.ensure_future(ending(client))
        with suppress(OSError):
            await client.send(frame(TEXT, b"\n") + (frame(TEXT, b"x", fin=False) + frame(CONT, b"y")) * 200_000)
        assert (await end).code == 3501
        client.close()
