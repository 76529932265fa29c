"""Clients that read too little, on real sockets: from the outbox through the transport to the kernel's own limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from gateway.app import Gateway, create_gateway
from gateway.server import ServerRules, running
from gateway.settings import Settings
from gateway.types import Channel, Publication
from tests.support.deadlines import bounded
from tests.support.exactness import within
from tests.support.rawsocket import DEADLINE, TEXT, RawSocket, masked, on_uvloop, upgrade

HOT = Channel("hot:news")
ETHERNET = 1460  # bytes in a segment
KIB = b'"' + b"x" * 1022 + b'"'


@dataclass(slots=True)
class Place:
    """A running node and its address."""

    gateway: Gateway
    url: str

    async def listener(self, receive_buffer: int) -> RawSocket:
        """Connect a client whose kernel takes little, and subscribe it."""
        client = await RawSocket.connect(self.url, receive_buffer=receive_buffer, segment=ETHERNET)
        await client.send(upgrade("/connection/websocket"))
        assert 101 == (await client.head()).status
        await client.send(masked(TEXT, b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"hot:news"}}'))
        seen = b""
        while b'"id":2' not in seen:
            seen += (await client.frame()).payload
        return client

    def publish(self, count: int) -> None:
        """Let publications of a KiB arrive."""
        for _ in range(count):
            self.gateway.node.published(HOT, Publication(KIB))

    def counted(self, line: str) -> bool:
        """Say whether the metrics have this line."""
        return line.encode() in self.gateway.metrics.exposition()[0].splitlines()

    async def emptied(self) -> float:
        """Wait until nobody is connected; return the seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE):
            while self.gateway.node.connections:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        return time.monotonic() - began


@asynccontextmanager
async def place(stall_timeout: float) -> AsyncIterator[Place]:
    """Run a node."""
    sections = {
        "client": {"insecure": True},
        "channel": {"namespaces": [{"name": "hot"}]},
        "websocket": {"stall_timeout": stall_timeout, "close_timeout": 0.2},
        "log": {"level": "none"},
    }
    made = create_gateway(Settings.model_validate(sections))
    rules = ServerRules(recorder=made.metrics, admission=made.admission, websocket=made.websocket_limits)
    async with bounded(running(made.public, rules=rules)) as url:
        yield Place(made, url)


async def trickle(client: RawSocket) -> None:
    """Read a byte at a time until the link ends."""
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        while await loop.sock_recv(client.sock, 1):  # noqa: ASYNC110 - the pace is the attack
            await asyncio.sleep(0.02)


async def sip(client: RawSocket, publications: int, rate: float) -> None:
    """Read until so many publications have come, at so many bytes a second."""
    data, began = b"", time.monotonic()
    async with asyncio.timeout(DEADLINE):
        while data.count(KIB) < publications:
            data += await client.some()
            await asyncio.sleep(max(0.0, began + len(data) / rate - time.monotonic()))


@pytest.mark.parametrize("reads", [False, True], ids=["never reads", "a byte now and then"])
@on_uvloop
async def test_who_takes_too_little_is_gone_soon_after_the_timeout(reads: bool) -> None:
    """Behind a full buffer a client that reads nothing, or as good as nothing, is closed as slow by age."""
    async with place(stall_timeout=1.0) as here:
        client = await here.listener(4096)
        here.publish(500)
        reading = asyncio.create_task(trickle(client) if reads else asyncio.sleep(0))
        seconds = await here.emptied()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        client.close()

        assert 1.0 <= seconds <= within(2.0, otherwise=3.0), (
            "the timeout, a look of the wheel, and the grace of the close"
        )
        assert here.counted('gateway_slow_consumers_total{reason="age"} 1.0')
        assert here.counted('gateway_disconnects_total{code="3008",initiator="server"} 1.0')


@on_uvloop
async def test_a_thin_line_that_is_used_survives() -> None:
    """A client that reads slowly, for longer than the timeout, gets everything that waits for it.

    Eight times the speed of a line of 256 kbit/s, in three tenths of the timeout.
    """
    async with place(stall_timeout=3.0) as here:
        client = await here.listener(32_768)
        here.publish(900)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        here.publish(300)  # these wait in the outbox
        [connection] = here.gateway.node.connections.values()
        assert connection.blocked
        await sip(client, 1200, 256 * 1024)

        assert here.counted('gateway_slow_consumers_total{reason="age"} 0.0')
        assert 1 == len(here.gateway.node.connections)
        client.close()


@on_uvloop
async def test_too_much_for_who_does_not_read_is_told_at_once() -> None:
    """Over the outbox's limit the client is slow by bytes, and gone after the grace of the close."""
    async with place(stall_timeout=10.0) as here:
        client = await here.listener(4096)
        here.publish(500)
        await asyncio.sleep(0.05)
        here.publish(1100)
        seconds = await here.emptied()
        client.close()

        assert seconds <= within(1.0, otherwise=5.0)
        assert here.counted('gateway_slow_consumers_total{reason="bytes"} 1.0')


@on_uvloop
async def test_the_kernel_drops_who_takes_nothing_of_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the kernel's buffer alone has an age there: TCP_USER_TIMEOUT ends a window that stays shut."""
    monkeypatch.setattr("gateway.listening.USER_TIMEOUT_MS", 1000)
    async with place(stall_timeout=10.0) as here:
        client = await here.listener(4096)
        here.publish(30)
        [connection] = here.gateway.node.connections.values()
        seconds = await here.emptied()

        assert not connection.blocked
        assert seconds < within(5.0, otherwise=3.0)
        assert here.counted('gateway_disconnects_total{code="1006",initiator="network"} 1.0')
        client.close()
