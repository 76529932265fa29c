"""Who attacks by waiting: every kind of client that does nothing, or as little as can be, at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.cluster.healthy import percentile
from tests.cluster.siege import Siege, siege, token
from tests.support.attackers import (
    Ending,
    ask,
    connected,
    dripping,
    ending,
    http_ending,
    sipping,
    upgraded,
    visits,
)
from tests.support.rawsocket import RawSocket, on_uvloop

SLOW_HEADS = 200
MORE_SLOW_HEADS = 1000  # with --standard-load
SILENT = 50
NAMELESS = 50
DEAF = 5
SLOPPY = 5
PROMPT = 0.2  # seconds for the handshake of somebody else
LATE = 1.5  # seconds; what a busy machine may add to a deadline


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege")) as running:
        yield running


@pytest.fixture(name="heads")
def _heads(request: pytest.FixtureRequest) -> int:
    return MORE_SLOW_HEADS if request.config.getoption("--standard-load", default=False) else SLOW_HEADS


async def endings(sockets: Sequence[RawSocket]) -> list[Ending]:
    """Read from all until the node closes each."""
    try:
        return await asyncio.gather(*map(ending, sockets))
    finally:
        for client in sockets:
            client.close()


async def slow_heads(url: str, count: int) -> list[Ending]:
    """Say the head of a request a byte a second."""
    sockets = [await RawSocket.connect(url, source=f"127.0.3.{1 + number // 200}") for number in range(count)]
    return await asyncio.gather(*(dripping(it, b"GET /ws HTTP/1.1\r\nX-Slow: aaaa", 1.0) for it in sockets))


async def silent(url: str) -> list[Ending]:
    """Connect and say nothing."""
    return await asyncio.gather(
        *[http_ending(await RawSocket.connect(url, source="127.0.3.10")) for _ in range(SILENT)]
    )


async def nameless(url: str) -> list[Ending]:
    """Open WebSockets of both kinds and never say who it is."""
    paths = ["/connection/websocket", "/ws/lobby"] * (NAMELESS // 2)
    return await endings([await upgraded(url, path, source="127.0.3.11") for path in paths])


async def sloppy(url: str) -> list[Ending]:
    """Connect properly, read everything, and never answer a ping, in either protocol."""
    sockets = [await connected(url, token(f"sloppy-{at}"), source="127.0.3.12") for at in range(SLOPPY)]
    chat = f"/ws/lobby?token={token('sloppy')}"
    sockets += [await upgraded(url, chat, source="127.0.3.12")]
    return await endings(sockets)


async def deaf(besieged: Siege, *, sips: bool) -> list[float]:
    """Let the node write more than the kernel takes, and read nothing, or a byte a second; return for how long."""
    channel = f"plain:unread-{sips}"
    sockets = [
        await connected(
            besieged.url, token(f"{channel}-{at}"), source="127.0.3.13", channels=[channel], receive_buffer=4096
        )
        for at in range(DEAF)
    ]
    publisher = await connected(besieged.url, token(f"{channel}-publisher"), source="127.0.3.14")
    for number in range(2, 10):  # less than the queue holds: only time tells
        await ask(publisher, {"id": number, "publish": {"channel": channel, "data": "a" * 60_000}})
    began = time.monotonic()
    readers = [asyncio.ensure_future(sipping(it, 1, 1.0)) for it in sockets if sips]
    try:
        return [at - began for at in await besieged.gone(sockets)]
    finally:
        for reader in readers:
            reader.cancel()
        for client in [*sockets, publisher]:
            client.close()


def codes_of(ends: Sequence[Ending | float]) -> set[int | None]:
    """Return the different codes or statuses that they got."""
    return {end.status if end.code is None else end.code for end in ends if isinstance(end, Ending)}


def seconds_of(ends: Sequence[Ending | float]) -> list[float]:
    """Return for how many seconds each was borne."""
    return [end.after if isinstance(end, Ending) else end for end in ends]


@on_uvloop
async def test_every_way_of_doing_nothing_has_its_end(besieged: Siege, heads: int) -> None:
    """Slow heads, silence, no name, no pong and no reading each end at their deadline; others get in as promptly."""
    before = besieged.counters()
    async with besieged.attack(rss=24.0):
        (head, still, named, pong, unread, sipped), prompt = await asyncio.gather(
            asyncio.gather(
                slow_heads(besieged.url, heads),
                silent(besieged.url),
                nameless(besieged.url),
                sloppy(besieged.url),
                deaf(besieged, sips=False),
                deaf(besieged, sips=True),
            ),
            asyncio.to_thread(visits, besieged.url, "127.0.3.20", 10.0),
        )
    for name, ends, code, soonest, latest in (
        ("slow heads", head, {408}, 9.0, 15.0),
        ("silence", still, {None}, 9.0, 10.0 + LATE),
        ("no name", named, {3502}, 9.0, 10.0 + LATE),
        ("no pong", pong, {3012}, 12.0, 35.0),
        ("no reading", unread, set(), 8.0, 12.0 + LATE),
        ("a byte a second", sipped, set(), 8.0, 15.0),
    ):
        assert codes_of(ends) == code, name
        assert soonest <= min(seconds_of(ends)), name
        assert max(seconds_of(ends)) <= latest, name
    assert percentile(prompt, 0.99) <= PROMPT
    after = besieged.counters()
    for series, count in (
        ("handshakes_total{timeout}", heads + SILENT),
        ("disconnects_total{3502,server}", NAMELESS),
        ("disconnects_total{3012,server}", SLOPPY + 1),
        ("slow_consumers_total{age}", 2 * DEAF),
    ):
        assert count == after.get(f"gateway_{series}", 0) - before.get(f"gateway_{series}", 0), series
