"""Who attacks before there is a WebSocket: floods, crowds from one address, and requests that are none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cluster.healthy import CHANNELS, LISTENERS, percentile
from tests.cluster.siege import Siege, siege
from tests.support.attackers import handshake, http_ending, visits
from tests.support.rawsocket import RawSocket, on_uvloop, upgrade

PER_ADDRESS = 200  # the default
ROOM = 500  # of this node
CROWD = CHANNELS * LISTENERS + 1
FLOOD_SECONDS = 4.0
FLOODERS = 8
PROMPT = 0.2  # seconds for the handshake of somebody else
ROUNDS = 30  # of a table of requests: a single one would be over before the crowd heard anything
REFUSAL_CPU = 0.0005  # seconds of the node for one handshake that it refuses; 0.00013 on a machine of 2026


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege"), CLIENT__CONNECTION_LIMIT=str(ROOM)) as running:
        yield running


async def crowding(url: str, source: str, count: int) -> tuple[list[RawSocket], list[int]]:
    """Open as many WebSockets as asked for, one after the other; return the open ones and the status of the others."""
    sockets, refusals = [], []
    for _ in range(count):
        client, head, _ = await handshake(url, source=source)
        if head.status == 101:
            sockets.append(client)
        else:
            assert int(head.headers["retry-after"]) > 0
            refusals.append(head.status)
            client.close()
    return sockets, refusals


async def flood(url: str, source: str, until: float) -> list[int]:
    """Ask for one upgrade after the other; return the statuses."""
    statuses = []
    while time.monotonic() < until:
        client, head, _ = await handshake(url, source=source)
        statuses.append(head.status)
        client.close()
    return statuses


@on_uvloop
async def test_one_address_gets_its_share_and_its_flood_is_refused_cheaply(besieged: Siege) -> None:
    """Exactly 200 connections of one address stand; what it tries beyond is 429, and costs others nothing."""
    refused = besieged.counted("handshakes_total{limit_ip}")
    async with besieged.attack(rss=16.0):
        sockets, refusals = await crowding(besieged.url, "127.0.0.20", PER_ADDRESS + 10)
        assert len(sockets) == PER_ADDRESS
        assert refusals == [429] * 10
        cpu, until = besieged.node.cpu, time.monotonic() + FLOOD_SECONDS
        floods = asyncio.gather(*(flood(besieged.url, "127.0.0.20", until) for _ in range(FLOODERS)))
        others, flooded = await asyncio.gather(
            asyncio.to_thread(visits, besieged.url, "127.0.0.21", FLOOD_SECONDS), floods
        )
        cpu = besieged.node.cpu - cpu
    statuses = [status for each in flooded for status in each]
    assert set(statuses) == {429}
    assert besieged.counted("handshakes_total{limit_ip}") - refused == len(statuses) + 10
    assert percentile(others, 0.99) <= PROMPT
    assert cpu / len(statuses) <= REFUSAL_CPU
    for client in sockets:
        client.close()
    await besieged.until(lambda: besieged.connections() == CROWD)


@on_uvloop
async def test_a_full_node_says_so_and_keeps_whom_it_has(besieged: Siege) -> None:
    """Over the node's own limit everybody is refused with 503 and when to come back; the crowd stays unhurt."""
    async with besieged.attack(rss=16.0):
        sources = [f"127.0.0.{number}" for number in (30, 31, 32)]
        crowds = await asyncio.gather(*(crowding(besieged.url, source, 120) for source in sources))
        assert sum(len(sockets) for sockets, _ in crowds) == ROOM - CROWD
        assert {refusal for _, refusals in crowds for refusal in refusals} == {503}
    for sockets, _ in crowds:
        for client in sockets:
            client.close()
    await besieged.until(lambda: besieged.connections() == CROWD)


BAD_UPGRADES = {
    "no version": (upgrade("/ws").replace(b"Sec-WebSocket-Version", b"X"), 426),
    "no key": (upgrade("/ws").replace(b"Sec-WebSocket-Key", b"X"), 400),
    "version 8": (upgrade("/connection/websocket", "Sec-WebSocket-Version: 8"), 426),
    "version twice": (upgrade("/ws", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 426),
    "version 13, 8": (upgrade("/ws", "Sec-WebSocket-Version: 13, 8"), 426),
    "short key": (upgrade("/ws", key="c2hvcnQ="), 400),
    "key that is no base64": (upgrade("/ws", key="*" * 24), 400),
    "empty key": (upgrade("/ws", key=""), 400),
    "key twice": (upgrade("/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    "POST": (upgrade("/ws", method="POST"), 405),
    "DELETE": (upgrade("/ws", method="DELETE"), 405),
    "HTTP/1.0": (upgrade("/ws", version="HTTP/1.0"), 400),
    "HTTP/3.7": (upgrade("/ws", version="HTTP/3.7"), 400),
    "no path": (upgrade("*"), 400),
    "CONNECT": (upgrade("gateway.test:80", method="CONNECT"), 405),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "blank in a name": (upgrade("/ws", "Bad Name: 1"), 400),
    "folded header": (upgrade("/ws", "A: 1\r\n b"), 400),
}
HUGE_HEADS = {
    "one header of 100 KiB": (upgrade("/ws", "X-Long: " + "a" * 102_400), 431),
    "1,000 headers": (upgrade("/ws", *(f"X-{number}: 1" for number in range(1000))), 431),
    "URL of 64 KiB": (upgrade("/ws?" + "a" * 65_536), 414),
    "header without end": (b"GET /ws HTTP/1.1\r\nX-Long: " + b"a" * 200_000, 431),
    "URL without end": (b"GET /" + b"a" * 200_000, 414),
}
BODY = "Content-Length: 45"
SECOND = b"GET /health/ready HTTP/1.1\r\nHost: second\r\n\r\n"
SMUGGLED = {
    "CL and TE": (
        b"POST /api/info HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + SECOND
    ),
    "TE and CL": (
        b"POST /api/info HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        + SECOND
    ),
    "two lengths": (b"POST /api/info HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 45\r\n\r\n" + SECOND),
    "TE twice": (
        b"POST /api/info HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
        b"0\r\n\r\n" + SECOND
    ),
    "upgrade with a body": upgrade("/connection/websocket", BODY) + SECOND,
    "upgrade with a chunked body": upgrade("/connection/websocket", "Transfer-Encoding: chunked")
    + b"0\r\n\r\n"
    + SECOND,
    "upgrade with both": upgrade("/connection/websocket", BODY, "Transfer-Encoding: chunked") + SECOND,
}


async def status_of(url: str, request: bytes) -> int | None:
    """Send a request and return the status of the one answer, None if the node just closes."""
    client = await RawSocket.connect(url, source="127.0.0.40")
    with suppress(OSError):  # it may have heard enough before we have said all
        await client.send(request)
    try:
        return (await client.head()).status
    except EOFError:
        return None
    finally:
        client.close()


@on_uvloop
async def test_requests_that_are_no_good_upgrade_are_refused_by_their_fault(besieged: Siege) -> None:
    """Each broken upgrade gets its own 4xx, never a 5xx, and is counted."""
    counted = besieged.counted("handshakes_total{bad_request}")
    expected = {name: status for name, (_, status) in BAD_UPGRADES.items()}
    async with besieged.attack():
        for _ in range(ROUNDS):
            got = {name: await status_of(besieged.url, request) for name, (request, _) in BAD_UPGRADES.items()}
            assert expected == got
    assert besieged.counted("handshakes_total{bad_request}") - counted == ROUNDS * len(BAD_UPGRADES)


@on_uvloop
async def test_heads_that_are_too_large_cost_no_memory(besieged: Siege) -> None:
    """414 and 431 before the whole of it is stored; a hundred of them leave nothing behind."""
    expected = {name: status for name, (_, status) in HUGE_HEADS.items()}
    warm = {name: await status_of(besieged.url, request) for name, (request, _) in HUGE_HEADS.items()}
    assert expected == warm
    async with besieged.attack(rss=1.0):
        for _ in range(ROUNDS):
            got = {name: await status_of(besieged.url, request) for name, (request, _) in HUGE_HEADS.items()}
            assert expected == got


@on_uvloop
async def test_no_second_request_can_hide_in_a_first(besieged: Siege) -> None:
    """A request whose end can be read in two ways is 400, and what follows it is never taken for a request."""
    async with besieged.attack():
        for name, request in [*SMUGGLED.items()] * ROUNDS:
            client = await RawSocket.connect(besieged.url, source="127.0.0.41")
            await client.send(request)
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 400 "), (name, answer)
            assert answer.count(b"HTTP/1.1") == 1, name


@on_uvloop
async def test_an_answer_that_nobody_reads_does_not_keep_the_link(besieged: Siege) -> None:
    """A refused client that goes on sending is dropped after a short while."""
    began = time.monotonic()
    client = await RawSocket.connect(besieged.url, source="127.0.0.42")
    await client.send(upgrade("/ws", key=""))
    assert (await http_ending(client)).status == 400
    assert time.monotonic() - began < 5.0
