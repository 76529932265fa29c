"""A whole gateway without a network: its API by HTTP calls, its handshakes by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from gateway.app import Gateway, create_app
from gateway.protocol.values import Hello
from gateway.resolver import all_codecs
from gateway.settings import Settings
from tests.support.node import Client
from tests.support.transport import RecordingTransport

KEY = "key"


class App:
    """One running gateway."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.node = gateway.node
        self.http = http

    async def post(self, method: str, body: Any = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Call the server API with the key; bytes go as they are."""
        sent = {"X-API-Key": KEY, **(headers or {})}
        if isinstance(body, bytes):
            return await self.http.post(f"/api/{method}", content=body, headers=sent)
        return await self.http.post(f"/api/{method}", json={} if body is None else body, headers=sent)

    async def result(self, method: str, **body: Any) -> Any:
        """Call a method that must succeed."""
        response = await self.post(method, body)
        assert 200 == response.status_code, response.text
        assert ["result"] == list(response.json()), response.text
        return response.json()["result"]

    async def error(self, method: str, **body: Any) -> Any:
        """Call a method that must answer with an error; return its code."""
        response = await self.post(method, body)
        assert 200 == response.status_code, response.text
        assert ["error"] == list(response.json()), response.text
        return response.json()["error"]["code"]

    def client(self) -> Client:
        """Attach a client that speaks Centrifuge JSON."""
        link = RecordingTransport()
        connection = self.node.attach(link, all_codecs()["centrifuge_json"], Hello(link.peer))
        link.receiver = connection
        return Client(link, connection)


@asynccontextmanager
async def running_app(**settings: Any) -> AsyncIterator[App]:
    """Run a gateway with the memory engine, that lets everybody in; settings are sections."""
    sections = {"client": {"insecure": True}, "http_api": {"key": KEY}, "channel": CHANNEL, **settings}
    app = create_app(Settings.model_validate(sections))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as http,
    ):
        running = App(app.state.gateway, http)
        yield running
        for connection in tuple(running.node.connections.values()):
            link = connection.transport
            if isinstance(link, RecordingTransport):
                link.hang_up()


CHANNEL: Mapping[str, Any] = {
    "without_namespace": {},
    "namespaces": [{"name": "bare"}, {"name": "here", "presence": True}],
}


async def handshake(
    app: App,
    path: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    offered: Sequence[str] = (),
    query: str = "",
) -> list[Mapping[str, Any]]:
    """Try a WebSocket handshake and hang up; return what the gateway sent."""
    came = iter([{"type": "websocket.connect"}])
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return next(came, {"type": "websocket.disconnect", "code": 1001})

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "ws",
        "query_string": query.encode(),
        "headers": [(b"host", b"gateway.test"), *((k.encode(), v.encode()) for k, v in headers)],
        "client": ("192.0.2.1", 1),
        "server": ("gateway.test", 80),
        "subprotocols": list(offered),
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    await app.gateway.public(scope, receive, send)  # type: ignore[arg-type] # messages are mappings here
    return sent


def status(sent: Sequence[Mapping[str, Any]]) -> int:
    """Return the HTTP status of a refused handshake, 101 for an accepted one."""
    first = sent[0]
    return 101 if first["type"] == "websocket.accept" else int(first["status"])
