"""The servers that we are compared with do what the comparison says of them.

Those that must be installed first are marked `peers`: `make compare` installs them and runs these tests before it
measures, `make test` runs the others.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from loadtests.bench.nodes import our_server, ours, publication
from loadtests.bench.rig import SERVER_CORE, Client, Server
from loadtests.identity import Issuer
from loadtests.peers.contract import CHANNEL, DATA, PLAIN, Dialect, Peer
from loadtests.peers.registry import C_LOOP, PEERS, STOCK
from tests.support.valkey import Valkey

ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
AT_HAND = (STOCK, C_LOOP)
PATIENCE = 15.0  # seconds for one frame on a busy machine
PEER = [
    pytest.param(
        it, id=it.name, marks=[pytest.mark.needs(f"peer {it.name}"), *[pytest.mark.peers] * (it not in AT_HAND)]
    )
    for it in PEERS.values()
]
RELAYED = [it for it in PEER if it.id != C_LOOP.name]


@asynccontextmanager
async def speaking(client: Client) -> AsyncIterator[ClientConnection]:
    """Connect as the generator would, and say and hear the first words."""
    wanted = None if client.subprotocol == "-" else [Subprotocol(client.subprotocol)]
    address = f"ws://127.0.0.1:{client.port}{client.path}"
    async with connect(address, subprotocols=wanted, compression=None, ping_interval=None) as socket:
        if client.first != "-":
            await socket.send(client.first.replace("\x1e", "\n"))
        while client.ready != "-" and client.ready not in await heard(socket):
            pass
        yield socket


async def heard(socket: ClientConnection) -> str:
    """Return the next frame."""
    frame = await asyncio.wait_for(socket.recv(), PATIENCE)
    assert isinstance(frame, str)
    return frame


def numbered(template: str, number: int) -> str:
    """Return a publication whose data say its number, as long as all others."""
    data = f'{{"v":"{number:0>92}"}}'
    assert len(DATA) == len(data)
    return template.replace(DATA, data).replace("@I", str(number + 10))


async def publish(socket: ClientConnection, dialect: Dialect, number: int) -> None:
    """Publish and see it acknowledged."""
    await socket.send(numbered(dialect.publication, number))
    while not (await heard(socket)).startswith(dialect.ack):
        pass


async def numbers(socket: ClientConnection, last: int) -> tuple[list[int], set[int]]:
    """Return the numbers of what a subscriber gets up to the last one, and the sizes of the frames."""
    got, sizes = [], set()
    while last not in got:
        frame = await heard(socket)
        sizes.add(len(frame))
        got.append(int(frame.partition('"v":"')[2].partition('"')[0]))
    return got, sizes


def straying(server: Server) -> list[str]:
    """Return the threads of a server, and the processes it started, that may run elsewhere than on its core."""
    tasks = list(Path(f"/proc/{server.pid}/task").iterdir())
    strays = [it.name for it in tasks if os.sched_getaffinity(int(it.name)) != {SERVER_CORE}]
    return strays + [child for it in tasks for child in (it / "children").read_text().split()]


@pytest.mark.parametrize("peer", PEER)
async def test_each_publication_reaches_each_subscriber_once_and_in_order(peer: Peer, valkey: Valkey) -> None:
    """Three subscribers get ten publications; each is acknowledged, and its frame as large as one of ours."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(peer.running(valkey.url))
        subscribers = [
            await stack.enter_async_context(speaking(peer.dialect.subscriber(server.port, it))) for it in range(3)
        ]
        publisher = await stack.enter_async_context(speaking(peer.dialect.publisher(server.port)))
        for number in range(10):
            await publish(publisher, peer.dialect, number)
        for it in subscribers:
            got, sizes = await numbers(it, 9)
            assert list(range(10)) == got
            assert all(abs(size - len(PLAIN)) <= 2 for size in sizes)
        if (os.cpu_count() or 1) > 1:
            assert [] == straying(server)


@pytest.mark.parametrize("peer", RELAYED)
async def test_publications_go_through_redis(peer: Peer, valkey: Valkey) -> None:
    """What is published at one server reaches a subscriber of another, which has only Redis in common with it."""
    with ExitStack() as servers:
        here, there = (servers.enter_context(peer.running(valkey.url)).port for _ in range(2))
        async with (
            speaking(peer.dialect.subscriber(there, 0)) as away,
            speaking(peer.dialect.publisher(here)) as publisher,
        ):
            first = await until_heard(away, publisher, peer.dialect)
            for number in range(first, first + 10):
                await publish(publisher, peer.dialect, number)
            got, _ = await numbers(away, first + 9)
            assert list(range(first, first + 10)) == [it for it in got if it >= first]


async def until_heard(away: ClientConnection, publisher: ClientConnection, dialect: Dialect) -> int:
    """Publish until the other server listens to Redis, which some do only after their first client has come."""
    for number in range(150):
        await publish(publisher, dialect, number)
        try:
            async with asyncio.timeout(0.1):
                await away.recv()
        except TimeoutError:
            continue
        return number + 1
    raise AssertionError("nothing came through Redis")


async def test_what_peers_pass_on_is_what_a_subscriber_of_ours_gets(valkey: Valkey) -> None:
    """Our own frame is the one that plain servers are given to send, but for the id of who published."""
    issuer = Issuer()
    with issuer.serving() as jwks, our_server(jwks, valkey.url) as server:
        subscribing, publishing = ours(server.port, issuer, 1, CHANNEL), ours(server.port, issuer, 0, None, "P")
        async with speaking(subscribing) as subscriber, speaking(publishing) as publisher:
            await publisher.send(publication().replace("@I", "10").replace("@C", "0"))
            assert (await heard(publisher)).startswith(publishing.ack)
            assert ID.sub("", PLAIN) == ID.sub("", frame := await heard(subscriber))
            assert len(PLAIN) == len(frame)


def sources(clients: Sequence[Client]) -> set[str]:
    """Return the addresses they come from."""
    return {it.source for it in clients}


def test_no_address_has_more_clients_than_it_has_ports() -> None:
    """Subscribers spread over many loopback addresses."""
    assert 200 == len(sources([STOCK.dialect.subscriber(1, it) for it in range(1000)]))
