"""A site: two nodes with internal ports and an auth service, made to stand behind a proxy, and what tests ask it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect

from tests.support import fronts
from tests.support.cluster import Account, Cluster
from tests.support.fleet import HOST, Process
from tests.support.fronts import Front
from tests.support.ports import free_port

PER_ADDRESS: Final = 3  # connections of one address that a node takes
READY_SECONDS: Final = 60.0


@dataclass(slots=True)
class Backend:
    """All that is behind the proxy."""

    cluster: Cluster
    nodes: Sequence[Process]
    internal: Sequence[int]
    ports: Sequence[int]

    async def handshakes(self) -> float:
        """Count the handshakes that the nodes have seen, however they ended."""
        total = 0.0
        async with httpx.AsyncClient(trust_env=False, timeout=10.0) as http:
            for port in self.internal:
                page = (await http.get(f"http://{HOST}:{port}/metrics")).raise_for_status().text
                families = text_string_to_metric_families(page)
                samples = (it for family in families for it in family.samples)
                total += sum(it.value for it in samples if it.name == "gateway_handshakes_total")
        return total


@dataclass(slots=True)
class Site:
    """A proxy and what is behind it."""

    front: Front
    backend: Backend

    @property
    def cluster(self) -> Cluster:
        """The cluster that the nodes belong to."""
        return self.backend.cluster

    @property
    def nodes(self) -> Sequence[Process]:
        """The nodes."""
        return self.backend.nodes

    @asynccontextmanager
    async def chatting(self, path: str = "/ws", *, source: str = HOST, **how: Any) -> AsyncIterator[ClientConnection]:
        """Open a WebSocket through the proxy."""
        url = f"wss://{HOST}:{self.front.port}{path}"
        async with connect(url, ssl=self.front.trust, proxy=None, local_addr=(source, 0), **how) as link:
            yield link

    async def status(self, method: str, target: str, *headers: str) -> int:
        """Ask the proxy for a target as it stands here."""
        return await status(self.front.port, method, target, *headers, trust=self.front.trust)


@contextmanager
def backend(folder: Path, redis_url: str) -> Iterator[Backend]:
    """Run two nodes and an auth service that trust a proxy on this machine; all are ready."""
    cluster, internal = Cluster(folder, redis_url), [free_port(), free_port()]
    with ExitStack() as stack:
        stack.callback(cluster.auth.stop)
        nodes = [
            stack.enter_context(trusting(cluster, f"node-{number}", port)) for number, port in enumerate(internal, 1)
        ]
        cluster.auth.wait_until_ready()
        for node, port in zip(nodes, internal, strict=True):
            until_ready(node, port)
        yield Backend(cluster, nodes, internal, [it.port for it in nodes])


@contextmanager
def trusting(cluster: Cluster, name: str, internal: int, **settings: str) -> Iterator[Process]:
    """Run a node that trusts a proxy on this machine. It is not waited for."""
    chosen = {
        "HTTP_SERVER__INTERNAL_PORT": str(internal),
        "HTTP_SERVER__TRUSTED_PROXIES": json.dumps([HOST]),
        "HTTP_SERVER__CONNECTIONS_PER_IP": str(PER_ADDRESS),
        "WEB__ENABLED": "true",
        "LOG__FORMAT": "json",
        **settings,
    }
    with cluster.node(name, **chosen) as node:
        yield node


@contextmanager
def site(name: str, folder: Path, behind: Backend, changes: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Run a proxy before all this, with changes of its files for this test."""
    with fronts.running(name, folder, nodes=behind.ports, auth=behind.cluster.auth.port, changes=changes) as front:
        yield Site(front, behind)


def until_ready(node: Process, internal: int) -> None:
    """Wait until a node says on its internal port that it is ready."""
    deadline = time.monotonic() + READY_SECONDS
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        while True:
            assert node.alive, node.tail()
            assert time.monotonic() < deadline, node.tail()
            try:
                if http.get(f"http://{HOST}:{internal}/health/ready").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)


async def status(port: int, method: str, target: str, *headers: str, trust: ssl.SSLContext | None = None) -> int:
    """Ask for a target as it stands here, which clients of HTTP would tidy up; return the status."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=trust)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}:{port}", "Content-Length: 0", "Connection: close", *headers]
    writer.write("\r\n".join((*lines, "", "")).encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


def bearer(account: Account) -> dict[str, str]:
    """Return the header that presents a token."""
    return {"Authorization": f"Bearer {account.access_token}"}
