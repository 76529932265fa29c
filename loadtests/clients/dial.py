"""Where clients connect to: nodes in turn, from as many source addresses as many sockets need, with TLS or without."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from loadtests.clients.link import Link

ENDPOINT: Final = "/connection/websocket"
PATIENCE: Final = 10.0  # seconds for a connection with its handshake
SOURCES: Final = tuple(f"127.0.0.{it}" for it in range(2, 202))  # each has some 28,000 ports
SMALL: Final = 4096  # bytes of a slow client's receive buffer
SEGMENT: Final = 1024  # bytes: loopback's segments of 64 KiB do not fit into a small buffer, and would never come


class AddressError(ValueError):
    """An address that nobody can connect to; the text says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """One address of the target."""

    url: str
    host: str
    port: int
    path: str
    secure: bool

    @property
    def header(self) -> str:
        """Return what the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def node(url: str) -> Node:
    """Read a node's URL; raises AddressError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
        raise AddressError(f"{url!r} is no target: write http://host:port, https://, ws:// or wss://")
    try:
        port = parts.port
    except ValueError as error:
        raise AddressError(f"{url!r} is no target: {error}") from None
    secure = parts.scheme in {"https", "wss"}
    path = parts.path if parts.path not in {"", "/"} else ENDPOINT
    query = f"?{parts.query}" if parts.query else ""
    return Node(url, parts.hostname, port or (443 if secure else 80), path + query, secure)


def trusting(ca: str, *, insecure: bool) -> ssl.SSLContext:
    """Return what TLS connections are checked with: the system's CAs, those of this file, or nothing at all.

    Raises OSError: the file cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context(cafile=ca or None)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class Place:
    """A node with its address looked up."""

    node: Node
    family: int
    address: tuple[str, int]

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine, at an IPv4 address, where sources may be chosen."""
        return self.family == socket.AF_INET and ipaddress.ip_address(self.address[0]).is_loopback


async def look_up(urls: Sequence[str]) -> list[Place]:
    """Return all nodes with their addresses; a name with several addresses is several places.

    Raises AddressError.
    """
    loop, places = asyncio.get_running_loop(), []
    for one in map(node, urls):
        try:
            found = await loop.getaddrinfo(one.host, one.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise AddressError(f"the name {one.host!r} of {one.url} is not known: {error}") from None
        chosen = [it for it in found if it[0] == socket.AF_INET] or found
        places += [Place(one, family, (str(address[0]), int(address[1]))) for family, _, _, _, address in chosen]
    return places


class Dial:
    """Connects clients: number by number to the places in turn, from the sources in turn."""

    def __init__(self, places: Sequence[Place], *, trust: ssl.SSLContext, sources: Sequence[str] = SOURCES) -> None:
        self._places = places
        self._trust = trust
        self._sources = sources

    async def open(
        self,
        number: int,
        *,
        told: Callable[[bytes], None],
        ended: Callable[[int], None],
        slow: bool = False,
    ) -> Link:
        """Connect and upgrade; `number` says which place and source.

        Raises OSError (TimeoutError included) or HandshakeError; cancelled, it leaves nothing open.
        """
        loop = asyncio.get_running_loop()
        place = self._places[number % len(self._places)]
        link = Link(place.node.header, place.node.path, told=told, ended=ended)
        sock, ours = self._socket(place, number // len(self._places), slow=slow), True
        trust, name = (self._trust, place.node.host) if place.node.secure else (None, None)
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(sock, place.address)
                ours = False  # whatever comes now, uvloop closes the descriptor, also where it forgets the object
                await loop.create_connection(lambda: link, sock=sock, ssl=trust, server_hostname=name)
                await link.upgraded
        except BaseException:
            (sock.close if ours else sock.detach)()
            link.cut()
            raise
        return link

    def _socket(self, place: Place, number: int, *, slow: bool) -> socket.socket:
        sock = socket.socket(place.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        if place.loopback and self._sources:
            try:
                sock.bind((self._sources[number % len(self._sources)], 0))
            except OSError:
                sock.close()
                raise
        return sock
