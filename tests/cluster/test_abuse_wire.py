"""Who attacks with frames: broken ones, endless ones, far too many, or none of ours taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.cluster.siege import Siege, siege, token
from tests.support.attackers import (
    CENTRIFUGE,
    connected,
    ending,
    flooding,
    frame,
    lines,
    paced,
    upgraded,
)
from tests.support.exactness import within
from tests.support.rawsocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, RawSocket, masked, on_uvloop, upgrade

LIMIT = 65_536  # bytes in a message
ROUNDS = 20  # of a table of frames: a single one would be over before the crowd heard anything
SOURCE = "127.0.0.50"
BOMBS = 10
FLOOD_SECONDS = 4.0
CUT_OFF_SECONDS = 2.5  # within them a flooder is told, and its link is cut
CROWD_CPU = 0.10  # share of a core that the healthy crowd alone may take
BREAKERS = {
    "unmasked": masked(TEXT, b"{}", mask=None),
    "RSV1": masked(TEXT, b"{}", rsv=4),
    "RSV2": masked(TEXT, b"{}", rsv=2),
    "RSV3": masked(TEXT, b"{}", rsv=1),
    "RSV1 on a ping": masked(PING, b"", rsv=4),
    **{f"opcode {opcode}": masked(opcode, b"{}") for opcode in (3, 7, 11, 15)},
    "close of 1 byte": masked(CLOSE, b"\x03"),
    **{f"close code {code}": masked(CLOSE, code.to_bytes(2)) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)},
    "fragmented ping": masked(PING, b"", fin=False),
    "fragmented close": masked(CLOSE, b"\x03\xe8", fin=False),
    "ping of 126 bytes": masked(PING, b"a" * 126),
    "pong of 64 KiB": masked(PONG, b"a" * 65_536),
    "continuation of nothing": masked(CONT, b"{}"),
    "text within text": masked(TEXT, b"{", fin=False) + masked(TEXT, b"}"),
}
NOT_UTF8 = {
    "a cut character": masked(TEXT, b'{"a":"\xc3"}'),
    "a surrogate": masked(TEXT, b"\xed\xa0\x80"),
    "overlong": masked(TEXT, b"\xc0\xaf"),
    "beyond the last plane": masked(TEXT, b"\xf4\x90\x80\x80"),
    "in fragments": masked(TEXT, b"\xc3", fin=False) + masked(CONT, b"{"),
    "in a close reason": masked(CLOSE, b"\x03\xe8\xff\xfe"),
}
TOO_BIG = {
    "at once": frame(TEXT, b"a" * (LIMIT + 1)),
    "only announced": b"\x81\xff" + (1 << 40).to_bytes(8) + bytes(4),
    "announced beyond what RFC 6455 allows": b"\x81\xff" + b"\xff" * 8 + bytes(4),
    "in two fragments": frame(TEXT, b"a" * LIMIT, fin=False) + frame(CONT, b"a"),
    "in many": frame(BINARY, b"a" * 2048, fin=False) + 32 * frame(CONT, b"a" * 2048, fin=False),
}


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege")) as running:
        yield running


async def code_for(url: str, data: bytes) -> int | None:
    """Send bytes on a fresh WebSocket and return the code that it is closed with."""
    client = await upgraded(url, source=SOURCE)
    await client.send(data)
    try:
        return (await ending(client)).code
    finally:
        client.close()


async def codes(besieged: Siege, table: dict[str, bytes], rss: float) -> list[dict[str, int | None]]:
    """Try a whole table again and again; the first time is not measured."""

    async def once() -> dict[str, int | None]:
        return {name: await code_for(besieged.url, data) for name, data in table.items()}

    warm = await once()
    async with besieged.attack(rss=rss):
        return [warm, *[await once() for _ in range(ROUNDS)]]


@pytest.mark.parametrize(
    ("code", "table", "rss"),
    [(1002, BREAKERS, 8.0), (1007, NOT_UTF8, 2.0), (1009, TOO_BIG, 1.0)],
    ids=["frames", "utf-8", "size"],
)
@on_uvloop
async def test_each_broken_rule_has_its_code(besieged: Siege, code: int, table: dict[str, bytes], rss: float) -> None:
    """Every time, without a traceback, with at most one line of log for each close, and hardly any memory.

    What a connection was made of may stay until the timer wheel has come round: a few KiB, 25 s at most.
    """
    before, closed = len(besieged.log()), besieged.counted(f"disconnects_total{{{code},server}}")
    for got in await codes(besieged, table, rss):
        assert dict.fromkeys(table, code) == got
    tries = (ROUNDS + 1) * len(table)
    await besieged.until(lambda: besieged.counted(f"disconnects_total{{{code},server}}") - closed == tries)
    assert len(besieged.log()) - before <= tries


ENDLESS = {
    "1-byte fragments": (frame(TEXT, b"a", fin=False), frame(CONT, b"a", fin=False)),
    "empty fragments": (frame(TEXT, fin=False), frame(CONT, fin=False)),
}


@pytest.mark.parametrize("kind", ENDLESS)
@on_uvloop
async def test_messages_without_end_are_cut_off(besieged: Siege, kind: str) -> None:
    """A message in ever smaller pieces ends with 3013; the sender who goes on costs next to nothing."""
    first, more = ENDLESS[kind]
    async with besieged.attack(rss=2.0):
        clients = [await upgraded(besieged.url, source=SOURCE) for _ in range(10)]
        began = time.monotonic()
        for client in clients:
            await client.send(first)
        floods = asyncio.gather(*(flooding(client, more * 64, FLOOD_SECONDS) for client in clients))
        ends = await asyncio.gather(*map(ending, clients))
        assert {end.code for end in ends} == {3013}
        assert max(end.at for end in ends) - began <= within(2.0, otherwise=2.0)
        await asyncio.sleep(began + CUT_OFF_SECONDS - time.monotonic())
        cpu, at = besieged.node.cpu, time.monotonic()
        assert sum(await floods) > 10 * 64 * len(more)
        assert (besieged.node.cpu - cpu) / (time.monotonic() - at) <= 0.10 + CROWD_CPU
    for client in clients:
        client.close()


@on_uvloop
async def test_pings_without_reading_cost_neither_memory_nor_time(besieged: Siege) -> None:
    """Whoever pings faster than the budget is gone within 2 s, reading or not; its replies are not stored."""
    limited = besieged.counted("rate_limited_total{control}")
    async with besieged.attack(rss=2.0):
        clients = [await upgraded(besieged.url, source=SOURCE, receive_buffer=4096) for _ in range(10)]
        began = time.monotonic()
        sent, ends = await asyncio.gather(
            asyncio.gather(*(flooding(client, masked(PING, b"a" * 125) * 32, 8.0) for client in clients)),
            besieged.gone(clients),
        )
        assert max(ends) - began <= within(2.0, otherwise=2.0)  # closed, and cut
        assert min(sent) >= 32 * 131
    assert besieged.counted("rate_limited_total{control}") - limited == len(clients)
    for client in clients:
        client.close()


@on_uvloop
async def test_pongs_that_nobody_asked_for_are_counted_too(besieged: Siege) -> None:
    """The budget is for all control frames: a flood of pongs ends with 3013."""
    async with besieged.attack(rss=2.0):
        client = await upgraded(besieged.url, source=SOURCE)
        _, end = await asyncio.gather(flooding(client, masked(PONG) * 32, 4.0), ending(client))
        assert end.code == 3013
        client.close()


@on_uvloop
async def test_a_bomb_is_not_inflated(besieged: Siege) -> None:
    """Compression is not negotiated however it is offered, and a frame that claims it is 1002."""
    offers = ("permessage-deflate", "permessage-deflate; client_max_window_bits", "x-webkit-deflate-frame")
    bomb = masked(TEXT, bytes(LIMIT), rsv=4)
    async with besieged.attack(rss=2.0):
        for offer in offers * BOMBS:
            client = await RawSocket.connect(besieged.url, source=SOURCE)
            await client.send(upgrade(CENTRIFUGE, f"Sec-WebSocket-Extensions: {offer}"))
            head = await client.head()
            assert head.status == 101
            assert "sec-websocket-extensions" not in head.headers
            await client.send(bomb)
            assert (await ending(client)).code == 1002
            client.close()


async def stalled(besieged: Siege, count: int, channel: str) -> list[RawSocket]:
    """Open clients that subscribe and then never read again, over as many addresses as are needed."""
    return [
        await connected(
            besieged.url,
            token(f"stalled-{number}"),
            source=f"127.0.2.{1 + number // 100}",
            channels=[channel],
            receive_buffer=4096,
        )
        for number in range(count)
    ]


async def publishing(besieged: Siege, channel: str, size: int, rate: float, count: int) -> None:
    """Publish so many publications at a rate."""
    client = await connected(besieged.url, token("publisher"), source=SOURCE)
    drain = asyncio.ensure_future(ending(client))
    frames = (
        lines({"id": number, "publish": {"channel": channel, "data": "a" * size}}) for number in range(2, count + 2)
    )
    assert await paced(client, frames, rate) == count
    drain.cancel()
    client.close()


@on_uvloop
async def test_who_never_reads_is_told_and_cut_and_holds_little(besieged: Siege) -> None:
    """A full queue is 3008: the link is gone within 12 s, at most 1.5 MiB waited, and nobody else notices."""
    slow = besieged.counted("slow_consumers_total{bytes}")
    async with besieged.attack(rss=8.0, slower=1.2):
        clients = await stalled(besieged, 3, "plain:unread")
        began = time.monotonic()
        worst = asyncio.ensure_future(_worst_queue(besieged))
        await publishing(besieged, "plain:unread", 60_000, 20.0, 40)
        ends = await besieged.gone(clients)
        assert max(ends) - began <= 12.0
        assert worst.cancel(), worst.exception()
        for client in clients:
            client.close()
    assert besieged.counted("slow_consumers_total{bytes}") - slow == 3


async def _worst_queue(besieged: Siege) -> None:
    while True:
        assert besieged.counted("client_queue_max_bytes") <= 1.5 * 1024 * 1024
        await asyncio.sleep(0.1)


@on_uvloop
async def test_two_hundred_who_do_not_read_hold_up_nobody(besieged: Siege) -> None:
    """A hot channel of large publications with 200 stalled readers: each has its own queue, and they share frames."""
    slow = besieged.counted("slow_consumers_total{bytes}")
    async with besieged.attack(rss=300.0):
        clients = await stalled(besieged, 200, "plain:hot")
        await publishing(besieged, "plain:hot", 60_000, 10.0, 40)
        await besieged.gone(clients)
    assert besieged.counted("slow_consumers_total{bytes}") - slow == 200
    for client in clients:
        client.close()
