"""A small HTTP server that publishes what an issuer publishes, and counts who asked for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.unit.tokens.signing import Signer

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/jwks.json"


@dataclass(slots=True)
class Page:
    """What is answered at one path."""

    body: bytes
    status: str = "200 OK"
    headers: tuple[str, ...] = ()


@dataclass(slots=True)
class Issuer:
    """Pages by path; while it is `away` it hangs up on everybody. `asked` are the requests: path and time."""

    pages: dict[str, Page] = field(default_factory=dict)
    port: int = 0
    away: bool = False
    asked: list[tuple[str, float]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The issuer's own name."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def keys_url(self) -> str:
        """Where the keys stand."""
        return self.url + KEYS

    def asked_for(self, path: str) -> list[float]:
        """Return when this path was asked for."""
        return [when for asked, when in self.asked if asked == path]

    def publish(self, *signers: Signer, headers: tuple[str, ...] = ()) -> None:
        """Publish the keys of these signers, and a discovery document that leads there."""
        self.say(KEYS, {"keys": [it.jwk() for it in signers]}, *headers)
        self.say(DISCOVERY, {"issuer": self.url, "jwks_uri": self.keys_url})

    def say(self, path: str, content: object, *headers: str, status: str = "200 OK") -> None:
        """Answer with this at a path."""
        self.pages[path] = Page(json.dumps(content).encode(), status, headers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, or do not."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.asked.append((path, time.monotonic()))
            if not self.away:
                writer.write(_answer(self.pages.get(path, Page(b"", "404 Not Found"))))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client gave up
        finally:
            writer.close()


def _answer(page: Page) -> bytes:
    head = [f"HTTP/1.1 {page.status}", "Connection: close", f"Content-Length: {len(page.body)}", *page.headers]
    return "\r\n".join([*head, "", ""]).encode() + page.body


@asynccontextmanager
async def issuing(*signers: Signer) -> AsyncIterator[Issuer]:
    """Run an issuer on a free port."""
    issuer = Issuer()
    async with await asyncio.start_server(issuer.serve, "127.0.0.1", 0) as server:
        issuer.port = server.sockets[0].getsockname()[1]
        issuer.publish(*signers)
        yield issuer
